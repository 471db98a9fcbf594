//! The echo service over real sockets, byte by byte.

mod harness;

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use harness::{Server, pattern, read_all};

#[test]
fn a_half_close_is_answered_after_the_last_byte() {
    let server = Server::start(&["echo=0"]);
    let sent = pattern(1 << 20);
    let peer = server.connect("echo");
    let (mut writer, mut reader) = (peer.try_clone().unwrap(), peer);
    let writing = thread::spawn({
        let sent = sent.clone();
        move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    assert!(read_all(&mut reader) == sent, "the echo differs");
    writing.join().unwrap();
    drop(reader);
    server.assert_serves();
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("closed_finished"), 2);
}
