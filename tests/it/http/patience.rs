//! Timeouts for a head, for a body, between requests, and for a client that does not read.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::samples::post;
use super::serving::{Client, TIME};
use crate::harness::{PATIENCE, Server, client, eventually, hold, pattern, read_all, scaled};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Returns a timeout as the command line has it.
fn option(timeout: Duration) -> String {
    format!("{}ms", timeout.as_millis())
}

/// Writes `front` and then one byte after another until the server answers. Returns the time until then.
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
    assert!(answered, "the server takes bytes for ever");
    start.elapsed()
}

/// Asserts that a timeout was not early, and not later than a busy machine makes it.
fn assert_took(took: Duration, timeout: Duration) {
    assert!(took >= timeout && took < timeout + Duration::from_secs(5), "{took:?} instead of {timeout:?}");
}

#[test]
fn a_head_has_one_deadline_from_its_first_byte() {
    let timeout = millis(400);
    let server = Server::start(&["--header-timeout", &option(timeout), "http=0", "echo=0"]);
    let mut slow = Client::new(&server);
    assert_took(drip(&mut slow, "GET /"), timeout);
    let answer = slow.answer();
    assert!(answer.status == 408 && answer.closes(), "{answer:?}");
    slow.assert_end();
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn each_head_has_a_deadline_of_its_own_without_the_time_between_requests() {
    scaled(|scale| {
        let timeout = millis(400) * scale;
        let server = Server::start(&["--header-timeout", &option(timeout), "http=0"]);
        let mut client = Client::new(&server);
        for _ in 0..4 {
            let clock = server.stopwatch();
            client.write(&TIME[..20]);
            hold(timeout * 6 / 10);
            client.write(&TIME[20..]);
            let is_in_time = clock.elapsed() < timeout * 8 / 10;
            let status = client.answer().status;
            if status != 200 && (!is_in_time || clock.withheld() > timeout / 10) {
                return None;
            }
            assert_eq!(status, 200);
        }
        client.write(TIME);
        client.write(&TIME[..20]);
        assert_eq!([client.answer().status, client.answer().status], [200, 408]);
        client.assert_end();
        server.stop().assert_clean();
        Some(())
    });
}

#[test]
fn a_read_timeout_does_not_extend_the_head_deadline() {
    let server = Server::start(&["--header-timeout", "300ms", "--read-timeout", "10s", "http=0"]);
    let mut slow = Client::new(&server);
    assert_took(drip(&mut slow, "GET /"), millis(300));
    assert_eq!(slow.answer().status, 408);
    server.stop().assert_clean();
}

#[test]
fn a_body_may_be_slow_but_must_not_pause() {
    scaled(|scale| {
        let timeout = millis(500) * scale;
        let server = Server::start(&["--header-timeout", "300ms", "--body-timeout", &option(timeout), "http=0"]);
        let mut client = Client::new(&server);
        let clock = server.stopwatch();
        client.write(post("Content-Length: 4096\r\n", ""));
        let mut is_in_time = true;
        for _ in 0..4 {
            let piece = Instant::now();
            hold(timeout * 4 / 10);
            client.write([b'x'; 1024]);
            is_in_time &= piece.elapsed() < timeout * 6 / 10;
        }
        assert!(clock.elapsed() > timeout);
        let answer = client.answer();
        if answer.status != 200 && (!is_in_time || clock.withheld() > timeout / 4) {
            return None;
        }
        assert_eq!(answer.body.len(), 4096);
        let start = Instant::now();
        assert_eq!(client.ask(post("Transfer-Encoding: chunked\r\n", "5\r\nhe")).status, 408);
        assert_took(start.elapsed(), timeout);
        client.assert_end();
        server.stop().assert_clean();
        Some(())
    });
}

#[test]
fn bytes_outside_the_body_do_not_extend_its_timeout() {
    let server = Server::start(&["--body-timeout", "300ms", "http=0"]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for front in [post(chunked, "5;a"), post(chunked, "0\r\na")] {
        let mut slow = Client::new(&server);
        assert_took(drip(&mut slow, &front), millis(300));
        assert_eq!(slow.answer().status, 408);
        slow.assert_end();
    }
    server.stop().assert_clean();
}

#[test]
fn empty_lines_before_a_request_are_a_part_of_its_head() {
    let server = Server::start(&["--header-timeout", "300ms", "http=0"]);
    let start = Instant::now();
    let mut slow = Client::new(&server);
    slow.write("\r\n");
    // Without a request there is no answer.
    slow.assert_end();
    assert_took(start.elapsed(), millis(300));
    server.stop().assert_clean();
}

#[test]
fn a_connection_is_closed_without_an_answer_after_the_keep_alive_timeout() {
    let timeout = millis(300);
    let server = Server::start(&["--keep-alive-timeout", &option(timeout), "--idle-timeout", "10s", "http=0"]);
    let start = Instant::now();
    Client::new(&server).assert_end();
    assert_took(start.elapsed(), timeout);
    let mut client = Client::new(&server);
    let start = Instant::now();
    assert_eq!(client.ask(TIME).status, 200);
    client.assert_end();
    assert_took(start.elapsed(), timeout);
    server.stop().assert_clean();
}

#[test]
fn the_keep_alive_timeout_does_not_count_within_a_request() {
    scaled(|scale| {
        let timeout = millis(300) * scale;
        let server = Server::start(&["--keep-alive-timeout", &option(timeout), "http=0"]);
        let mut client = Client::new(&server);
        let clock = server.stopwatch();
        let first = client.ask(TIME).status;
        client.write(&TIME[..20]);
        let is_in_time = clock.elapsed() < timeout / 2 && clock.withheld() < timeout / 4;
        hold(2 * timeout);
        let start = Instant::now();
        let _ = client.stream().write_all(&TIME.as_bytes()[20..]);
        match client.answer_or_end() {
            None if !is_in_time => None,
            answer => {
                assert_eq!((first, answer.map(|answer| answer.status)), (200, Some(200)));
                client.assert_end();
                assert_took(start.elapsed(), timeout);
                server.stop().assert_clean();
                Some(())
            }
        }
    });
}

#[test]
fn the_read_timeout_counts_between_requests_whatever_the_pieces_of_the_last_one() {
    scaled(|scale| {
        let timeout = millis(300) * scale;
        let server = Server::start(&["--read-timeout", &option(timeout), "http=0"]);
        for pieces in [&[TIME][..], &[&TIME[..20], &TIME[20..]]] {
            let mut client = Client::new(&server);
            let clock = server.stopwatch();
            let start = Instant::now();
            for piece in pieces {
                let _ = client.stream().write_all(piece.as_bytes());
                // The server has read the piece before it answers a later request.
                if Client::new(&server).ask(TIME).status != 200 {
                    return None;
                }
            }
            let is_in_time = clock.elapsed() < timeout / 2 && clock.withheld() < timeout / 4;
            match client.answer_or_end() {
                Some(answer) if answer.status == 200 => {}
                other if is_in_time => panic!("{other:?}"),
                _ => return None,
            }
            client.assert_end();
            assert_took(start.elapsed(), timeout);
        }
        server.stop().assert_clean();
        Some(())
    });
}

#[test]
fn a_client_that_sends_much_and_reads_late_is_not_idle() {
    let timeout = millis(200);
    let server = Server::start(&["--keep-alive-timeout", &option(timeout), "http=0"]);
    let mut client = Client::new(&server);
    let mut writer = client.stream().try_clone().unwrap();
    // More answers than the buffers of both kernels hold.
    let body = pattern(100_000);
    let request = [post("Content-Length: 100000\r\n", "").as_bytes(), &body].concat();
    let writing = thread::spawn(move || (0..200).for_each(|_| writer.write_all(&request).expect("write")));
    assert!(eventually(PATIENCE, || server.counter("pauses") > 0));
    hold(3 * timeout);
    for _ in 0..200 {
        assert!(client.answer().body == body);
    }
    writing.join().unwrap();
    client.assert_end();
    server.stop().assert_clean();
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let server = Server::start(&["--write-timeout", "300ms", "--send-buffer", "16KiB", "http=0", "echo=0"]);
    let descriptors = server.descriptors();
    let mut stuck = server.connect("http");
    let request = post("Content-Length: 100000\r\n", &"x".repeat(100_000));
    stuck.set_nonblocking(true).unwrap();
    let is_full = eventually(PATIENCE, || matches!(stuck.write(request.as_bytes()), Ok(n) if n < request.len()));
    assert!(is_full, "the server takes everything");
    let closed = server.within(Duration::from_secs(2), || server.descriptors() == descriptors);
    assert!(closed, "{} descriptors, {descriptors} before", server.descriptors());
    server.assert_unharmed(descriptors);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_write_deadline"), 1);
}

#[test]
fn slow_clients_do_not_delay_another_client() {
    let server = Server::start(&["--header-timeout", "3s", "http=0", "echo=0"]);
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
        let (answer, took) = server.time(|| client.ask(TIME));
        assert_eq!(answer.status, 200);
        assert!(took < Duration::from_secs(1), "an answer took {took:?}");
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
