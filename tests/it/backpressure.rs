//! Peers that write and do not read: the server suspends reading, loses nothing, and serves the others meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::spy::{Callback, Loop};
use crate::harness::{PATIENCE, Server, client, eventually, exchange, pattern};
use reactor::limits::Policy;
use reactor::service::CloseReason;
use socket2::{Domain, Protocol, Socket, Type};

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;

/// The default bound of queued output per connection, and the most that one read may add to it.
const HIGH_WATER: usize = 64 * KIB;
const ONE_READ: usize = 128 * KIB;

/// Starts a server and brings its memory to the size of ordinary use, so that later growth has another cause.
fn warmed_up(args: &[&str]) -> Server {
    let server = Server::start(args);
    let before = server.descriptors();
    for _ in 0..8 {
        exchange(&mut server.connect("echo"), &pattern(200 * KIB));
    }
    server.assert_descriptors(before);
    server
}

/// Connects a client with small kernel buffers, so that unread bytes soon fill the server's buffers.
fn small_client(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_recv_buffer_size(16 * KIB).unwrap();
    socket.set_send_buffer_size(16 * KIB).unwrap();
    socket.connect(&server.addr("echo").into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Writes until the kernel takes no more. Returns the number of bytes taken.
fn push(peer: &mut TcpStream, bytes: &[u8]) -> usize {
    peer.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| peer.write(bytes).ok()).sum()
}

/// Writes to all until the server has suspended reading each of them and the kernel takes no more.
fn fill_all(server: &Server, peers: &mut [TcpStream], bytes: &[u8]) {
    let mut still = server.stopwatch();
    let full = eventually(PATIENCE, || {
        if peers.iter_mut().map(|peer| push(peer, bytes)).sum::<usize>() > 0 {
            still = server.stopwatch();
        }
        still.granted() > Duration::from_millis(300)
    });
    assert!(full, "the server takes bytes without an end");
    let suspended = server.counter("pauses") - server.counter("resumes");
    assert_eq!(suspended, peers.len() as u64, "of {} peers", peers.len());
}

#[test]
fn a_peer_that_does_not_read_is_suspended_and_loses_nothing() {
    const TOTAL: usize = 64 * MIB;
    let server = warmed_up(&["echo=0"]);
    let before = server.resident();
    // The odd length keeps equal blocks away from each other's places.
    let period = pattern(MIB + 17);
    let mut reader = client(server.addr("echo"));
    let mut writer = reader.try_clone().unwrap();
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = TOTAL;
            for piece in period.chunks(64 * KIB).cycle() {
                let piece = &piece[..piece.len().min(left)];
                writer.write_all(piece).unwrap();
                written.fetch_add(piece.len(), Ordering::Relaxed);
                left -= piece.len();
                if left == 0 {
                    break;
                }
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let (mut last, mut still) = (0, server.stopwatch());
        let stuck = eventually(PATIENCE, || {
            let now = written.load(Ordering::Relaxed);
            if now != last {
                (last, still) = (now, server.stopwatch());
            }
            last > 0 && still.granted() > Duration::from_millis(500)
        });
        assert!(stuck && last < TOTAL, "the server took {last} of {TOTAL} bytes from a peer that does not read");
        let grown = server.resident().saturating_sub(before);
        assert!(grown <= HIGH_WATER + MIB, "the server has grown by {grown} bytes");
        // Bytes wait in the server's receive buffer while reading is suspended. They must not cost turns.
        let (turns, start) = (server.counter("turns"), Instant::now());
        server.assert_idle();
        let turns = server.counter("turns") - turns;
        let seconds = start.elapsed().as_secs_f64();
        assert!((turns as f64) <= 20.0 * seconds, "{turns} turns in {seconds:.1} s while nothing can be done");

        let mut piece = vec![0; period.len()];
        let mut left = TOTAL;
        while left > 0 {
            let piece = &mut piece[..period.len().min(left)];
            reader.read_exact(piece).unwrap();
            assert!(piece == &period[..piece.len()], "the echo differs in the {} bytes before {left}", piece.len());
            left -= piece.len();
        }
        assert_eq!(reader.read(&mut piece).unwrap(), 0);
    });
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn many_peers_that_do_not_read_do_not_delay_another_peer() {
    const PEERS: usize = 50;
    let server = warmed_up(&["echo=0", "--send-buffer", "64KiB", "--recv-buffer", "64KiB"]);
    let before = (server.descriptors(), server.resident());
    let chunk = pattern(64 * KIB);
    let mut peers: Vec<_> = (0..PEERS).map(|_| small_client(&server)).collect();
    let mut other = server.connect("echo");
    let mut times = Vec::new();
    fill_all(&server, &mut peers, &chunk);
    for _ in 0..500 {
        for peer in &mut peers {
            push(peer, &chunk);
        }
        let (answer, took) = server.time(|| exchange(&mut other, b"quick?"));
        assert_eq!(answer, b"quick?");
        times.push(took);
    }
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(50), "99 % of exchanges took up to {p99:?}");
    let grown = server.resident().saturating_sub(before.1);
    assert!(grown <= PEERS * (HIGH_WATER + ONE_READ) + MIB, "the server has grown by {grown} bytes");
    drop((peers, other));
    server.assert_unharmed(before.0);
    let exit = server.stop();
    exit.assert_clean();
    assert!(exit.count("pauses") >= PEERS as u64, "only {} peers were suspended", exit.count("pauses"));
}

