//! Echo over UDP (RFC 862) on the reactor. Its twin is `echo_udp_blocking.rs`.
//!
//! - **Run** `cargo run --example echo_udp_reactor [ADDR]` (127.0.0.1:7007 unless given).
//! - **Try** `nc -u 127.0.0.1 7007`: each line is a datagram.
//! - **Notice** that the service hears of one datagram at a time, while the reactor takes up to 64 with one system call and
//!   answers them with another. When the kernel has no room for an answer the loop goes on receiving: the answer waits in a
//!   queue with a bound, past which it is dropped and counted, as a router would do. The answer leaves from the address
//!   that was asked, on a socket bound to 0.0.0.0, too.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{DatagramContext, DatagramService};

struct Echo;

impl DatagramService for Echo {
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, _payload: &[u8]) {
        // The payload stays where it was received.
        ctx.reply_same();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let bound = reactor.bind_datagram("echo-udp", Box::new(Echo), addr, &ListenOptions::default());
    let (_, addr) = bound.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo-udp udp {addr}");
    reactor.run()?;
    Ok(())
}
