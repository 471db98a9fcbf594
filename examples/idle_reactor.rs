//! Three seconds of silence end the connection, on the reactor. Its twin is `idle_blocking.rs`.
//!
//! - **Run** `cargo run --example idle_reactor [ADDR]` (127.0.0.1:27014 unless given).
//! - **Try** `nc 127.0.0.1 27014`: press Return now and then, and stop.
//! - **Notice** that time is an event like any other: no call returns "too late", the reactor calls `on_deadline`. A
//!   deadline is an instant, as for Go's `SetReadDeadline`. The example sets it by hand to show that: each piece of input
//!   moves the deadline with one store, and no system call. (A `Policy` with an `idle_timeout` needs no code at all.)

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::limits::Policy;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{Context, Service};
use reactor::timer::Deadline;

/// The longest silence of a peer.
const IDLE: Duration = Duration::from_secs(3);

struct Idle;

impl Service for Idle {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.set_deadline(Deadline::Read, ctx.now() + IDLE);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.set_deadline(Deadline::Read, ctx.now() + IDLE);
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        if which == Deadline::Read {
            ctx.send(b"goodbye\n");
        }
        ctx.finish();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27014".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let idle = reactor.add_service("idle", Box::new(Idle));
    let listened = reactor.listen(idle, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening idle tcp {addr}");
    reactor.run()?;
    Ok(())
}