#[test]
fn memory_returns_after_a_burst() {
    const PEERS: usize = 500;
    let server = warmed_up(&["echo=0", "--send-buffer", "16KiB", "--recv-buffer", "64KiB"]);
    let before = (server.descriptors(), server.resident());
    let chunk = pattern(64 * KIB);
    let mut peers: Vec<_> = (0..PEERS).map(|_| small_client(&server)).collect();
    fill_all(&server, &mut peers, &chunk);
    let peak = server.resident();
    assert!(peak - before.1 > PEERS * HIGH_WATER, "{peak} bytes at its peak: there was no burst");
    drop(peers);
    server.assert_descriptors(before.0);
    let returned = || server.resident() <= before.1 + before.1 / 5;
    assert!(
        server.within(Duration::from_secs(2), returned),
        "{} bytes after a burst of {peak}, {} before",
        server.resident(),
        before.1
    );
    server.assert_unharmed(before.0);
    server.stop().assert_clean();
}

#[test]
fn peers_with_reads_of_any_size_get_all_their_bytes() {
    let server = warmed_up(&["echo=0", "--high-water", "4KiB", "--low-water", "1KiB", "--send-buffer", "8KiB"]);
    let sent = pattern(300_007);
    thread::scope(|scope| {
        for step in [1_000, 1_460, 4_096, 65_536] {
            let (server, sent) = (&server, &sent);
            scope.spawn(move || {
                let mut reader = small_client(server);
                let mut writer = reader.try_clone().unwrap();
                let writing = thread::spawn({
                    let sent = sent.clone();
                    move || {
                        writer.write_all(&sent).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    }
                });
                let (mut back, mut piece) = (Vec::new(), vec![0; step]);
                loop {
                    match reader.read(&mut piece).unwrap() {
                        0 => break,
                        n => back.extend_from_slice(&piece[..n]),
                    }
                }
                assert!(back == *sent, "steps of {step}: the echo differs");
                writing.join().unwrap();
            });
        }
    });
    let exit = server.stop();
    exit.assert_clean();
    assert!(exit.count("pauses") > 0, "no peer was suspended");
    assert_eq!(exit.count("pauses"), exit.count("resumes"));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn the_kernel_buffers_little_for_a_peer_that_does_not_read() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| {
        if *callback == Callback::Open {
            ctx.send(&vec![b'x'; 16 << 20]);
        }
    });
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.set_recv_buffer_size(16 * KIB).unwrap();
    deaf.connect(&spy.addr.into()).unwrap();
    let id = spy.expect(Callback::Open).id.unwrap();
    // Two turns: the second one finds the bytes sent for which the peer's window has had room.
    for _ in 0..2 {
        spy.run(|_| {});
    }
    spy.run_on(id, |ctx| ctx.abort());
    spy.expect(Callback::Close(CloseReason::Aborted));
    let (_, ledger, _) = spy.stop();
    // The peer's receive buffer, the bound of unsent bytes, and the write during which the bound was passed.
    assert!((16 * KIB as u64..512 * KIB as u64).contains(&ledger.bytes_out), "the kernel took {}", ledger.bytes_out);
}
