//! Three seconds of silence end the connection, with a thread for each. Its twin is `idle_reactor.rs`.
//!
//! - **Run** `cargo run --example idle_blocking [ADDR]` (127.0.0.1:17014 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 17014`: press Return now and then, and stop.
//! - **Notice** that the timeout is the kernel's (`SO_RCVTIMEO`) and belongs to one call. The program sets it once, and
//!   each `read` starts it anew, as this protocol needs. A protocol with a fixed end has to compute the time left before
//!   each `read`. And the kernel reports the timeout with the error for "no data": `WouldBlock`, on a socket that blocks.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// The longest silence of a peer.
const IDLE: Duration = Duration::from_secs(3);

/// The longest silence of a peer after our FIN.
const LINGER: Duration = Duration::from_secs(30);

fn watch(mut peer: TcpStream) -> io::Result<()> {
    peer.set_read_timeout(Some(IDLE))?;
    let mut buffer = [0; 4096];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        }
    }
    peer.write_all(b"goodbye\n")?;
    peer.shutdown(Shutdown::Write)?;
    peer.set_read_timeout(Some(LINGER))?;
    io::copy(&mut peer, &mut io::sink()).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17014".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening idle tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| watch(peer)));
        if let Err(error) = served {
            eprintln!("idle: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
