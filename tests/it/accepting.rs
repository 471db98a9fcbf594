//! From the backlog to a connection: lack of descriptors, limits of connections, a suspended server.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::addresses::Vacant;
use crate::harness::{PATIENCE, Server, client, eventually, exchange, read_all};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Limits the server to `more` further descriptors.
fn allow_descriptors(server: &Server, more: usize) {
    let taken = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("procfs");
    let taken: Vec<u64> = taken.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // RLIMIT_NOFILE bounds the numbers of descriptors, and the server may hold one with a high number.
    let most = (0..).filter(|number| !taken.contains(number)).nth(more);
    let pid = Pid::from_raw(server.pid() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: most, maximum: most }).expect("prlimit");
}

#[test]
fn the_first_clients_are_served_and_the_others_wait_without_descriptors() {
    const ROOM: usize = 20;
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    allow_descriptors(&server, ROOM);
    let clock = server.stopwatch();
    // The kernel completes all of them. These connects are the only SYNs of this test.
    let mut peers: Vec<_> = (0..40).map(|_| server.connect("echo")).collect();
    server.await_log("cannot accept");
    for peer in &mut peers[..ROOM] {
        assert_eq!(exchange(peer, b"served"), b"served");
    }
    assert_eq!(server.counter("accepts"), ROOM as u64);

    let (cpu, start) = (server.cpu(), Instant::now());
    let busy = || server.cpu() - cpu > start.elapsed().max(Duration::from_secs(1)) / 20;
    assert!(!eventually(Duration::from_secs(2), busy), "the waiting server used {:?}", server.cpu() - cpu);
    let rests = server.counter("accept_backoffs");
    // One attempt in 100 ms, for two seconds or longer.
    let [most, granted] = [clock.elapsed(), clock.granted()].map(|time| time.as_millis() as u64 / 100);
    assert!((granted / 2..=most + 1).contains(&rests), "{rests} attempts in {:?}", clock.elapsed());

    // Descriptors become free one by one, each for the client that has waited longest.
    let mut waiting = peers.split_off(ROOM);
    for mut peer in waiting.drain(..5) {
        peer.write_all(b"waited").unwrap();
        let mut back = [0; 6];
        let ((), took) = server.time(|| {
            drop(peers.remove(0));
            peer.read_exact(&mut back).unwrap();
        });
        assert_eq!(&back, b"waited");
        assert!(took < Duration::from_secs(1), "a freed descriptor was used after {took:?}");
        peers.push(peer);
    }
    assert_eq!(exchange(&mut peers[0], b"still served"), b"still served");
    drop((peers, waiting));
    server.assert_unharmed(before);
    server.assert_idle();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("accepts"), exit.count("closed_finished")), (41, 41));
    assert!(exit.stderr.contains("accepting again"), "{}", exit.stderr);
}

#[test]
fn new_connections_do_not_wake_a_listener_that_backs_off() {
    let server = Server::start(&["echo=0"]);
    allow_descriptors(&server, 1);
    let start = Instant::now();
    let mut peers = vec![server.connect("echo"), server.connect("echo")];
    server.await_log("cannot accept");
    for _ in 0..30 {
        // The report in between makes each connection an edge of its own.
        peers.push(server.connect("echo"));
        server.counter("events");
    }
    let (rests, most) = (server.counter("accept_backoffs"), start.elapsed().as_millis() as u64 / 100 + 1);
    assert!(rests <= most, "{rests} back-offs of 100 ms in {:?}", start.elapsed());
    drop(peers);
    server.stop().assert_clean();
}

#[test]
fn a_server_without_a_free_descriptor_still_stops() {
    let server = Server::start(&["echo=0"]);
    allow_descriptors(&server, 1);
    let mut served = server.connect("echo");
    assert_eq!(exchange(&mut served, b"served"), b"served");
    let _waiting = server.connect("echo");
    server.await_log("cannot accept");
    let clock = server.stopwatch();
    let exit = server.stop();
    let took = clock.granted_to(exit.withheld);
    assert!(took < Duration::from_secs(2), "the stop took {took:?}");
    exit.assert_clean();
    assert_eq!(read_all(&mut served), b"");
}

/// Asserts an end of file without a reset.
fn assert_refused(mut peer: TcpStream) {
    assert_eq!(read_all(&mut peer), b"", "a connection beyond the limit was served");
}

