//! The echo service over real sockets, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{PATIENCE, Server, eventually, exchange, fill_up, pattern, read_all, reset};
use socket2::SockRef;

/// Sends `bytes` and FIN while it reads to the end of file, so that the server need not suspend reading.
fn send_all_and_read_all(mut reader: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut writer = reader.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        read_all(&mut reader)
    })
}

#[test]
fn a_half_close_is_answered_after_the_last_byte() {
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    let sent = pattern(1 << 20);
    assert!(send_all_and_read_all(server.connect("echo"), &sent) == sent, "the echo differs");
    server.assert_unharmed(before);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 2);
}

#[test]
fn the_end_of_file_waits_for_what_is_queued() {
    let server = Server::start(&["echo=0", "--send-buffer", "64KiB", "--high-water", "1MiB"]);
    let mut peer = server.connect("echo");
    // The queue stays far from its mark, so the server reads the end of file while most of the echo is queued.
    let sent = pattern(900_000);
    peer.write_all(&sent).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(eventually(PATIENCE, || server.counter("eofs") == 1), "the server does not read the end of file");
    assert!(read_all(&mut peer) == sent, "the echo differs");
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 1);
}

#[test]
fn ten_megabytes_and_one_byte_more_come_back_in_order() {
    let server = Server::start(&["echo=0"]);
    let mut sent = pattern(10_000_000);
    let mut reader = server.connect("echo");
    let mut writer = reader.try_clone().unwrap();
    let back = thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.write_all(b"!").unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        read_all(&mut reader)
    });
    sent.push(b'!');
    assert!(back == sent, "the echo differs");
    drop((reader, writer));
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("bytes_in"), exit.count("bytes_out")), (10_000_001, 10_000_001));
    assert_eq!(exit.count("closed_finished"), 1);
}

#[test]
fn numbered_blocks_through_a_small_send_buffer_stay_in_order() {
    let server = Server::start(&["echo=0", "--send-buffer", "16KiB"]);
    let block = |n: u32| [n.to_be_bytes(); 256].concat();
    let mut reader = server.connect("echo");
    let mut writer = reader.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10_000 {
                writer.write_all(&block(n)).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = [0; 1024];
        for n in 0..10_000 {
            reader.read_exact(&mut back).unwrap();
            assert!(back == *block(n), "block {n} is out of order: it begins with {:?}", &back[..4]);
        }
        assert_eq!(reader.read(&mut back).unwrap(), 0);
    });
    drop(reader);
    let exit = server.stop();
    exit.assert_clean();
    assert!(exit.count("short_writes") + exit.count("write_blocked") > 0, "the small buffer made no difference");
}

/// Resets a connection in the state that `occupy` brings about. The server must close it within a second.
fn reset_while(occupy: impl FnOnce(&Server, &mut TcpStream)) {
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    let mut peer = server.connect("echo");
    exchange(&mut peer, b"accepted");
    assert_eq!(server.descriptors(), before + 1);
    occupy(&server, &mut peer);
    reset(peer);
    let gone = server.within(Duration::from_secs(1), || server.descriptors() == before);
    assert!(gone, "a reset connection is still open");
    server.assert_unharmed(before);
    server.assert_idle();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("closed_reset"), exit.count_closed()), (1, exit.count("accepts")));
}

#[test]
fn a_reset_while_idle_ends_the_connection() {
    reset_while(|_, _| {});
}

#[test]
fn a_reset_while_the_peer_sends_ends_the_connection() {
    reset_while(|_, peer| peer.write_all(&pattern(300_000)).unwrap());
}

#[test]
fn a_reset_while_reading_is_suspended_ends_the_connection() {
    reset_while(|server, peer| {
        fill_up(server, peer);
        assert_eq!(server.counter("pauses") - server.counter("resumes"), 1);
    });
}

#[test]
fn peers_that_close_without_reading_harm_no_other() {
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    for _ in 0..20 {
        server.connect("echo").write_all(&pattern(200_000)).unwrap();
    }
    server.assert_unharmed(before);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("accepts"), 21);
    assert_eq!(exit.count("closed_reset") + exit.count("closed_finished"), 21);
    assert!(exit.count("closed_reset") > 0, "no peer was gone when its answer was written");
}

#[test]
fn an_urgent_byte_is_not_echoed_and_hides_nothing() {
    let server = Server::start(&["echo=0"]);
    let mut peer = server.connect("echo");
    exchange(&mut peer, b"accepted");
    // All three arrive before the server reads, so no second edge follows. A read stops at the urgent mark, and must not
    // count as the last one.
    server.freeze();
    peer.write_all(b"before").unwrap();
    assert_eq!(SockRef::from(&peer).send_out_of_band(b"!").unwrap(), 1);
    peer.write_all(b"after").unwrap();
    server.thaw();
    let mut back = [0; 11];
    peer.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"beforeafter");
    server.assert_idle();
    assert_eq!(SockRef::from(&peer).send_out_of_band(b"?").unwrap(), 1);
    assert_eq!(exchange(&mut peer, b"and so on"), b"and so on");
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut peer), b"");
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn connections_without_a_byte_leave_nothing_behind() {
    const STORM: u64 = 2_000;
    let server = Server::start(&["echo=0"]);
    let before = server.descriptors();
    let addr = server.addr("echo");
    for _ in 0..STORM {
        drop(TcpStream::connect_timeout(&addr, PATIENCE).unwrap());
    }
    server.assert_unharmed(before);
    server.assert_idle();
    assert_eq!(server.log(), "");
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("accepts"), exit.count("closed_finished")), (STORM + 1, STORM + 1));
    assert_eq!(exit.count_closed(), STORM + 1);
}
