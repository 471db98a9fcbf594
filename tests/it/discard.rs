//! The discard service over real sockets.

use std::io::Write;
use std::net::Shutdown;

use crate::harness::{Server, pattern, read_all};

#[test]
fn all_input_is_taken_without_an_answer_until_the_peers_end() {
    let server = Server::start(&["discard=0", "echo=0"]);
    let mut peer = server.connect("discard");
    let sent = pattern(10_000_000);
    peer.write_all(&sent).unwrap();
    peer.write_all(b"!").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut peer), b"");
    drop(peer);
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    let echoed = b"still there?".len() as u64;
    assert_eq!(exit.count("bytes_in"), sent.len() as u64 + 1 + echoed);
    assert_eq!(exit.count("bytes_out"), echoed);
    assert_eq!(exit.count("closed_finished"), 2);
}

#[test]
fn a_peer_that_ends_at_once_is_answered_with_the_end() {
    let server = Server::start(&["discard=0"]);
    let before = server.descriptors();
    for _ in 0..20 {
        let mut peer = server.connect("discard");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut peer), b"");
    }
    server.assert_descriptors(before);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 20);
}
