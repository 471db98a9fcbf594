//! A TCP forwarder: each client is joined to a connection of its own to the upstream. Its twin is `proxy_blocking.rs`.
//!
//! - **Run** `cargo run --release --example proxy 127.0.0.1:27022 127.0.0.1:8080`: the clients of port 27022 reach the
//!   server at port 8080. The upstream may have a Unix socket as well: `unix:/run/server.sock`.
//! - **Try** `curl 127.0.0.1:27022`, or `nc 127.0.0.1:27022` before a server that echoes.
//! - **Notice** that `dial` returns the id of the connection at once: the pair is known before the upstream has answered, and
//!   what the client sends meanwhile is queued. `splice` is the whole flow control. The service sees no byte, bulk stays
//!   inside the kernel, and a client whose upstream does not read is not read either. (`forward` does the same with bytes
//!   that the service looks at.) Each FIN becomes a half-close. Every end other than a FIN each way becomes a reset: a peer
//!   must not take a cut stream for a complete one.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process;
use std::time::Duration;

use reactor::{Addr, CloseReason, ConnId, ConnMap, Context, Dial, ListenOptions, Policy, Reactor, Service};

struct Proxy {
    upstream: Addr,
    /// The other connection of each pair.
    others: ConnMap<ConnId>,
}

impl Proxy {
    fn other<'a>(&self, ctx: &'a mut Context<'_>) -> Option<Context<'a>> {
        let other = *self.others.get(ctx.id())?;
        ctx.connection(other)
    }
}

impl Service for Proxy {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let dial = Dial::to(self.upstream.clone()).within(Duration::from_secs(10)).with(Policy::relay());
        let (client, upstream) = (ctx.id(), ctx.dial(dial));
        self.others.insert(client, upstream);
        self.others.insert(upstream, client);
        ctx.splice(upstream);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        if let Some(&client) = self.others.get(ctx.id()) {
            ctx.splice(client);
        }
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        eprintln!("cannot reach {}: {reason}", self.upstream);
        self.on_close(ctx, reason);
    }

    /// No byte comes here: all input is handed over.
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _: &[u8]) {
        if let Some(mut other) = self.other(ctx) {
            other.half_close();
        }
    }

    /// A stop closes the listener. The connections go on to their own ends, or to a reset when the grace period is over.
    fn on_stop(&mut self, _: &mut Context<'_>) {}

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        if reason != CloseReason::Finished
            && let Some(mut other) = self.other(ctx)
        {
            other.reset();
        }
        self.others.remove(ctx.id());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let addrs = (args.next().map(|arg| arg.parse::<SocketAddr>()), args.next().map(|arg| arg.parse::<Addr>()));
    let ((Some(Ok(addr)), Some(Ok(upstream))), None) = (addrs, args.next()) else {
        eprintln!("usage: proxy LISTEN UPSTREAM   (addresses, as 127.0.0.1:27022 127.0.0.1:8080)");
        process::exit(2);
    };
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let proxy = reactor.add_service("proxy", Box::new(Proxy { upstream, others: ConnMap::new() }));
    let listened = reactor.listen(proxy, addr, &ListenOptions::default(), Policy::relay());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening proxy tcp {addr}");
    Ok(reactor.run().map(drop)?)
}
