//! Signals and the end of a server: received input is answered, every peer gets FIN, and every wait has an end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::addresses::Vacant;
use crate::harness::client::terminal;
use crate::harness::{PATIENCE, Server, client, eventually, exchange, fill_up, pattern, reactor, read_all};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn an_idle_server_stops_within_a_second() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&["echo=0", "echo-udp=0", "time=0", "idle=0"]);
        let clock = server.stopwatch();
        server.signal(signal);
        let exit = server.wait();
        let took = clock.granted_to(exit.withheld);
        assert!(took < Duration::from_secs(1), "the stop took {took:?}");
        exit.assert_clean();
        assert_eq!(exit.count("signals"), 1);
    }
}

#[test]
fn every_client_reads_the_end_of_file_and_no_reset() {
    let server = Server::start(&["echo=0", "idle=0"]);
    let mut peers: Vec<_> = (0..100).map(|n| server.connect(if n % 2 == 0 { "echo" } else { "idle" })).collect();
    for peer in peers.iter_mut().step_by(2) {
        exchange(peer, b"served");
    }
    let stopping = thread::spawn(move || server.stop());
    for peer in &mut peers {
        assert_eq!(read_all(peer), b"");
    }
    drop(peers);
    let exit = stopping.join().unwrap();
    exit.assert_clean();
    assert_eq!((exit.count("accepts"), exit.count_closed()), (100, 100));
}

#[test]
fn input_that_arrived_before_the_signal_is_answered() {
    let server = Server::start(&["echo=0"]);
    let mut peers: Vec<_> = (0..50).map(|_| server.connect("echo")).collect();
    for peer in &mut peers {
        exchange(peer, b"served");
    }
    server.freeze();
    // The server has not even accepted these.
    peers.extend((0..50).map(|_| server.connect("echo")));
    let sent = pattern(200_000);
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.write_all(&sent[..n + 1]).unwrap();
    }
    // More than one read takes.
    peers[0].write_all(&sent[1..]).unwrap();
    server.signal(Signal::TERM);
    server.thaw();
    assert!(read_all(&mut peers[0]) == sent, "the echo differs");
    for (n, peer) in peers.iter_mut().enumerate().skip(1) {
        assert!(read_all(peer) == sent[..n + 1], "the echo of client {n} differs");
    }
    drop(peers);
    server.wait().assert_clean();
}

/// Sends 8 MiB and FIN, and stops the server when `progress` bytes have come back. From then on the peer rests for
/// `rest` after each read.
fn stop_midway(progress: usize, rest: Duration) {
    const TOTAL: usize = 8 << 20;
    let server = Server::start(&["echo=0", "--grace", "15s"]);
    let sent = pattern(TOTAL);
    let mut reader = server.connect("echo");
    let mut writer = reader.try_clone().unwrap();
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for piece in sent.chunks(64 << 10) {
                writer.write_all(piece).unwrap();
                written.fetch_add(piece.len(), Ordering::Relaxed);
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::with_capacity(TOTAL);
        let mut piece = vec![0; 64 << 10];
        let mut take = |back: &mut Vec<u8>| {
            let n = reader.read(&mut piece).unwrap();
            back.extend_from_slice(&piece[..n]);
            n > 0
        };
        while back.len() < progress {
            assert!(take(&mut back), "the end after {} bytes", back.len());
        }
        // Until the writer is stuck, or has written everything.
        let (mut last, mut still) = (0, server.stopwatch());
        let stuck = eventually(PATIENCE, || {
            let now = written.load(Ordering::Relaxed);
            if now != last {
                (last, still) = (now, server.stopwatch());
            }
            now == TOTAL || still.granted() > Duration::from_millis(100)
        });
        assert!(stuck, "the writer does not stop");
        server.signal(Signal::TERM);
        server.await_log("stopping");
        while take(&mut back) {
            thread::park_timeout(rest);
        }
        assert!(back == sent, "{} of {TOTAL} bytes came back", back.len());
    });
    drop((reader, writer));
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 1);
}

