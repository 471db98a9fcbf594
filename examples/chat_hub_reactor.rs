//! The bytes of one read, in one piece, to all members, on the reactor. Its twin is `chat_hub_blocking.rs`.
//!
//! - **Run** `cargo run --example chat_hub_reactor [ADDR]` (127.0.0.1:28002 unless given).
//! - **Try** `nc 127.0.0.1 28002` in two terminals, and talk. Then stop one with Ctrl-Z, end the other, and flood:
//!   `nc 127.0.0.1 28002 < /dev/zero > /dev/null`.
//! - **Notice** that the service is the twin's hub, and the callbacks are its channel of events: nothing is sent or woken
//!   up in between. A member has no thread that could wait, so dropping it ends no thread. The reactor drops a member at the
//!   bound of its queue (`Policy::overflow`), and `on_close` gets the reason. A piece has up to 128 KiB: the reactor has
//!   one large read buffer for all connections, the twin a small one on each stack.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::id::ConnId;
use reactor::limits::Policy;
use reactor::protocol::roster::Roster;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{CloseReason, Context, Service};

#[derive(Default)]
struct Hub {
    members: Roster<ConnId>,
}

impl Service for Hub {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.broadcast(self.members.keys(), input);
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.members.leave(&ctx.id());
        ctx.finish();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        self.members.leave(&id);
        if reason == CloseReason::Overflow {
            eprintln!("member {id} dropped: it reads too slowly, or not at all");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:28002".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let chat = reactor.add_service("chat-hub", Box::new(Hub::default()));
    let listened = reactor.listen(chat, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat-hub tcp {addr}");
    reactor.run()?;
    Ok(())
}
