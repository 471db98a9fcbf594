//! How long a client may take: for a head, for a body, between requests, and to read.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::samples::post;
use super::serving::{Client, TIME};
use crate::harness::{PATIENCE, Server, client, eventually, pattern, read_all};

/// Writes `front` and goes on with one byte after another for as long as the server lets it; returns how long that was.
fn drip(client: &mut Client, front: &str) -> Duration {
    let start = Instant::now();
    client.write(front);
    let mut answer = [0];
    client.stream().set_nonblocking(true).unwrap();
    let answered = eventually(PATIENCE, || {
        let _ = client.stream().write(b"a");
        client.stream().peek(&mut answer).is_ok()
    });
    client.stream().set_nonblocking(false).unwrap();
    assert!(answered, "it goes on for ever");
    start.elapsed()
}

/// Late by no more than a busy machine makes it.
fn assert_took(took: Duration, timeout: Duration) {
    assert!(took >= timeout && took < timeout + Duration::from_secs(5), "it took {took:?} instead of {timeout:?}");
}

#[test]
fn a_head_has_one_deadline_from_its_first_byte() {
    let timeout = Duration::from_millis(400);
    let server = Server::start(&["--header-timeout", "400ms", "http=0", "echo=0"]);
    let mut slow = Client::new(&server);
    assert_took(drip(&mut slow, "GET /"), timeout);
    let answer = slow.answer();
    assert!(answer.status == 408 && answer.closes(), "{answer:?}");
    slow.assert_end();
    // Each request has its own, and the time between them is not counted.
    let mut client = Client::new(&server);
    for _ in 0..4 {
        let half = Instant::now();
        client.write(&TIME[..20]);
        assert!(eventually(PATIENCE, || half.elapsed() > timeout * 6 / 10));
        assert_eq!(client.ask(&TIME[20..]).status, 200);
    }
    client.write(TIME);
    client.write(&TIME[..20]);
    assert_eq!([client.answer().status, client.answer().status], [200, 408]);
    client.assert_end();
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_read_timeout_does_not_make_the_head_deadline_longer() {
    let server = Server::start(&["--header-timeout", "300ms", "--read-timeout", "10s", "http=0"]);
    let mut slow = Client::new(&server);
    assert_took(drip(&mut slow, "GET /"), Duration::from_millis(300));
    assert_eq!(slow.answer().status, 408);
    server.stop().assert_clean();
}

#[test]
fn a_body_may_be_slow_but_must_not_rest() {
    let timeout = Duration::from_millis(500);
    let server = Server::start(&["--header-timeout", "300ms", "--body-timeout", "500ms", "http=0"]);
    let mut client = Client::new(&server);
    let start = Instant::now();
    client.write(post("Content-Length: 4096\r\n", ""));
    for n in 1..=4 {
        assert!(eventually(PATIENCE, || start.elapsed() > n * timeout * 4 / 10));
        client.write([b'x'; 1024]);
    }
    assert!(start.elapsed() > timeout);
    assert_eq!(client.answer().body.len(), 4096);
    let start = Instant::now();
    assert_eq!(client.ask(post("Transfer-Encoding: chunked\r\n", "5\r\nhe")).status, 408);
    assert_took(start.elapsed(), timeout);
    client.assert_end();
    server.stop().assert_clean();
}

#[test]
fn bytes_that_are_no_body_do_not_keep_a_request_alive() {
    let server = Server::start(&["--body-timeout", "300ms", "http=0"]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for front in [post(chunked, "5;a"), post(chunked, "0\r\na")] {
        let mut slow = Client::new(&server);
        assert_took(drip(&mut slow, &front), Duration::from_millis(300));
        assert_eq!(slow.answer().status, 408);
        slow.assert_end();
    }
    server.stop().assert_clean();
}

#[test]
fn empty_lines_before_a_request_are_a_part_of_it() {
    let server = Server::start(&["--header-timeout", "300ms", "http=0"]);
    let start = Instant::now();
    let mut slow = Client::new(&server);
    slow.write("\r\n");
    // Nothing has been asked, so nothing is said.
    slow.assert_end();
    assert_took(start.elapsed(), Duration::from_millis(300));
    server.stop().assert_clean();
}

#[test]
fn a_connection_is_kept_for_the_next_request_and_then_closed_without_a_word() {
    let timeout = Duration::from_millis(300);
    let server = Server::start(&["--keep-alive-timeout", "300ms", "--idle-timeout", "10s", "http=0"]);
    let start = Instant::now();
    Client::new(&server).assert_end();
    assert_took(start.elapsed(), timeout);
    let mut client = Client::new(&server);
    assert_eq!(client.ask(TIME).status, 200);
    // Within a request the connection is not idle, however slow it is.
    client.write(&TIME[..20]);
    let half = Instant::now();
    assert!(eventually(PATIENCE, || half.elapsed() > 2 * timeout));
    assert_eq!(client.ask(&TIME[20..]).status, 200);
    let start = Instant::now();
    client.assert_end();
    assert_took(start.elapsed(), timeout);
    server.stop().assert_clean();
}

#[test]
fn the_read_timeout_counts_between_requests_whatever_the_pieces_of_the_last_one() {
    let timeout = Duration::from_millis(300);
    let server = Server::start(&["--read-timeout", "300ms", "http=0"]);
    for pieces in [&[TIME][..], &[&TIME[..20], &TIME[20..]]] {
        let mut client = Client::new(&server);
        let start = Instant::now();
        for piece in pieces {
            client.write(piece);
            // What has been written is known to the server when a later answer has come.
            assert_eq!(Client::new(&server).ask(TIME).status, 200);
        }
        assert_eq!(client.answer().status, 200);
        client.assert_end();
        assert_took(start.elapsed(), timeout);
    }
    server.stop().assert_clean();
}

#[test]
fn who_asks_much_and_reads_late_is_not_idle() {
    let timeout = Duration::from_millis(200);
    let server = Server::start(&["--keep-alive-timeout", "200ms", "http=0"]);
    let mut client = Client::new(&server);
    let mut writer = client.stream().try_clone().unwrap();
    // More answers than the buffers of both kernels hold.
    let body = pattern(100_000);
    let request = [post("Content-Length: 100000\r\n", "").as_bytes(), &body].concat();
    let writing = thread::spawn(move || (0..200).for_each(|_| writer.write_all(&request).expect("write")));
    assert!(eventually(PATIENCE, || server.counter("pauses") > 0));
    let start = Instant::now();
    assert!(eventually(PATIENCE, || start.elapsed() > 3 * timeout));
    for _ in 0..200 {
        assert!(client.answer().body == body);
    }
    writing.join().unwrap();
    client.assert_end();
    server.stop().assert_clean();
}

#[test]
fn who_does_not_read_is_dropped() {
    let server = Server::start(&["--write-timeout", "300ms", "--send-buffer", "16KiB", "http=0", "echo=0"]);
    let descriptors = server.descriptors();
    let mut deaf = server.connect("http");
    let request = post("Content-Length: 100000\r\n", &"x".repeat(100_000));
    deaf.set_nonblocking(true).unwrap();
    let stuck = eventually(PATIENCE, || matches!(deaf.write(request.as_bytes()), Ok(n) if n < request.len()));
    assert!(stuck, "it takes everything");
    server.assert_unharmed(descriptors);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_write_deadline"), 1);
}

#[test]
fn slow_clients_are_nobody_elses_business() {
    let server = Server::start(&["--header-timeout", "1s", "http=0", "echo=0"]);
    let descriptors = server.descriptors();
    let before = server.resident();
    let addr = server.addr("http");
    let mut slow: Vec<_> = (0..300).map(|_| client(addr)).collect();
    for (n, peer) in slow.iter_mut().enumerate() {
        match n % 2 {
            0 => peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap(),
            _ => peer.write_all(post("Content-Length: 100000\r\n", "").as_bytes()).unwrap(),
        }
    }
    let mut client = Client::new(&server);
    for _ in 0..50 {
        for peer in &mut slow {
            peer.write_all(b"x").unwrap();
        }
        let start = Instant::now();
        assert_eq!(client.ask(TIME).status, 200);
        assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 300 * 8 * 1024 + (1 << 20), "{grown} bytes for 300 slow clients");
    for mut peer in slow.into_iter().step_by(2) {
        assert!(read_all(&mut peer).starts_with(b"HTTP/1.1 408 "));
    }
    drop(client);
    server.assert_unharmed(descriptors);
    server.stop().assert_clean();
}
