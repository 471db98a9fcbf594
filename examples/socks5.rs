//! A SOCKS5 server (RFC 1928): CONNECT without a login, to IPv4 and IPv6 addresses and to names.
//!
//! - **Run** `cargo run --release --example socks5 127.0.0.1:1080`. The server connects each client to every address that it
//!   can reach itself, so no other host should reach the server.
//! - **Try** `curl --socks5-hostname 127.0.0.1:1080 http://example.org/`, and the same with a name that does not exist.
//! - **Notice** the waits. The handshake has one deadline, which bytes do not renew: a client cannot hold its place by a byte
//!   now and then. A thread of the pool looks the name up, because getaddrinfo(3) blocks. A dial takes many turns. The client
//!   is paused meanwhile, so what it sends early stays unread, in its order. A client that closes
//!   its half before the answer counts as gone, and the reset cancels the dial.
//!   After the answer both connections are a forwarder, as in `proxy.rs`.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::{env, process};

use reactor::{
    CloseReason, ConnId, ConnMap, Context, Deadline, Dial, HostPort, ListenOptions, Policy, Poster, Reactor, Receive,
    ResolveError, Service, ServiceContext, Span, Time,
};

/// The time for the handshake, and for each dial.
const PATIENCE: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;

/// The command, the kinds of address, and the codes of a reply (sections 4 to 6).
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const SUCCEEDED: u8 = 0;
const FAILURE: u8 = 1;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_NOT_SUPPORTED: u8 = 8;

/// The address of a reply that reports a failure.
const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

