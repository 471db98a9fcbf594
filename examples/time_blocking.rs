//! The local time, then the end, with a thread for each connection. Its twin is `time_reactor.rs`.
//!
//! - **Run** `cargo run --example time_blocking [ADDR]` (127.0.0.1:17013 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 17013`, and `head -c 100000 /dev/zero | nc 127.0.0.1 17013`: a peer that sends all the while
//!   still gets the time.
//! - **Notice** that most of this small server is about the end. Closing a socket with unread bytes resets the connection
//!   (in Go as well), and the peer may lose a line that is already sent. Hence the FIN and a second wait, and for that wait
//!   even this server needs a thread for each peer. The timeout belongs to each `read`: a peer that sends a byte now and
//!   then keeps its thread for ever.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime};
use std::{env, thread};

use reactor::protocol::time_text::LocalTime;

/// The longest silence of a peer after our FIN.
const LINGER: Duration = Duration::from_secs(30);

/// The time zone, and the line of this second.
static LOCAL: LazyLock<Mutex<LocalTime>> = LazyLock::new(|| Mutex::new(LocalTime::of_system()));

fn tell_time(mut peer: TcpStream) -> io::Result<()> {
    // A copy, so that no thread holds the lock while its peer does not read.
    let line = LOCAL.lock().expect("no thread panics with it").line(SystemTime::now()).to_vec();
    peer.write_all(&line)?;
    peer.shutdown(Shutdown::Write)?;
    peer.set_read_timeout(Some(LINGER))?;
    io::copy(&mut peer, &mut io::sink()).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17013".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening time tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| tell_time(peer)));
        if let Err(error) = served {
            eprintln!("time: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
