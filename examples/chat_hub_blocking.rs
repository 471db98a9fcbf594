//! Pieces as they were read, to everyone, through a thread that owns the list. Its twin is `chat_hub_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_hub_blocking [ADDR]` (127.0.0.1:8002 unless given).
//! - **Try** `nc 127.0.0.1 8002` in two terminals, and talk. Then stop one with Ctrl-Z, end the other, and flood:
//!   `nc 127.0.0.1 8002 < /dev/zero > /dev/null`.
//! - **Notice** that there is no lock around the list: the members share a channel to the hub, which makes the order and
//!   alone knows who is in (in Go: a goroutine that owns the map). That is a loop of events once more, on top of threads
//!   that wait, and it has the rule of every loop: nothing in it may wait for a peer. So each member still has a queue
//!   with a bound, and a thread that writes (`member/mod.rs`).

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
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

/// The one who knows all members.
fn hub(events: Receiver<Event>) {
    let mut members = Roster::new();
    for event in events {
        match event {
            Event::Join(member) => _ = members.join(member, ()),
            Event::Piece(piece) => broadcast(members.keys(), &piece),
            Event::Leave(member) => {
                members.leave(&member);
                // Not earlier: its last words have only now come back to it.
                member.end();
            }
        }
    }
}

fn serve(peer: TcpStream, hub: &SyncSender<Event>) -> io::Result<()> {
    let me = Member::new(peer)?;
    let tell = |event| hub.send(event).expect("the hub ends after everybody who can tell it something");
    tell(Event::Join(Arc::clone(&me)));
    let mut piece = [0; 16 * 1024];
    // All that it sends comes back to it: it has to read that before it may send more. To be cut off ends its `read`.
    while me.wait_for_room()
        && let Ok(n @ 1..) = (&me.socket).read(&mut piece)
    {
        tell(Event::Piece(piece[..n].to_vec()));
    }
    tell(Event::Leave(me));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8002".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    // Few: whoever reads faster than the hub passes on waits for it here.
    let (sender, events) = sync_channel(16);
    thread::spawn(|| hub(events));
    println!("listening chat-hub tcp {}", listener.local_addr()?);
    loop {
        let hub = sender.clone();
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(move || serve(peer, &hub)));
        if let Err(error) = served {
            eprintln!("chat-hub: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
