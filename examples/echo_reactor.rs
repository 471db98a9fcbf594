//! Echo (RFC 862) on the reactor: one thread for all connections. Its twin is `echo_blocking.rs`.
//!
//! - **Run** `cargo run --example echo_reactor [ADDR]` (127.0.0.1:27007 unless given).
//! - **Try** `nc 127.0.0.1 27007`, several times. `ls /proc/$(pgrep echo_reactor)/task` shows one thread, however many
//!   connections are open. `pkill -USR1 echo_reactor` prints them.
//! - **Notice** what replaces the two places where the twin waits, and where Go parks a goroutine. The reactor waits for
//!   all connections at once, and calls `on_data` after a `read` that returned bytes. `write_all` becomes a command: the
//!   connection queues the bytes that the kernel does not take, and the reactor stops reading a peer that does not read.
//!   The half-close, one `return` in the twin, is a callback. Ctrl-C is one more event of the one place that waits: open
//!   connections get up to five seconds to finish (`limits::GRACE`).

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::limits::Policy;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{Context, Service, Span};

struct Echo;

impl Service for Echo {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        // Sends from the read buffer: no copy unless the kernel has no room.
        ctx.send_input(Span { start: 0, end: input.len() });
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        // The peer's FIN. Our FIN follows the last queued byte.
        ctx.finish();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let echo = reactor.add_service("echo", Box::new(Echo));
    let listened = reactor.listen(echo, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo tcp {addr}");
    reactor.run()?;
    Ok(())
}
