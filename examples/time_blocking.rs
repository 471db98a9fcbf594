//! The local time, then the end, with a thread for each connection. Its twin is `time_reactor.rs`.
//!
//! - **Run** `cargo run --example time_blocking [ADDR]` (127.0.0.1:7013 unless given).
//! - **Try** `nc 127.0.0.1 7013`, and `head -c 100000 /dev/zero | nc 127.0.0.1 7013`: who talks all the while still gets
//!   the time.
//! - **Notice** how much of so small a server is about its end. A socket that is closed over unread bytes resets the
//!   connection (in Go as well), and the peer may lose a line that has been sent already; so there are a FIN and a second
//!   wait, and that wait is why even this server needs a thread for each peer. Its timeout is for each `read`: a peer that
//!   sends a byte now and then keeps the thread for ever.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime};
use std::{env, thread};

use reactor::protocol::time_text::LocalTime;

/// How long a peer that has our FIN may be silent.
const LINGER: Duration = Duration::from_secs(30);

/// The time zone, and the line of this second.
static LOCAL: LazyLock<Mutex<LocalTime>> = LazyLock::new(|| Mutex::new(LocalTime::of_system()));

fn tell_time(mut peer: TcpStream) -> io::Result<()> {
    // A copy: nobody shall wait for the lock because somebody else's peer does not read.
    let line = LOCAL.lock().expect("no thread panics with it").line(SystemTime::now()).to_vec();
    peer.write_all(&line)?;
    peer.shutdown(Shutdown::Write)?;
    peer.set_read_timeout(Some(LINGER))?;
    io::copy(&mut peer, &mut io::sink()).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7013".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening time tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| tell_time(peer)));
        if let Err(error) = served {
            eprintln!("time: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
