//! The hub service over real sockets: each chunk stays whole, and each member has a bounded queue.

use std::io::{Read, Write};
use std::thread;

use crate::harness::{Server, read_all, take};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

#[test]
fn no_chunk_is_cut_by_another() {
    const CHUNK: usize = 4096;
    const CHUNKS: usize = 100;
    let server = Server::start(&["--high-water", "2MiB", "echo=0", "chat-hub=0"]);
    let mut members = server.members("chat-hub", 3);
    let mut listener = members.pop().unwrap();
    // A chunk is the input of one read. Each sender waits until its own chunk has come back, so that no read brings the end
    // of one chunk and the beginning of the next.
    let senders: Vec<_> = [b'a', b'b']
        .into_iter()
        .zip(members)
        .map(|(letter, mut member)| {
            thread::spawn(move || {
                let (mut received, mut own) = (Vec::new(), 0);
                for number in 1..=CHUNKS {
                    member.write_all(&[letter; CHUNK]).unwrap();
                    while own < number * CHUNK {
                        let mut bytes = [0; 8192];
                        let n = member.read(&mut bytes).unwrap();
                        own += bytes[..n].iter().filter(|&&byte| byte == letter).count();
                        received.extend_from_slice(&bytes[..n]);
                    }
                }
                let rest = 2 * CHUNK * CHUNKS - received.len();
                received.extend(take(&mut member, rest));
                (received, member)
            })
        })
        .collect();
    let all = take(&mut listener, 2 * CHUNK * CHUNKS);
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert!(senders.iter().all(|(received, _)| *received == all), "two members received different orders");
    for run in all.chunk_by(|a, b| a == b) {
        assert!(run.len().is_multiple_of(CHUNK), "a run of {} bytes", run.len());
    }
    drop((senders, listener));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_member_that_does_not_read_is_dropped_counted_and_logged_once() {
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat-hub=0"]);
    let before = server.descriptors();
    let mut members = server.members("chat-hub", 3);
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&server.addr("chat-hub").into()).unwrap();
    let memory = server.resident();
    let chunk = [b'x'; 1000];
    let mut rounds = 0;
    // The server holds its descriptor until the drop.
    while server.descriptors() > before + members.len() || rounds < 200 {
        assert!(rounds < 20_000, "the member that does not read was never dropped");
        members[0].write_all(&chunk).unwrap();
        for member in &mut members {
            assert_eq!(take(member, 1000), chunk);
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
