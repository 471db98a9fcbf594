//! A port forwarder: each connection is joined to one at UPSTREAM.
//!
//! Shows `dial`, which returns the id of the connection at once, and `forward`, which hands the input of one connection to
//! another and stops reading while the other is full. A half-close is passed on, and so is a reset.
//!
//! Run: `cargo run --release --example proxy 127.0.0.1:7000 127.0.0.1:7007`, and `nc 127.0.0.1 7000`.
//! Its twin with threads: `proxy_blocking`.

use std::net::SocketAddr;
use std::process::ExitCode;

use reactor::service::Span;
use reactor::{CloseReason, ConnId, ConnMap, Context, Dial, ListenOptions, Policy, Reactor, Service};

struct Proxy {
    upstream: SocketAddr,
    /// The other connection of each pair.
    peers: ConnMap<ConnId>,
}

impl Service for Proxy {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let upstream = ctx.dial(Dial::to(self.upstream).with(Policy::relay()));
        self.peers.insert(ctx.id(), upstream);
        self.peers.insert(upstream, ctx.id());
    }

    // A client is paired when it is accepted, and its upstream by the dial.
    fn on_dialed(&mut self, _: &mut Context<'_>) {}

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        if let Some(&peer) = self.peers.get(ctx.id()) {
            ctx.forward(peer, Span::of(input));
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(mut peer) = self.peers.get(ctx.id()).and_then(|&peer| ctx.connection(peer)) {
            peer.half_close();
        }
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        self.on_close(ctx, reason);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        // After an orderly end of both halves, the output of the peer still leaves. Any other end is passed on as a reset.
        if let Some(peer) = self.peers.remove(ctx.id())
            && reason != CloseReason::Finished
            && let Some(mut peer) = ctx.connection(peer)
        {
            peer.reset();
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<SocketAddr> = std::env::args().skip(1).filter_map(|addr| addr.parse().ok()).collect();
    let [listen, upstream] = args[..] else {
        eprintln!("usage: proxy LISTEN UPSTREAM");
        return ExitCode::from(2);
    };
    let run = || -> std::io::Result<()> {
        let mut reactor = Reactor::new()?;
        reactor.handle_signals()?;
        let proxy = reactor.add_service("proxy", Box::new(Proxy { upstream, peers: ConnMap::new() }));
        let (_, addr) = reactor.listen(proxy, listen, &ListenOptions::default(), Policy::relay())?;
        println!("listening proxy tcp {addr}");
        reactor.run().map(drop)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
