//! Every byte from anyone to everyone, with two threads for each member. Its twin is `chat_raw_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_raw_blocking [ADDR]` (127.0.0.1:8001 unless given).
//! - **Try** `nc 127.0.0.1 8001` in three terminals.
//! - **Notice** that the lock is held while a piece is put into all of the queues, and not only while the list is read:
//!   two pieces that were put there by two threads at the same time would reach two members in different orders. What the
//!   lock must never cover is a system call that waits; the queues and the writers' threads (`member/mod.rs`) are there
//!   for that. Go's `sync.Mutex` around a map of connections leads into both of these traps.

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;
use std::{env, thread};

use member::{Member, broadcast};
use reactor::protocol::roster::Roster;

static MEMBERS: LazyLock<Mutex<Roster<Arc<Member>>>> = LazyLock::new(Mutex::default);

fn members() -> MutexGuard<'static, Roster<Arc<Member>>> {
    MEMBERS.lock().expect("no thread panics with it")
}

/// Passes on what a member sends until its FIN, or until it is cut off, which ends its `read` as well.
fn hear(me: &Member) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    // All that it sends comes back to it: it has to read that before it may send more.
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
    let heard = hear(&me);
    members().leave(&me);
    me.end();
    heard
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat-raw tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| serve(peer)));
        if let Err(error) = served {
            eprintln!("chat-raw: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
