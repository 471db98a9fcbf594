//! The deadlines that `reactor serve` sets by its options.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{assert_on_time, expect_silence, millis};
use crate::harness::{PATIENCE, Server, exchange, hold, pattern, read_all, scaled};

/// Waits for the end of the stream with nothing before it. Returns the lateness beyond `timeout` since the connect, of
/// which the end may not be early.
fn lateness_of_end(server: &Server, timeout: Duration) -> Duration {
    let clock = server.stopwatch();
    let mut peer = server.connect("echo");
    assert_eq!(peer.read(&mut [0; 16]).expect("an end without a reset"), 0);
    assert!(clock.elapsed() >= timeout, "{:?}", clock.elapsed());
    clock.granted().saturating_sub(timeout)
}

#[test]
fn every_byte_moves_the_goodbye() {
    let timeout = millis(1_000);
    let server = Server::start(&["idle=0", "--idle-timeout", "1s"]);
    let silent = || {
        let clock = server.stopwatch();
        assert_eq!(read_all(&mut server.connect("idle")), b"goodbye\n");
        assert!(clock.elapsed() >= timeout, "{:?} without a byte", clock.elapsed());
        clock.granted().saturating_sub(timeout)
    };
    // A byte just before the end, which is in time unless the machine holds up the test right then.
    let byte_in_time = || {
        let mut peer = server.connect("idle");
        let connected = Instant::now();
        expect_silence(&mut peer, millis(850));
        let clock = server.stopwatch();
        peer.write_all(b"!").ok()?;
        // Later than this the goodbye may be under way already.
        let in_time = connected.elapsed() < millis(950);
        let goodbye = read_all(&mut peer);
        assert_eq!(goodbye, b"goodbye\n");
        assert!(!in_time || clock.elapsed() >= timeout, "{:?} after the last byte", clock.elapsed());
        in_time.then(|| clock.granted().saturating_sub(timeout))
    };
    thread::scope(|scope| {
        scope.spawn(|| assert_on_time(silent));
        scope.spawn(|| assert_on_time(|| scaled(|_| byte_in_time())));
    });
    let exit = server.stop();
    exit.assert_clean();
    assert!(exit.count("closed_finished") >= 2);
}

#[test]
fn the_goodbye_reaches_a_client_that_still_sends() {
    let server = Server::start(&["idle=0", "--idle-timeout", "300ms"]);
    let mut peer = server.connect("idle");
    // The goodbye has arrived and is unread.
    assert_eq!(peer.peek(&mut [0; 1]).unwrap(), 1);
    for _ in 0..32 {
        peer.write_all(&pattern(65_536)).unwrap();
    }
    assert_eq!(read_all(&mut peer), b"goodbye\n");
    peer.write_all(b"and one more thing").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(peer.take_error().unwrap().is_none());
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 1);
}

#[test]
fn a_silent_client_is_closed() {
    let server = Server::start(&["echo=0", "--read-timeout", "800ms"]);
    assert_on_time(|| lateness_of_end(&server, millis(800)));
    let exit = server.stop();
    exit.assert_clean();
    assert!(exit.count("closed_read_deadline") >= 1);
}

#[test]
fn a_busy_client_is_not_closed_until_its_last_byte_is_old() {
    assert_on_time(|| {
        scaled(|scale| {
            let timeout = millis(800) * scale;
            let server = Server::start(&["echo=0", "--read-timeout", &format!("{}ms", timeout.as_millis())]);
            let mut peer = server.connect("echo");
            for _ in 0..12 {
                let clock = server.stopwatch();
                if peer.write_all(b"busy").is_err() || peer.read_exact(&mut [0; 4]).is_err() {
                    assert!(clock.withheld() > timeout / 2, "a busy client was closed");
                    return None;
                }
                hold(timeout / 8);
                if clock.elapsed() > timeout / 2 {
                    return None;
                }
            }
            // The timeout starts anew with the last byte.
            let clock = server.stopwatch();
            assert_eq!(exchange(&mut peer, b"!"), b"!");
            assert_eq!(peer.read(&mut [0; 16]).expect("an end without a reset"), 0);
            assert!(clock.elapsed() >= timeout, "{:?}", clock.elapsed());
            let late = clock.granted().saturating_sub(timeout);
            let exit = server.stop();
            exit.assert_clean();
            assert_eq!(exit.count("closed_read_deadline"), 1);
            Some(late)
        })
    });
}

