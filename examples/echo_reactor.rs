//! Echo (RFC 862) on the reactor: one thread for all connections. Its twin is `echo_blocking.rs`.
//!
//! - **Run** `cargo run --example echo_reactor [ADDR]` (127.0.0.1:7007 unless given).
//! - **Try** the same as with the twin: `ls /proc/$(pgrep echo_reactor)/task` counts one thread, however many connections
//!   you open. `pkill -USR1 echo_reactor` prints them.
//! - **Notice** what has become of the two places where the twin waits, and Go parks a goroutine. The reactor waits for
//!   everybody at once; `on_data` is what follows a `read` that had something. `write_all` has become a command: what the
//!   kernel does not take is queued with the connection, and a peer that does not listen is not read until it does. The
//!   half-close, one `return` in the twin, is a callback of its own. Ctrl-C is one more event, because there is one place
//!   that waits for all of them: who is connected is served to the end first, within five seconds (`limits::GRACE`).

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::limits::Policy;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{Context, Service, Span};

struct Echo;

impl Service for Echo {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        // From the buffer that it was read into: no copy unless the kernel has no room.
        ctx.send_input(Span { start: 0, end: input.len() });
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        // The peer's FIN. Ours follows when all that is queued has been written.
        ctx.finish();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let echo = reactor.add_service("echo", Box::new(Echo));
    let listened = reactor.listen(echo, addr, &ListenOptions::default(), Policy::default());
    let addr = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo tcp {addr}");
    reactor.run()?;
    Ok(())
}
