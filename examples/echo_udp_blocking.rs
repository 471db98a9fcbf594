//! Echo over UDP (RFC 862) on a blocking socket. Its twin is `echo_udp_reactor.rs`.
//!
//! - **Run** `cargo run --example echo_udp_blocking [ADDR]` (127.0.0.1:17007 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc -u 127.0.0.1 17007`: each line is a datagram.
//! - **Notice** that one thread is enough even here: without connections, no peer waits for another. Each datagram costs
//!   two system calls. While `send_to` waits for room, the socket receives nothing. Bound to 0.0.0.0, the socket answers
//!   from the address that the kernel chooses, which is not always the address that the sender used.

use std::env;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let socket = UdpSocket::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo-udp udp {}", socket.local_addr()?);
    // Longer than any datagram, so that the kernel never cuts one.
    let mut buffer = vec![0; 65_536];
    loop {
        // Zero bytes are an empty datagram, not an end of file.
        let echoed = socket.recv_from(&mut buffer).and_then(|(n, sender)| socket.send_to(&buffer[..n], sender));
        if let Err(error) = echoed {
            // The error concerns one datagram, or a sender that has gone. The socket goes on.
            eprintln!("echo-udp: {error}");
        }
    }
}
