//! Pieces as they were read, to everyone, through a thread that owns the list. Its twin is `chat_hub_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_hub_blocking [ADDR]` (127.0.0.1:8002 unless given).
//! - **Try** `nc 127.0.0.1 8002` in two terminals. Stop one with Ctrl-Z, and flood the other:
//!   `nc 127.0.0.1 8002 < /dev/zero > /dev/null`.
//! - **Notice** that there is no lock: what the members share is a channel to the hub, which makes the order and alone knows
//!   who is in. That is a loop of events once more, on top of threads that wait. A piece is copied once and counted
//!   (`Arc`) for all of the queues. The bound of a queue is in pieces, for that is what a channel counts.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use std::{env, thread};

use reactor::protocol::room::Roster;

/// Pieces that may wait for a member who does not read: 4 MiB of the longest.
const BOUND: usize = 256;

enum Event {
    Join(u64, Member),
    Piece(u64, Arc<[u8]>),
    Leave(u64),
}

struct Member {
    socket: Arc<TcpStream>,
    queue: SyncSender<Arc<[u8]>>,
}

/// The one who knows all members.
fn hub(events: Receiver<Event>) {
    let (mut members, mut dropped) = (Roster::new(), 0);
    for event in events {
        match event {
            Event::Join(id, member) => _ = members.join(id, member),
            // With the only sender of its queue gone, its writer ends when it has written what there is.
            Event::Leave(id) => drop(members.leave(&id)),
            Event::Piece(id, piece) if members.get(&id).is_some() => {
                let mut slow = Vec::new();
                for id in members.keys() {
                    let sent = members.get(id).map(|member: &Member| member.queue.try_send(Arc::clone(&piece)));
                    slow.extend(matches!(sent, Some(Err(TrySendError::Full(_)))).then_some(*id));
                }
                for id in slow {
                    dropped += 1;
                    eprintln!("chat-hub: member {id} does not read and is dropped ({dropped} until now)");
                    // Its threads wait in `read` and in `write_all`: this ends both.
                    members.leave(&id).map(|member| member.socket.shutdown(Shutdown::Both));
                }
            }
            // What had been sent by one who has been dropped.
            Event::Piece(..) => {}
        }
    }
}

fn write(mut socket: &TcpStream, pieces: Receiver<Arc<[u8]>>) -> io::Result<()> {
    pieces.iter().try_for_each(|piece| socket.write_all(&piece))?;
    socket.shutdown(Shutdown::Write)
}

fn serve(id: u64, peer: TcpStream, hub: &SyncSender<Event>) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let (socket, (queue, pieces)) = (Arc::new(peer), sync_channel(BOUND));
    let writer = Arc::clone(&socket);
    thread::Builder::new().spawn(move || write(&writer, pieces))?;
    // The hub outlives everybody: it goes on for as long as somebody can send to it.
    let _ = hub.send(Event::Join(id, Member { socket: Arc::clone(&socket), queue }));
    let mut piece = [0; 16 * 1024];
    while let Ok(n @ 1..) = (&*socket).read(&mut piece) {
        let _ = hub.send(Event::Piece(id, piece[..n].into()));
    }
    let _ = hub.send(Event::Leave(id));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8002".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    // Few: whoever reads faster than the hub passes on waits for it here.
    let (sender, events) = sync_channel(16);
    thread::spawn(|| hub(events));
    println!("listening chat-hub tcp {}", listener.local_addr()?);
    for id in 0.. {
        let served = listener.accept().and_then(|(peer, _)| {
            let hub = sender.clone();
            thread::Builder::new().spawn(move || serve(id, peer, &hub))
        });
        if let Err(error) = served {
            eprintln!("chat-hub: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
