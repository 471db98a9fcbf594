//! An echo server on mio alone: the loop before any abstraction.
//!
//! - **Run** `cargo run --example bare_mio [ADDR]` (127.0.0.1:17008 unless given). Ctrl-C ends it.
//! - **Try** `nc 127.0.0.1 17008`. Then `nc 127.0.0.1 17008 < /dev/zero > /dev/null`, and the first one again.
//! - **Notice** what mio gives (events, on every system, edge by edge) and what it leaves to the program. mio reports an edge
//!   once: `pump` has to go on until the kernel returns `WouldBlock`, both ways, or the connection sleeps for ever. So a peer
//!   that never stops sending has the loop for itself. There are no deadlines, no lingering over unread input and no orderly
//!   stop, and protocol and machinery are one. In `src/reactor/` each of these has a place.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// The pause of accepting when no descriptor is left: no new edge reports a free one.
const BACKOFF: Duration = Duration::from_millis(100);

struct Connection {
    socket: TcpStream,
    unsent: Vec<u8>,
}

/// Reads and writes until a call would have to wait. Returns true if the connection goes on.
fn pump(Connection { socket, unsent }: &mut Connection, scratch: &mut [u8]) -> io::Result<bool> {
    loop {
        // While bytes are unsent, the program reads no more: memory has a bound, and TCP holds the peer back.
        let moved = if unsent.is_empty() { socket.read(scratch) } else { socket.write(unsent) };
        match moved {
            Ok(0) => return Ok(false),
            Ok(n) if unsent.is_empty() => unsent.extend_from_slice(&scratch[..n]),
            Ok(n) => drop(unsent.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17008".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut connections, mut last) = (HashMap::new(), LISTENER);
    let (mut events, mut scratch, mut backoff) = (Events::with_capacity(256), vec![0; 64 * 1024], None);
    println!("listening echo tcp {}", listener.local_addr()?);
    loop {
        match poll.poll(&mut events, backoff) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut accepting = backoff.take().is_some();
        for event in &events {
            accepting |= event.token() == LISTENER;
            if let Some(connection) = connections.get_mut(&event.token())
                && !pump(connection, &mut scratch).unwrap_or(false)
            {
                connections.remove(&event.token());
            }
        }
        while accepting {
            match listener.accept() {
                Ok((mut socket, _)) => {
                    let _ = socket.set_nodelay(true);
                    // A token is never used again: a late event must not hit a later connection.
                    last = Token(last.0 + 1);
                    // A socket that mio cannot register is dropped: the failure must not end the others.
                    if poll.registry().register(&mut socket, last, Interest::READABLE | Interest::WRITABLE).is_ok() {
                        connections.insert(last, Connection { socket, unsent: Vec::new() });
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    accepting = false;
                    backoff = (error.kind() != ErrorKind::WouldBlock).then_some(BACKOFF);
                }
            }
        }
    }
}
