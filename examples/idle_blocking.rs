//! Three seconds of silence cost the connection, with a thread for each. Its twin is `idle_reactor.rs`.
//!
//! - **Run** `cargo run --example idle_blocking [ADDR]` (127.0.0.1:7014 unless given).
//! - **Try** `nc 127.0.0.1 7014`: press Return now and then, and then no more.
//! - **Notice** that the timeout is the kernel's (`SO_RCVTIMEO`) and belongs to one call: `set_read_timeout` is made once and
//!   each `read` begins anew, which is just what this protocol wants. One that must be over at a certain time, whatever
//!   arrives, would have to compute what is left before each `read`. And the timeout is told in the same words as "no
//!   data": `WouldBlock`, on a socket that blocks.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// How long a peer may be silent.
const IDLE: Duration = Duration::from_secs(3);

/// How long a peer that has our FIN may be silent.
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
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7014".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening idle tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| watch(peer)));
        if let Err(error) = served {
            eprintln!("idle: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
