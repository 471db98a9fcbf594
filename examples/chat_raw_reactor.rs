//! Every byte of every member to all members, on the reactor. Its twin is `chat_raw_blocking.rs`.
//!
//! - **Run** `cargo run --example chat_raw_reactor [ADDR]` (127.0.0.1:28001 unless given).
//! - **Try** `nc 127.0.0.1 28001` in three terminals.
//! - **Notice** what replaces the twin's lock, queues and writing threads. The callbacks run one after another, and that is
//!   the order for all members. The context records a `broadcast`, and the reactor applies it after the callback. Each queue
//!   is part of a connection, and the reactor writes it once at the end of the turn. The twin waits for room; here room is a
//!   number, `ctx.room()`. The bytes beyond it stay unread, and the reactor offers them again.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::id::ConnId;
use reactor::limits::Policy;
use reactor::protocol::roster::Roster;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{CloseReason, Context, Service};

#[derive(Default)]
struct Raw {
    members: Roster<ConnId>,
}

impl Service for Raw {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        // The member gets its own bytes as well, and has to read them before it may send more.
        let n = input.len().min(ctx.room());
        ctx.broadcast(self.members.keys(), &input[..n]);
        n
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
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:28001".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let chat = reactor.add_service("chat-raw", Box::new(Raw::default()));
    let listened = reactor.listen(chat, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening chat-raw tcp {addr}");
    reactor.run()?;
    Ok(())
}
