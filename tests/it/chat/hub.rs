//! The hub service over real sockets: pieces in one piece, and a bound for each member.

use std::io::{Read, Write};
use std::thread;

use crate::harness::{Server, read_all, take};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

#[test]
fn no_piece_is_cut_by_another() {
    const PIECE: usize = 4096;
    const PIECES: usize = 100;
    let server = Server::start(&["--high-water", "2MiB", "echo=0", "chat-hub=0"]);
    let mut members = server.members("chat-hub", 3);
    let mut listener = members.pop().unwrap();
    // A piece is what one read brings. Each sender waits for its own to come back, so that a read cannot bring the end
    // of one and the beginning of the next.
    let senders: Vec<_> = [b'a', b'b']
        .into_iter()
        .zip(members)
        .map(|(letter, mut member)| {
            thread::spawn(move || {
                let (mut heard, mut own) = (Vec::new(), 0);
                for number in 1..=PIECES {
                    member.write_all(&[letter; PIECE]).unwrap();
                    while own < number * PIECE {
                        let mut bytes = [0; 8192];
                        let n = member.read(&mut bytes).unwrap();
                        own += bytes[..n].iter().filter(|&&byte| byte == letter).count();
                        heard.extend_from_slice(&bytes[..n]);
                    }
                }
                let rest = 2 * PIECE * PIECES - heard.len();
                heard.extend(take(&mut member, rest));
                (heard, member)
            })
        })
        .collect();
    let all = take(&mut listener, 2 * PIECE * PIECES);
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert!(senders.iter().all(|(heard, _)| *heard == all), "two members heard different orders");
    for run in all.chunk_by(|a, b| a == b) {
        assert!(run.len().is_multiple_of(PIECE), "a run of {} bytes", run.len());
    }
    drop((senders, listener));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn one_who_does_not_read_is_dropped_counted_and_logged_once() {
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat-hub=0"]);
    let before = server.descriptors();
    let mut members = server.members("chat-hub", 3);
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&server.addr("chat-hub").into()).unwrap();
    let memory = server.resident();
    let piece = [b'x'; 1000];
    let mut rounds = 0;
    // It holds a descriptor until it is dropped.
    while server.descriptors() > before + members.len() || rounds < 200 {
        assert!(rounds < 20_000, "a member who does not read was never dropped");
        members[0].write_all(&piece).unwrap();
        for member in &mut members {
            assert_eq!(take(member, 1000), piece);
        }
        rounds += 1;
    }
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    server.assert_serves();
    server.signal(Signal::TERM);
    for member in &mut members {
        assert_eq!(read_all(member), b"");
    }
    drop((members, stuck));
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 1);
    assert_eq!(exit.stderr.matches("overflow: ").count(), 1, "{}", exit.stderr);
}