enum State {
    /// A client whose methods, or whose request, the server expects.
    Greeting,
    Request,
    /// A client that waits for the lookup of a name.
    Lookup,
    /// An upstream that is being dialed for a client, and the addresses to try after this one.
    Dialing(ConnId, VecDeque<SocketAddr>),
    /// A client or an upstream, and the other connection of the pair.
    Joined(ConnId),
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

/// The addresses that a client waits for.
struct Found(ConnId, Result<Vec<SocketAddr>, ResolveError>);

/// Takes `N` bytes from the front of `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// Decodes the methods of a client. Returns true if the client needs no login, and the rest of the input, or `None` for
/// partial input.
fn decode_methods(mut rest: &[u8]) -> Option<(bool, &[u8])> {
    let [version, count] = take(&mut rest)?;
    let methods = rest.split_off(..count.into())?;
    Some((version == VERSION && methods.contains(&0), rest))
}

/// Takes a request from the front of `rest`. Returns the target, the code of a failure, or `None` for partial input.
fn take_request(rest: &mut &[u8]) -> Option<Result<(Host, u16), u8>> {
    let host = match take(rest)? {
        [VERSION, CONNECT, _, IPV4] => Host::Ip(take::<4>(rest)?.into()),
        [VERSION, CONNECT, _, IPV6] => Host::Ip(take::<16>(rest)?.into()),
        [VERSION, CONNECT, _, NAME] => {
            let [length] = take(rest)?;
            let name = rest.split_off(..length.into())?;
            Host::Name(String::from_utf8_lossy(name).into_owned())
        }
        [VERSION, CONNECT, ..] => return Some(Err(ADDRESS_NOT_SUPPORTED)),
        _ => return Some(Err(COMMAND_NOT_SUPPORTED)),
    };
    Some(Ok((host, u16::from_be_bytes(take(rest)?))))
}

/// Replies to a client, unless the client has gone meanwhile. A failure ends the connection.
fn reply(ctx: &mut ServiceContext, client: ConnId, code: u8, bound: SocketAddr) {
    let Some(mut client) = ctx.connection(client) else { return };
    let (kind, ip) = match bound.ip() {
        IpAddr::V4(ip) => (IPV4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (IPV6, ip.octets().to_vec()),
    };
    client.send(&[&[VERSION, code, 0, kind], &ip[..], &bound.port().to_be_bytes()].concat());
    match code {
        SUCCEEDED => client.resume(),
        _ => client.finish(),
    }
}

/// Returns the code for a dial that has failed.
fn code(reason: CloseReason) -> u8 {
    let CloseReason::Unreachable(errno) = reason else { return HOST_UNREACHABLE };
    match io::Error::from_raw_os_error(errno.0).kind() {
        ErrorKind::ConnectionRefused => REFUSED,
        ErrorKind::NetworkUnreachable => NETWORK_UNREACHABLE,
        ErrorKind::HostUnreachable | ErrorKind::TimedOut => HOST_UNREACHABLE,
        _ => FAILURE,
    }
}

struct Socks5 {
    poster: Poster<Found>,
    states: ConnMap<State>,
}

impl Socks5 {
    fn dial(&mut self, ctx: &mut ServiceContext, client: ConnId, mut addrs: VecDeque<SocketAddr>) {
        let Some(addr) = addrs.pop_front() else { return };
        let upstream = ctx.dial(Dial::to(addr).within(PATIENCE).with(Policy::relay()));
        self.states.insert(upstream, State::Dialing(client, addrs));
        self.states.insert(client, State::Joined(upstream));
    }

    /// Returns the other connection of the pair.
    fn other<'a>(&self, ctx: &'a mut Context<'_>) -> Option<Context<'a>> {
        match self.states.get(ctx.id()) {
            Some(&State::Joined(other)) => ctx.connection(other),
            _ => None,
        }
    }
}

impl Receive<Found> for Socks5 {
    fn on_post(&mut self, ctx: &mut ServiceContext, Found(client, found): Found) {
        match found {
            Ok(addrs) if self.states.contains(client) => self.dial(ctx, client, addrs.into()),
            _ => reply(ctx, client, HOST_UNREACHABLE, NO_ADDR),
        }
    }
}

impl Service for Socks5 {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.states.insert(ctx.id(), State::Greeting);
        ctx.set_deadline(Deadline::Read, ctx.now() + PATIENCE);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let (id, mut rest) = (ctx.id(), input);
        if let Some(&State::Joined(other)) = self.states.get(id) {
            ctx.forward(other, Span::of(input));
            return input.len();
        }
        if let Some(State::Greeting) = self.states.get(id) {
            let Some((is_welcome, after)) = decode_methods(input) else { return 0 };
            ctx.send(&[VERSION, if is_welcome { 0 } else { 0xff }]);
            if !is_welcome {
                ctx.finish();
                return input.len();
            }
            self.states.insert(id, State::Request);
            rest = after;
        }
        let mut after = rest;
        let Some(request) = take_request(&mut after) else { return input.len() - rest.len() };
        ctx.set_deadline(Deadline::Read, Time::NEVER);
        // Further input waits, and is offered again after the reply.
        ctx.pause();
        self.states.insert(id, State::Lookup);
        match request {
            Err(code) => reply(ctx, id, code, NO_ADDR),
            Ok((Host::Ip(ip), port)) => self.dial(ctx, id, [(ip, port).into()].into()),
            Ok((Host::Name(host), port)) => {
                if self.poster.resolve(HostPort { host, port }, move |found| Found(id, found)).is_err() {
                    reply(ctx, id, FAILURE, NO_ADDR);
                }
            }
        }
        input.len() - after.len()
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        let (upstream, bound) = (ctx.id(), ctx.local_addr().as_socket().unwrap_or(NO_ADDR));
        let Some(State::Dialing(client, _)) = self.states.remove(upstream) else { return };
        self.states.insert(upstream, State::Joined(client));
        reply(ctx, client, SUCCEEDED, bound);
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        match self.states.remove(ctx.id()) {
            // The client has gone, or the reactor is stopping.
            Some(State::Dialing(client, addrs)) if addrs.is_empty() || reason == CloseReason::Aborted => {
                reply(ctx, client, code(reason), NO_ADDR);
            }
            Some(State::Dialing(client, addrs)) => self.dial(ctx, client, addrs),
            _ => {}
        }
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _: &[u8]) {
        match self.other(ctx) {
            Some(mut other) => other.half_close(),
            None => ctx.finish(),
        }
    }

    /// A client that goes while it waits cancels the dial.
    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        ctx.reset();
    }

    /// A pair goes on to its own end, or to a reset when the grace period is over.
    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        if self.other(ctx).is_none() {
            ctx.finish();
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        if reason != CloseReason::Finished
            && let Some(mut other) = self.other(ctx)
        {
            other.reset();
        }
        self.states.remove(ctx.id());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1).map(|arg| arg.parse::<SocketAddr>());
    let (Some(Ok(addr)), None) = (args.next(), args.next()) else {
        eprintln!("usage: socks5 LISTEN   (an address, as 127.0.0.1:1080)");
        process::exit(2);
    };
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let socks5 = reactor.add_service_with("socks5", |poster| Socks5 { poster, states: ConnMap::new() });
    let listened = reactor.listen(socks5, addr, &ListenOptions::default(), Policy::relay());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening socks5 tcp {addr}");
    Ok(reactor.run().map(drop)?)
}