#[test]
fn a_limit_of_zero_is_no_limit() {
    let server = Server::start(&["echo=0", "--max-connections", "0"]);
    let mut peers: Vec<_> = (0..20).map(|_| server.connect("echo")).collect();
    for peer in &mut peers {
        assert_eq!(exchange(peer, b"hello"), b"hello");
    }
    drop(peers);
    server.stop().assert_clean();
}

#[test]
fn a_connection_beyond_the_limit_is_closed_in_order_until_another_leaves() {
    let server = Server::start(&["echo=0", "--max-connections", "10"]);
    let before = server.descriptors();
    let mut peers: Vec<_> = (0..10).map(|_| server.connect("echo")).collect();
    for peer in &mut peers {
        assert_eq!(exchange(peer, b"served"), b"served");
    }
    assert_refused(server.connect("echo"));
    // A client that sends first: its bytes arrive before the refusal, or with it.
    server.freeze();
    let mut eager = server.connect("echo");
    eager.write_all(&[b'x'; 10_000]).unwrap();
    server.thaw();
    assert_refused(eager);
    for _ in 0..50 {
        let mut eager = server.connect("echo");
        // The server may have closed already.
        let _ = eager.write_all(b"hello");
        assert_refused(eager);
    }
    for peer in &mut peers {
        assert_eq!(exchange(peer, b"still served"), b"still served");
    }
    server.assert_descriptors(before + 10);

    drop(peers.pop());
    server.assert_descriptors(before + 9);
    let mut newcomer = server.connect("echo");
    assert_eq!(exchange(&mut newcomer, b"served"), b"served");
    assert_refused(server.connect("echo"));
    drop((peers, newcomer));
    server.assert_descriptors(before);
    server.assert_unharmed(before);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("refused"), exit.count("closed_finished")), (53, 12));
}

#[test]
fn the_backlog_holds_one_more_than_its_number_and_further_connects_wait() {
    const BACKLOG: usize = 4;
    let server = Server::start(&["echo=0", "--backlog", &BACKLOG.to_string()]);
    let addr = server.addr("echo");
    server.freeze();
    let mut peers: Vec<_> = (0..=BACKLOG)
        .map(|n| {
            let peer = TcpStream::connect_timeout(&addr, PATIENCE);
            peer.unwrap_or_else(|error| panic!("connect {n} of {}: {error}", BACKLOG + 1))
        })
        .collect();
    let error = TcpStream::connect_timeout(&addr, Duration::from_millis(300)).expect_err("one more than fits");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let (connected, next) = channel();
    let waiting = thread::spawn(move || {
        let peer = client(addr);
        connected.send(()).unwrap();
        peer
    });
    assert_eq!(next.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    server.thaw();
    // The kernel dropped the SYN, and the client's kernel repeats it after a second.
    next.recv_timeout(PATIENCE).expect("the waiting connect");
    peers.push(waiting.join().unwrap());
    for peer in &mut peers {
        assert_eq!(exchange(peer, b"served"), b"served");
    }
    drop(peers);
    server.stop().assert_clean();
}

#[test]
fn a_server_starts_again_at_the_same_port_at_once() {
    let vacant = [Vacant::new(), Vacant::new()];
    let [echo, time] = [&vacant[0].addr, &vacant[1].addr];
    let first = Server::start(&[&format!("echo={echo}"), &format!("time={time}")]);
    let mut peers: Vec<_> = (0..5).map(|_| first.connect("echo")).collect();
    for peer in &mut peers {
        exchange(peer, b"served");
    }
    // The server sends FIN first, so its side stays in TIME_WAIT.
    assert_eq!(read_all(&mut first.connect("time")).len(), 20);
    let stopping = thread::spawn(move || first.stop());
    for peer in &mut peers {
        assert_eq!(read_all(peer), b"");
    }
    drop(peers);
    stopping.join().unwrap().assert_clean();
    for _ in 0..3 {
        let again = Server::start(&[&format!("echo={echo}"), &format!("time={time}")]);
        assert_eq!((again.addr("echo"), again.addr("time")), (*echo, *time));
        assert_eq!(read_all(&mut again.connect("time")).len(), 20);
        again.assert_serves();
        again.stop().assert_clean();
    }
}
