//! A chat room with two threads for each member and a mutex around the room. Its twin is `chat_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_blocking [ADDR]` (127.0.0.1:18000 unless given).
//!   Ctrl-C ends it. In the background (`&`) only `kill` does: a shell lets such a job ignore SIGINT.
//! - **Try** `nc 127.0.0.1 18000` in two terminals. Then stop one with Ctrl-Z, end the other, and let a third talk
//!   without a pause: `yes | nc 127.0.0.1 18000 > /dev/null`.
//! - **Notice** how much code decides which thread may wait where. A thread that holds the room must not write to a socket:
//!   one peer that does not read would stop all. Hence each member has a queue and a second thread (`member/mod.rs`). The
//!   order of the lines is the order of the lock. The queue has two bounds. At the first, the speaker waits until it has
//!   read its own lines. Only the lines of others reach the second, which cuts a member off.

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;
use std::{env, thread};

use member::{Member, broadcast};
use reactor::protocol::lines::{Decoded, LineDecoder};
use reactor::protocol::room::{ChatRoom, Notice, line_too_long};

/// The longest line, without its end.
const MAX_LINE: usize = 64 * 1024;

/// The longest silence of a peer after our FIN.
const LINGER: Duration = Duration::from_secs(30);

static ROOM: LazyLock<Mutex<ChatRoom<Arc<Member>>>> = LazyLock::new(Mutex::default);

fn room() -> MutexGuard<'static, ChatRoom<Arc<Member>>> {
    ROOM.lock().expect("no thread panics with it")
}

/// Queues the room's texts. The caller holds the lock, so that the next text follows.
fn announce<'a>(notices: impl IntoIterator<Item = Notice<'a, Arc<Member>>>) {
    notices.into_iter().for_each(|notice| broadcast(notice.to, notice.text.as_bytes()));
}

/// Relays the lines of a member until its FIN, or until the member is cut off, which ends `read` as well.
fn relay(me: &Arc<Member>) -> io::Result<()> {
    let mut decoder = LineDecoder::new(MAX_LINE);
    let (mut unread, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let n = (&me.socket).read(&mut piece)?;
        unread.extend_from_slice(&piece[..n]);
        let mut rest = &unread[..];
        // The speaker gets its own lines, longer by its name, and has to read them before it may say more.
        while me.wait_for_room() {
            match decoder.decode(&mut rest) {
                Decoded::Line(line) => announce(room().say(me, line)),
                Decoded::NeedMore => break,
                Decoded::TooLong => {
                    announce(room().leave(me));
                    me.send(line_too_long(MAX_LINE).as_bytes());
                    return Ok(());
                }
            }
        }
        if n == 0 {
            let last = LineDecoder::last(rest).filter(|_| me.wait_for_room());
            last.into_iter().for_each(|line| announce(room().say(me, line)));
            return Ok(());
        }
        unread.drain(..unread.len() - rest.len());
    }
}

fn serve(peer: TcpStream) -> io::Result<()> {
    let me = Member::new(peer)?;
    {
        let mut room = room();
        let arrival = room.arrive(Arc::clone(&me), me.name);
        me.send(arrival.greeting.as_bytes());
        announce([arrival.news]);
    }
    let outcome = relay(&me);
    announce(room().leave(&me));
    me.end();
    // Unread bytes would turn the end into a reset, and the peer could not read why its line was refused.
    me.socket.set_read_timeout(Some(LINGER))?;
    io::copy(&mut &me.socket, &mut io::sink()).and(outcome)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18000".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| serve(peer)));
        if let Err(error) = served {
            eprintln!("chat: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
