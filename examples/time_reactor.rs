//! The local time, then the end, on the reactor. Its twin is `time_blocking.rs`.
//!
//! - **Run** `cargo run --example time_reactor [ADDR]` (127.0.0.1:27013 unless given).
//! - **Try** `nc 127.0.0.1 27013`, and `head -c 100000 /dev/zero | nc 127.0.0.1 27013`: a peer that sends all the while
//!   still gets the time.
//! - **Notice** that `finish` is the whole second half of the twin: flush, FIN, then read and discard until the peer's FIN
//!   or a deadline. The deadline is one instant for all of that, so a byte now and then does not keep a connection. The
//!   time zone needs no lock: one thread runs the service, as `&mut self`.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::limits::Policy;
use reactor::protocol::time_text::LocalTime;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{Context, Service};

struct Time {
    local: LocalTime,
}

impl Service for Time {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.wall_clock();
        ctx.send(self.local.line(now));
        ctx.finish();
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27013".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let time = reactor.add_service("time", Box::new(Time { local: LocalTime::of_system() }));
    let listened = reactor.listen(time, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening time tcp {addr}");
    reactor.run()?;
    Ok(())
}
