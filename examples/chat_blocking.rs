//! A chat room with two threads for each member and a mutex around the room. Its twin is `chat_reactor.rs`.
//!
//! - **Run** `cargo run --example chat_blocking [ADDR]` (127.0.0.1:8000 unless given).
//! - **Try** `nc 127.0.0.1 8000` in two terminals, and talk. Then stop one with Ctrl-Z, end the other, and let somebody
//!   else talk without a pause: `yes | nc 127.0.0.1 8000 > /dev/null`.
//! - **Notice** how much of this is about who may wait where. Nobody writes to a socket while holding the room, or one who
//!   does not read would stop everybody: hence a queue and a second thread for each member (`member/mod.rs`). The order of
//!   the lines is the order in which speakers get the lock. The queue has two bounds: at the first a speaker waits until
//!   it has read its own lines; at the second, which only the lines of others reach, a member is cut off.

mod member;

use std::error::Error;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;
use std::{env, thread};

use member::{Member, broadcast};
use reactor::protocol::lines::{Decoded, LineDecoder};
use reactor::protocol::room::{ChatRoom, Notice, line_too_long};

/// The longest line, its end not counted.
const MAX_LINE: usize = 64 * 1024;

/// How long a peer that has our FIN may be silent.
const LINGER: Duration = Duration::from_secs(30);

static ROOM: LazyLock<Mutex<ChatRoom<Arc<Member>>>> = LazyLock::new(Mutex::default);

fn room() -> MutexGuard<'static, ChatRoom<Arc<Member>>> {
    ROOM.lock().expect("no thread panics with it")
}

/// Puts what the room says into the queues. The room is locked meanwhile, and whoever says something else comes after it.
fn tell<'a>(notices: impl IntoIterator<Item = Notice<'a, Arc<Member>>>) {
    notices.into_iter().for_each(|notice| broadcast(notice.to, notice.text.as_bytes()));
}

/// Passes on what a member says until its FIN, or until it is cut off, which ends its `read` as well.
fn hear(me: &Arc<Member>) -> io::Result<()> {
    let mut decoder = LineDecoder::new(MAX_LINE);
    let (mut unread, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let n = (&me.socket).read(&mut piece)?;
        unread.extend_from_slice(&piece[..n]);
        let mut rest = &unread[..];
        // Its own lines come back to it, longer by its name: it has to read them before it may say more.
        while me.wait_for_room() {
            match decoder.decode(&mut rest) {
                Decoded::Line(line) => tell(room().say(me, line)),
                Decoded::NeedMore => break,
                Decoded::TooLong => {
                    tell(room().leave(me));
                    me.send(line_too_long(MAX_LINE).as_bytes());
                    return Ok(());
                }
            }
        }
        if n == 0 {
            let last = LineDecoder::last(rest).filter(|_| me.wait_for_room());
            last.into_iter().for_each(|line| tell(room().say(me, line)));
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
        tell([arrival.news]);
    }
    let heard = hear(&me);
    // However it has ended, the room is told once.
    tell(room().leave(&me));
    me.end();
    // Unread bytes must not turn the end into a reset: one whose line was too long shall read why.
    me.socket.set_read_timeout(Some(LINGER))?;
    io::copy(&mut &me.socket, &mut io::sink()).and(heard)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat tcp {}", listener.local_addr()?);
    loop {
        let served = listener.accept().and_then(|(peer, _)| thread::Builder::new().spawn(|| serve(peer)));
        if let Err(error) = served {
            eprintln!("chat: {error}");
            // There may be no descriptor or no thread left until somebody ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
