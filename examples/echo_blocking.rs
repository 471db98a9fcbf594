//! Echo (RFC 862) with a thread for each connection. Its twin is `echo_reactor.rs`.
//!
//! - **Run** `cargo run --example echo_blocking [ADDR]` (127.0.0.1:7007 unless given).
//! - **Try** `nc 127.0.0.1 7007`: type, and end with Ctrl-D. Open a few more and count:
//!   `ls /proc/$(pgrep echo_blocking)/task`.
//! - **Notice** that `echo` reads like the protocol, because everything else is hidden in two places: `read` waits for the
//!   peer to speak, `write_all` for the peer to listen, and the kernel keeps a stack for whoever waits. (Go hides the same
//!   two places, and its runtime keeps the stack: a parked goroutine.) A peer that does not read holds up its own thread
//!   and nobody else; what it costs is that thread. And no thread that waits can be told to stop: Ctrl-C ends the process,
//!   whatever they are at.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

fn echo(mut peer: TcpStream) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match peer.read(&mut buffer)? {
            // The peer's FIN. All has been written: the socket is dropped, which sends ours.
            0 => return Ok(()),
            n => peer.write_all(&buffer[..n])?,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| echo(peer)));
        if let Err(error) = served {
            eprintln!("echo: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
