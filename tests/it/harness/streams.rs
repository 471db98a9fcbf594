//! Connected sockets of the tests: exchange, fill, read to the end, reset.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::process::Stopwatch;
use super::{PATIENCE, Server, eventually};

/// Connects a TCP client whose calls end after [`PATIENCE`].
pub fn client(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes `bytes` and reads the same number of bytes.
pub fn exchange(peer: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    peer.write_all(bytes).expect("write");
    take(peer, bytes.len())
}

/// Reads `count` bytes.
pub fn take(peer: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).expect("read");
    bytes
}

/// Reads to the end of file.
pub fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("read to the end");
    all
}

/// Writes to `server` without reading until the kernel takes nothing for 300 ms, in which the server could run. Returns
/// the number of bytes taken.
pub fn fill_up(server: &Server, peer: &mut TcpStream) -> usize {
    let chunk = pattern(64 * 1024);
    peer.set_nonblocking(true).unwrap();
    let (mut total, mut still) = (0, Stopwatch::of_process(server.pid()));
    let stuck = eventually(PATIENCE, || {
        while let Ok(n) = peer.write(&chunk[total % chunk.len()..]) {
            (total, still) = (total + n, Stopwatch::of_process(server.pid()));
        }
        still.granted() > Duration::from_millis(300)
    });
    peer.set_nonblocking(false).unwrap();
    assert!(stuck, "the server took {total} bytes and does not stop");
    total
}

/// Returns bytes that differ from place to place, so that a loss, a swap or a repetition shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Closes with RST instead of FIN.
pub fn reset(peer: TcpStream) {
    let socket = socket2::SockRef::from(&peer);
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}
