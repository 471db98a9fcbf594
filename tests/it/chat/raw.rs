//! The raw chat service over real sockets: unchanged bytes to every member.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use crate::harness::{Server, pattern, read_all, reset, take};
use rustix::process::Signal;

#[test]
fn every_byte_value_reaches_all_members_and_the_sender() {
    let server = Server::start(&["echo=0", "chat-raw=0"]);
    let mut members = server.members("chat-raw", 10);
    let all: Vec<u8> = (0..=255).collect();
    members[3].write_all(&all).unwrap();
    for member in &mut members {
        assert_eq!(take(member, 256), all);
    }
    drop(members);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_sender_that_reads_late_is_suspended_and_loses_nothing() {
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat-raw=0"]);
    let mut member = server.members("chat-raw", 1).remove(0);
    let sent = pattern(2 << 20);
    let memory = server.resident();
    let mut writer = member.try_clone().unwrap();
    let writing = thread::spawn({
        let sent = sent.clone();
        move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    assert!(read_all(&mut member) == sent, "other bytes came back");
    writing.join().unwrap();
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 0);
    assert!(exit.count("pauses") > 10, "the sender was never suspended");
}

#[test]
fn all_members_receive_all_bytes_in_one_order() {
    const SENDERS: usize = 8;
    const BYTES: usize = 20_000;
    let server = Server::start(&["--high-water", "1MiB", "echo=0", "chat-raw=0"]);
    let members = server.members("chat-raw", SENDERS);
    let threads: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(n, mut member)| {
            let mut writer = member.try_clone().unwrap();
            thread::spawn(move || {
                let writing = thread::spawn(move || {
                    for piece in vec![n as u8; BYTES].chunks(100) {
                        writer.write_all(piece).unwrap();
                    }
                });
                let received = take(&mut member, SENDERS * BYTES);
                writing.join().unwrap();
                (received, member)
            })
        })
        .collect();
    let received: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for n in 0..SENDERS as u8 {
        assert_eq!(received[0].0.iter().filter(|&&byte| byte == n).count(), BYTES);
    }
    assert!(received.iter().all(|(bytes, _)| *bytes == received[0].0), "two members received different orders");
    drop(received);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn departures_cost_the_others_nothing_and_the_stop_ends_all() {
    let server = Server::start(&["echo=0", "chat-raw=0"]);
    let mut members = server.members("chat-raw", 6);
    reset(members.remove(5));
    let leaver = members.remove(4);
    leaver.shutdown(Shutdown::Write).unwrap();
    members[0].write_all(b"hello").unwrap();
    for member in &mut members {
        assert_eq!(take(member, 5), b"hello");
    }
    server.signal(Signal::TERM);
    for member in &mut members {
        assert_eq!(read_all(member), b"");
    }
    drop((members, leaver));
    server.wait().assert_clean();
}
