//! Echo over UDP (RFC 862) on the reactor. Its twin is `echo_udp_blocking.rs`.
//!
//! - **Run** `cargo run --example echo_udp_reactor [ADDR]` (127.0.0.1:27007 unless given).
//! - **Try** `nc -u 127.0.0.1 27007`: each line is a datagram.
//! - **Notice** that a callback receives one datagram, while the reactor takes up to 64 with one system call and answers
//!   them with another. When the kernel has no room for an answer, the loop goes on receiving: the answer waits in a
//!   bounded queue. Past the bound the reactor drops and counts it, as a router would. On a socket bound to 0.0.0.0, too,
//!   the answer leaves from the address that the sender used.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{DatagramContext, DatagramService};

struct Echo;

impl DatagramService for Echo {
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, _payload: &[u8]) {
        // The payload stays in the receive buffer.
        ctx.reply_same();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27007".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let echo = reactor.add_datagram_service("echo-udp", Box::new(Echo));
    let bound = reactor.bind_datagram(echo, addr, &ListenOptions::default());
    let (_, addr) = bound.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening echo-udp udp {addr}");
    reactor.run()?;
    Ok(())
}
