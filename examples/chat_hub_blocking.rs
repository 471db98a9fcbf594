//! The bytes of one read, in one piece, to all members, through a thread that owns the list. Its twin is
//! `chat_hub_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_hub_blocking [ADDR]` (127.0.0.1:18002 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 18002` in two terminals, and talk. Then stop one with Ctrl-Z, end the other, and flood:
//!   `nc 127.0.0.1 18002 < /dev/zero > /dev/null`.
//! - **Notice** that the list has no lock. The members share a channel to the hub, and the hub alone knows the members and
//!   makes the order (in Go: a goroutine that owns the map). That is a loop of events once more, on top of threads that
//!   wait, and the rule of every loop holds: no event may wait for a peer. So each member still has a bounded queue, and a
//!   thread that writes (`member/mod.rs`).

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use std::{env, thread};

use member::{Member, broadcast};
use reactor::protocol::roster::Roster;

enum Event {
    Join(Arc<Member>),
    Piece(Vec<u8>),
    Leave(Arc<Member>),
}

/// Owns the members, and sends them each piece.
fn hub(events: Receiver<Event>) {
    let mut members = Roster::new();
    for event in events {
        match event {
            Event::Join(member) => _ = members.join(member, ()),
            Event::Piece(piece) => broadcast(members.keys(), &piece),
            Event::Leave(member) => {
                members.leave(&member);
                // Not earlier: its queue has its own last piece only now.
                member.end();
            }
        }
    }
}

fn serve(peer: TcpStream, hub: &SyncSender<Event>) -> io::Result<()> {
    let me = Member::new(peer)?;
    let send = |event| hub.send(event).expect("the hub ends after the last sender");
    send(Event::Join(Arc::clone(&me)));
    let mut piece = [0; 16 * 1024];
    // The member gets its own bytes as well, and has to read them before it may send more. Cutting it off ends `read`.
    while me.wait_for_room()
        && let Ok(n @ 1..) = (&me.socket).read(&mut piece)
    {
        send(Event::Piece(piece[..n].to_vec()));
    }
    send(Event::Leave(me));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18002".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    // Few: a member that sends faster than the hub relays waits here.
    let (sender, events) = sync_channel(16);
    thread::spawn(|| hub(events));
    println!("listening chat-hub tcp {}", listener.local_addr()?);
    loop {
        let hub = sender.clone();
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(move || serve(peer, &hub)));
        if let Err(error) = served {
            eprintln!("chat-hub: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