#[test]
fn a_storm_in_the_backlog_is_served() {
    // More than the events and the accepts of one turn.
    const STORM: usize = 1_500;
    let server = Server::start(&["echo=0"]);
    server.freeze();
    let mut peers: Vec<_> = (0..STORM).map(|_| server.connect("echo")).collect();
    for peer in &mut peers {
        peer.write_all(b"early").unwrap();
    }
    server.signal(Signal::TERM);
    server.thaw();
    for (n, peer) in peers.iter_mut().enumerate() {
        let mut back = Vec::new();
        let end = peer.read_to_end(&mut back);
        assert!(end.is_ok() && back == b"early", "client {n} has read {back:?}, {end:?}");
    }
    drop(peers);
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!(exit.count("accepts"), STORM as u64);
}

#[test]
fn a_suspended_transfer_is_completed() {
    // A quick reader empties the server before the rest of the input arrives.
    for _ in 0..3 {
        stop_midway(0, Duration::ZERO);
    }
    stop_midway(0, Duration::from_millis(2));
}

#[test]
fn a_transfer_under_way_is_completed() {
    stop_midway(1 << 20, Duration::from_millis(2));
    stop_midway(4 << 20, Duration::from_millis(2));
}

#[test]
fn a_peer_that_never_reads_is_aborted_after_the_grace_period() {
    let server = Server::start(&["echo=0", "--grace", "2s"]);
    let mut stuck = server.connect("echo");
    fill_up(&server, &mut stuck);
    let mut other = server.connect("echo");
    exchange(&mut other, b"served");
    let clock = server.stopwatch();
    server.signal(Signal::TERM);
    assert_eq!(read_all(&mut other), b"");
    assert!(clock.granted() < Duration::from_secs(1), "the other connection waited {:?}", clock.granted());
    let exit = server.wait();
    let (took, granted) = (clock.elapsed(), clock.granted_to(exit.withheld));
    assert!(took > Duration::from_millis(1_990), "the grace period ended after {took:?}");
    assert!(granted < Duration::from_millis(2_500), "the grace period ended after {granted:?}");
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert_eq!(exit.count("closed_grace"), 1);
    assert_eq!(exit.count_closed(), 2);
}

#[test]
fn a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let server = Server::start(&["echo=0", "--grace", "0"]);
        let mut stuck = server.connect("echo");
        fill_up(&server, &mut stuck);
        server.signal(Signal::TERM);
        server.await_log("connections to finish: 1");
        let clock = server.stopwatch();
        server.signal(second);
        let exit = server.wait();
        // The promise is 100 ms. The rest is for a debug build.
        let took = clock.granted_to(exit.withheld);
        assert!(took < Duration::from_millis(500), "the stop took {took:?}");
        assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
        assert_eq!(exit.count("signals"), 2);
    }
}

#[test]
fn two_signals_in_one_turn_stop_at_once() {
    let server = Server::start(&["echo=0"]);
    let mut peer = server.connect("echo");
    exchange(&mut peer, b"served");
    server.freeze();
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    server.thaw();
    let exit = server.wait();
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert_eq!((exit.count("signals"), exit.count_closed()), (2, 0), "a stop at once finishes no connection");
}

#[test]
fn a_stopping_server_refuses_new_connections() {
    let vacant = Vacant::new();
    let server = Server::start(&[&format!("echo={}", vacant.addr)]);
    let mut stuck = server.connect("echo");
    let held = fill_up(&server, &mut stuck);
    server.signal(Signal::TERM);
    server.await_log("stopping");
    let refused = eventually(PATIENCE, || TcpStream::connect(vacant.addr).is_err());
    assert!(refused, "the listener is still there");
    stuck.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stuck).len(), held);
    server.wait().assert_clean();
}

