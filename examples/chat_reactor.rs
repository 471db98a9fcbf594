//! A chat room on the reactor. Its twin is `chat_blocking.rs`.
//!
//! - **Run** `cargo run --example chat_reactor [ADDR]` (127.0.0.1:28000 unless given).
//! - **Try** `nc 127.0.0.1 28000` in two terminals, and talk. Then stop one with Ctrl-Z, end the other, and let a third
//!   talk without a pause: `yes | nc 127.0.0.1 28000 > /dev/null`.
//! - **Notice** that the room has no lock and its members have no threads: a running callback owns the room. The twin keeps
//!   the decoder's place in a line on the stack of a reading thread; here a table has a row for each connection. The loop
//!   `while wait_for_room` becomes `while !is_congested`. Instead of waiting, the callback returns and leaves the remaining
//!   lines unread: the reactor keeps them, and calls again when the speaker has read.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::id::{ConnId, ConnMap};
use reactor::limits::Policy;
use reactor::protocol::lines::{Decoded, LineDecoder};
use reactor::protocol::room::{ChatRoom, Notice, line_too_long};
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{CloseReason, Context, Service, ServiceContext};

/// The longest line, without its end.
const MAX_LINE: usize = 64 * 1024;

#[derive(Default)]
struct Chat {
    room: ChatRoom<ConnId>,
    decoders: ConnMap<LineDecoder>,
}

fn announce<'a>(ctx: &mut ServiceContext, notices: impl IntoIterator<Item = Notice<'a, ConnId>>) {
    notices.into_iter().for_each(|notice| ctx.broadcast(notice.to, notice.text.as_bytes()));
}

impl Chat {
    fn leave(&mut self, ctx: &mut ServiceContext, me: ConnId) {
        self.decoders.remove(me);
        announce(ctx, self.room.leave(&me));
    }
}

impl Service for Chat {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let (me, addr) = (ctx.id(), ctx.peer_addr());
        self.decoders.insert(me, LineDecoder::new(MAX_LINE));
        let arrival = self.room.arrive(me, addr);
        ctx.send(arrival.greeting.as_bytes());
        announce(ctx, [arrival.news]);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let (me, mut rest) = (ctx.id(), input);
        // The speaker gets its own lines, longer by its name, and has to read them before it may say more.
        while !ctx.is_congested()
            && let Some(decoder) = self.decoders.get_mut(me)
        {
            match decoder.decode(&mut rest) {
                Decoded::Line(line) => announce(ctx, self.room.say(&me, line)),
                Decoded::NeedMore => break,
                Decoded::TooLong => {
                    self.leave(ctx, me);
                    ctx.send(line_too_long(MAX_LINE).as_bytes());
                    ctx.finish();
                    return input.len();
                }
            }
        }
        input.len() - rest.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        let me = ctx.id();
        LineDecoder::last(rest).into_iter().for_each(|line| announce(ctx, self.room.say(&me, line)));
        self.leave(ctx, me);
        ctx.finish();
    }

    /// Every way to end leads here; the room announces a departure once.
    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let me = ctx.id();
        self.leave(ctx, me);
        if reason == CloseReason::Overflow {
            eprintln!("member {me} dropped: it reads too slowly, or not at all");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:28000".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let chat = reactor.add_service("chat", Box::new(Chat::default()));
    let listened = reactor.listen(chat, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat tcp {addr}");
    reactor.run()?;
    Ok(())
}