#[test]
fn a_peer_that_never_reads_is_closed() {
    let server = Server::start(&["echo=0", "--write-timeout", "100ms"]);
    let mut peer = server.connect("echo");
    let chunk = pattern(16 * 1024);
    let start = Instant::now();
    let mut stalled = server.stopwatch();
    // The close has unread bytes of the peer behind it: the kernel sends a reset.
    while peer.write_all(&chunk).is_ok() {
        stalled = server.stopwatch();
    }
    let (stalled, total) = (stalled.granted(), start.elapsed());
    assert!(total >= millis(100) && stalled < Duration::from_secs(1), "{stalled:?} of {total:?}");
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_write_deadline"), 1);
}

/// Sends `sent` and reads the echo with a rest of `rest` after each 16 KiB. Returns the echo until the end or a reset,
/// and the longest time without a read.
fn read_slowly(peer: &TcpStream, sent: &[u8], rest: Duration) -> (Vec<u8>, Duration) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = peer;
            let _ = writer.write_all(sent);
            let _ = peer.shutdown(Shutdown::Write);
        });
        let (mut received, mut reader) = (Vec::new(), peer);
        let mut piece = [0; 16 * 1024];
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while let Ok(n @ 1..) = reader.read(&mut piece) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            received.extend_from_slice(&piece[..n]);
            hold(rest);
        }
        (received, longest)
    })
}

#[test]
fn a_peer_that_reads_slowly_is_not_closed() {
    scaled(|scale| {
        let timeout = millis(400) * scale;
        let timeout_option = format!("{}ms", timeout.as_millis());
        let server = Server::start(&["echo=0", "--write-timeout", &timeout_option, "--send-buffer", "16KiB"]);
        let (peer, sent, clock) = (server.connect("echo"), pattern(1 << 20), server.stopwatch());
        let (received, longest) = read_slowly(&peer, &sent, timeout / 25);
        let whole = received == sent;
        if !whole && (longest > timeout / 2 || clock.withheld() > timeout / 2) {
            return None;
        }
        assert!(whole, "{} of {} bytes, at most {longest:?} without a read", received.len(), sent.len());
        assert!(clock.elapsed() > 2 * timeout, "the peer was not slow");
        drop(peer);
        let exit = server.stop();
        exit.assert_clean();
        assert_eq!((exit.count("closed_finished"), exit.count("closed_write_deadline")), (1, 0));
        Some(())
    });
}

/// Floods the echo service over one connection after another: a machine that holds up the flood for longer than the
/// read timeout ends a connection. The flood ends at the latest after [`PATIENCE`], also when its test has panicked.
fn flood(server: &Server, flag: &AtomicBool) {
    let (chunk, start) = (pattern(65_536), Instant::now());
    let goes_on = || flag.load(Ordering::Relaxed) && start.elapsed() < PATIENCE;
    while goes_on() {
        let peer = server.connect("echo");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut part = vec![0; 65_536];
                while (&peer).read(&mut part).is_ok_and(|n| n > 0) {}
            });
            while goes_on() && (&peer).write_all(&chunk).is_ok() {}
            let _ = peer.shutdown(Shutdown::Write);
        });
    }
}

#[test]
fn a_flood_does_not_delay_the_deadlines_of_others() {
    let server = Server::start(&["echo=0", "--read-timeout", "100ms"]);
    let flooded = AtomicBool::new(true);
    // In wall-clock time: a flooded server is always ready to run, so a stopwatch would leave out much more than the delays
    // of the deadlines.
    let lateness = || {
        let start = Instant::now();
        assert_eq!(server.connect("echo").read(&mut [0; 16]).expect("an end without a reset"), 0);
        start.elapsed().checked_sub(millis(100)).expect("not early")
    };
    let median = || {
        let mut late: Vec<_> = (0..15).map(|_| lateness()).collect();
        late.sort_unstable();
        late[late.len() / 2]
    };
    let medians: Vec<_> = thread::scope(|scope| {
        scope.spawn(|| flood(&server, &flooded));
        // The machine may hold up most deadlines of one round; a loop that is late is late in every round.
        let medians = (0..4).map(|_| median()).scan(false, |is_on_time, median| {
            let is_over = std::mem::replace(is_on_time, median < millis(50));
            (!is_over).then_some(median)
        });
        let medians = medians.collect();
        flooded.store(false, Ordering::Relaxed);
        medians
    });
    assert!(medians.iter().any(|median| *median < millis(50)), "late every time: {medians:?}");
    let exit = server.stop();
    assert!(exit.count("closed_read_deadline") >= 15);
    assert!(exit.count("bytes_in") > 10 << 20, "{} bytes are no flood", exit.count("bytes_in"));
}
