//! Every byte of every member to all members, with two threads for each. Its twin is `chat_raw_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_raw_blocking [ADDR]` (127.0.0.1:18001 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 18001` in three terminals.
//! - **Notice** that a thread holds the lock while it fills all queues, and not only while it reads the list. Otherwise two
//!   threads could queue two pieces in a different order for two members. The lock must never cover a system call that
//!   waits: the queues and the writing threads (`member/mod.rs`) are there for that. Go's `sync.Mutex` around a map of
//!   connections leads into both of these traps.

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;
use std::{env, thread};

use member::{Member, broadcast};
use reactor::protocol::roster::Roster;

static MEMBERS: LazyLock<Mutex<Roster<Arc<Member>>>> = LazyLock::new(Mutex::default);

fn members() -> MutexGuard<'static, Roster<Arc<Member>>> {
    MEMBERS.lock().expect("no thread panics with it")
}

/// Relays the bytes of a member until its FIN, or until the member is cut off, which ends `read` as well.
fn relay(me: &Member) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    // The member gets its own bytes as well, and has to read them before it may send more.
    while me.wait_for_room() {
        match (&me.socket).read(&mut piece)? {
            0 => break,
            n => broadcast(members().keys(), &piece[..n]),
        }
    }
    Ok(())
}

fn serve(peer: TcpStream) -> io::Result<()> {
    let me = Member::new(peer)?;
    members().join(Arc::clone(&me), ());
    let outcome = relay(&me);
    members().leave(&me);
    me.end();
    outcome
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18001".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat-raw tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| serve(peer)));
        if let Err(error) = served {
            eprintln!("chat-raw: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
