//! Echo over UDP (RFC 862) on a blocking socket. Its twin is `echo_udp_reactor.rs`.
//!
//! - **Run** `cargo run --example echo_udp_blocking [ADDR]` (127.0.0.1:7007 unless given).
//! - **Try** `nc -u 127.0.0.1 7007`: each line is a datagram.
//! - **Notice** that one thread is enough even here: there are no connections, so there is nobody else to keep waiting. It
//!   costs two system calls per datagram, and while `send_to` waits for room nothing is received. Bound to 0.0.0.0 the
//!   answer comes from whichever address the kernel likes, not always from the one that was asked.

use std::env;
use std::error::Error;
use std::net::UdpSocket;

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let socket = UdpSocket::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo-udp udp {}", socket.local_addr()?);
    // More than the longest datagram: none is ever cut.
    let mut buffer = vec![0; 65_536];
    loop {
        // One of no bytes is a datagram as well: 0 is not the end of anything.
        let echoed = socket.recv_from(&mut buffer).and_then(|(n, sender)| socket.send_to(&buffer[..n], sender));
        if let Err(error) = echoed {
            // About one datagram, or about one sender who has gone. The socket is fine.
            eprintln!("echo-udp: {error}");
        }
    }
}
