//! HTTP/1.1 with a thread for each connection. Its twin is `http_reactor.rs`.
//!
//! - **Run** `cargo run --example http_blocking [ADDR]` (127.0.0.1:18080 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `curl -v 127.0.0.1:18080/time` and `curl -d hello 127.0.0.1:18080/echo`. Then be slow on purpose:
//!   `nc 127.0.0.1 18080`, type half a request, and wait ten seconds.
//! - **Notice** the arithmetic around `read`. A head has ten seconds in all, but a socket's timeout is for one call, so the
//!   thread computes the time left before each call. Without that, a byte now and then keeps the thread for ever. Between
//!   two requests the thread waits, with its stack, until the browser closes its connection.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use reactor::protocol::http::{Conversation, Phase, Site};
use reactor::protocol::time_text::LocalTime;

/// The longest time for a head, pause in a body, pause between requests, and time that an answer stays unread.
const HEAD: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(60);

/// The longest silence of a peer after our FIN.
const LINGER: Duration = Duration::from_secs(30);

fn serve(mut peer: TcpStream, site: &Mutex<Site>) -> io::Result<()> {
    peer.set_nodelay(true)?;
    peer.set_write_timeout(Some(WRITE))?;
    let (mut conversation, mut unread, mut output) = (Conversation::NEW, Vec::new(), Vec::new());
    let mut scratch = [0; 16 * 1024];
    let mut head_due = Instant::now();
    loop {
        let timeout = match conversation.phase() {
            Phase::Idle => KEEP_ALIVE,
            // Zero would switch the timeout off.
            Phase::Head => head_due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            Phase::Body => BODY,
            Phase::Done => break,
        };
        peer.set_read_timeout(Some(timeout))?;
        let read = peer.read(&mut scratch);
        {
            // The lock protects the texts of this second; no thread reads or writes while it holds the lock.
            let mut site = site.lock().expect("no thread panics with it");
            site.set_time(SystemTime::now());
            match read {
                Ok(0) => conversation.end(&site, &mut output),
                Ok(n) => {
                    unread.extend_from_slice(&scratch[..n]);
                    let before = conversation.phase();
                    let consumed = conversation.receive(&site, &unread, usize::MAX, &mut output);
                    unread.drain(..consumed);
                    if before != Phase::Head || consumed > 0 {
                        head_due = Instant::now() + HEAD;
                    }
                }
                Err(ref error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    conversation.time_out(&site, &mut output);
                }
                Err(ref error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        peer.write_all(&output)?;
        output.clear();
        if matches!(read, Ok(0)) || (read.is_err() && conversation.phase() == Phase::Idle) {
            break;
        }
    }
    // Unread bytes would turn the end into a reset, and the client could not read the answer.
    peer.shutdown(Shutdown::Write)?;
    peer.set_read_timeout(Some(LINGER))?;
    io::copy(&mut peer, &mut io::sink()).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18080".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    let index = "<!DOCTYPE html><title>http_blocking</title><p>One thread for each connection.".to_owned();
    let site = Arc::new(Mutex::new(Site::new(index, 1024 * 1024, LocalTime::of_system())));
    println!("listening http tcp {}", listener.local_addr()?);
    loop {
        let site = Arc::clone(&site);
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(move || serve(peer, &site)));
        if let Err(error) = served {
            eprintln!("http: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