#[test]
fn sigstop_and_sigcont_lose_nothing() {
    let server = Server::start(&["echo=0"]);
    // Once during a wait: SIGCONT interrupts epoll_wait(2), and the kernel does not restart the call.
    server.assert_serves();
    server.freeze();
    server.thaw();
    assert!(eventually(PATIENCE, || server.counter("interrupted") > 0), "no wait was interrupted");

    let (rounds, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for n in 0..4 {
            let (server, rounds, over) = (&server, &rounds, &over);
            scope.spawn(move || {
                let sent = pattern(60_000 + n);
                let mut peer = server.connect("echo");
                while !over.load(Ordering::Relaxed) {
                    assert!(exchange(&mut peer, &sent) == sent, "the echo differs");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                peer.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_all(&mut peer), b"");
            });
        }
        for _ in 0..50 {
            let before = rounds.load(Ordering::Relaxed);
            let goes_on = eventually(PATIENCE, || rounds.load(Ordering::Relaxed) > before + 8);
            server.freeze();
            server.thaw();
            if !goes_on {
                over.store(true, Ordering::Relaxed);
                panic!("the exchange does not go on");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    server.assert_idle();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("bytes_in"), exit.count("bytes_out"));
    assert_eq!(exit.count("closed_finished"), 5);
}

#[test]
fn a_closed_standard_output_does_not_end_a_server() {
    let server = Server::with_closed_stdout(&["echo=0"], [Some("echo"), None]);
    server.assert_serves();
    server.signal(Signal::USR1);
    server.await_log("ledger:");
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_full_standard_error_does_not_block_the_server() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = reactor(&["serve", "--log", "trace", "echo=0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    // The child alone holds the writing end.
    drop(command);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut peer = client(line.trim_end().rsplit(' ').next().unwrap().parse().unwrap());
    let mut talk = || (0..1000).for_each(|_| assert_eq!(exchange(&mut peer, b"does it hang?"), b"does it hang?"));
    talk();
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    talk();
    // When the pipe has room again, the log continues.
    let mut log = vec![0; 32 * 1024];
    reader.read_exact(&mut log).unwrap();
    talk();
    drop(peer);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || child.try_wait().unwrap().is_some()), "the server hangs");
    reader.read_to_end(&mut log).unwrap();
    let log = String::from_utf8(log).unwrap();
    let lost = log.lines().filter(|line| line.starts_with("standard error was full: ")).count();
    assert!(lost > 0, "{log}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_without_a_reader_does_not_block_the_server() {
    let (_user, writer) = terminal();
    let mut command = reactor(&["serve", "--log", "trace", "echo=0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut peer = client(line.trim_end().rsplit(' ').next().unwrap().parse().unwrap());
    (0..1000).for_each(|_| assert_eq!(exchange(&mut peer, b"does it hang?"), b"does it hang?"));
    drop(peer);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || child.try_wait().unwrap().is_some()), "the server hangs");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn signals_for_other_programs_do_no_harm() {
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    let mut peer = server.connect("echo");
    for signal in [Signal::HUP, Signal::WINCH, Signal::PIPE] {
        server.signal(signal);
        assert_eq!(exchange(&mut peer, b"still there?"), b"still there?", "after {signal:?}");
    }
    drop(peer);
    server.assert_unharmed(before);
    server.assert_idle();
    let exit = server.stop();
    exit.assert_clean();
    // SIGTERM and SIGHUP. The server has no handler for the others.
    assert_eq!(exit.count("signals"), 2);
}

#[test]
fn a_report_shows_the_ledger_and_every_source_of_a_running_server() {
    let server = Server::start(&["echo=0", "echo-udp=0"]);
    let mut peer = server.connect("echo");
    exchange(&mut peer, b"hello");
    assert_eq!(server.counter("bytes_in"), 5);
    assert_eq!(exchange(&mut peer, b" again"), b" again");
    assert_eq!(server.counter("bytes_in"), 11);
    let named = [
        ("echo", "listening", server.addr("echo")),
        ("echo-udp", "bound", server.addr("echo-udp")),
        ("echo", "Open/Open", peer.local_addr().unwrap()),
    ];
    for (service, state, addr) in named {
        let shown = || {
            let log = server.log();
            let rows = log.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            rows.into_iter().any(|row| row.get(1..4) == Some(&[service, &addr.to_string(), state]))
        };
        assert!(eventually(PATIENCE, shown), "no row for {service} {addr} {state} in: {}", server.log());
    }
    drop(peer);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("signals"), 3);
}

#[test]
fn datagrams_that_arrived_before_the_signal_are_answered() {
    const COUNT: u64 = 200;
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    server.freeze();
    for n in 0..COUNT {
        peer.send(&n.to_be_bytes()).unwrap();
    }
    server.signal(Signal::TERM);
    server.thaw();
    for n in 0..COUNT {
        let mut answer = [0; 8];
        assert_eq!(peer.recv(&mut answer).expect("an answer"), 8);
        assert_eq!(u64::from_be_bytes(answer), n);
    }
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!((exit.count("datagrams_in"), exit.count("datagrams_out")), (COUNT, COUNT));
}
