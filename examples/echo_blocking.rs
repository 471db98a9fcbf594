//! Echo (RFC 862) with a thread for each connection. Its twin is `echo_reactor.rs`.
//!
//! - **Run** `cargo run --example echo_blocking [ADDR]` (127.0.0.1:17007 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 17007`: type, and end with Ctrl-D. Open a few more and count the threads:
//!   `ls /proc/$(pgrep echo_blocking)/task`.
//! - **Notice** that `echo` reads like the protocol, because two places hide everything else. `read` waits for bytes from
//!   the peer, and `write_all` waits for room in the peer's buffers. The kernel keeps a stack for each thread that waits.
//!   Go hides the same two places, and its runtime keeps the stack: a parked goroutine. A peer that does not read holds
//!   up its own thread and no other, at the cost of that thread. No call stops a thread that waits: Ctrl-C ends the
//!   process, in whatever state its threads are.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

fn echo(mut peer: TcpStream) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match peer.read(&mut buffer)? {
            // The peer's FIN. Every byte is written, and dropping the socket sends our FIN.
            0 => return Ok(()),
            n => peer.write_all(&buffer[..n])?,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| echo(peer)));
        if let Err(error) = served {
            eprintln!("echo: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
