//! Reliable datagrams over UDP: numbers, acknowledgements, retransmission with backoff, and duplicates that are found.
//!
//! - **Run** `cargo run --example reliable_udp serve 127.0.0.1:27023`, and
//!   `cargo run --example reliable_udp ping 127.0.0.1:27023 10` beside it.
//! - **Try** the same on a lossy link: `sudo tc qdisc add dev lo root netem loss 30%` (`del` in place of `add` repairs it).
//!   Each datagram still has its round trip, and at the end the server (Ctrl-C) has counted each of them once.
//! - **Notice** what TCP does in the kernel, here in callbacks. Each datagram under way has a timer of its own, named by its
//!   number: no thread sleeps. The timeout doubles with each transmission (RFC 6298). A datagram carries the time of its
//!   transmission, and the acknowledgement returns that time: the round trip of a retransmission is exact (RFC 7323). The
//!   server acknowledges duplicates as well, because its first acknowledgement may be lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use std::{env, mem, process};

use reactor::{
    DatagramContext, DatagramService, ListenOptions, Reactor, ServiceContext, SocketContext, SocketId, Time, TimerName,
};

/// The numbers that may be under way, from the oldest without an acknowledgement.
const WINDOW: u64 = 16;

/// The timeout of the first transmission, which doubles up to four times, and the most transmissions of a datagram.
const TIMEOUT: Duration = Duration::from_millis(50);
const TRANSMISSIONS: u32 = 14;

/// The server forgets a session after this silence, which is longer than all retransmissions of a datagram.
const SILENCE: Duration = Duration::from_secs(60);

/// The most sessions: the addresses of senders can be forged.
const SESSIONS: usize = 4096;

/// Decodes a session, a number in it, and the time of the transmission: eight bytes each, after the kind.
fn decode(datagram: &[u8], expected: u8) -> Option<[u64; 3]> {
    let (fields, []) = datagram.strip_prefix(&[expected])?.as_chunks() else { return None };
    Some(<[[u8; 8]; 3]>::try_from(fields).ok()?.map(u64::from_be_bytes))
}

/// The numbers of a session that have arrived: those below `next`, and those in `early`.
#[derive(Default)]
struct Session {
    next: u64,
    early: BTreeSet<u64>,
    is_quiet: bool,
}

#[derive(Default)]
struct Server {
    sessions: HashMap<(std::net::SocketAddr, u64), Session>,
    delivered: u64,
    duplicates: u64,
}

impl DatagramService for Server {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now() + SILENCE, SILENCE);
    }

    fn on_timer(&mut self, _: &mut ServiceContext, _: TimerName) {
        self.sessions.retain(|_, session| !mem::replace(&mut session.is_quiet, true));
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, datagram: &[u8]) {
        let Some([id, number, _]) = decode(datagram, b'D') else { return };
        let key = (ctx.sender(), id);
        let has_room = self.sessions.len() < SESSIONS || self.sessions.contains_key(&key);
        let session = has_room.then(|| self.sessions.entry(key).or_default());
        let Some(session) = session.filter(|session| number < session.next + WINDOW) else { return };
        session.is_quiet = false;
        self.duplicates += u64::from(number < session.next || !session.early.insert(number));
        while session.early.remove(&session.next) {
            session.next += 1;
            self.delivered += 1;
        }
        ctx.reply(&[b"A", &datagram[1..]].concat());
    }

    fn on_stopping(&mut self, _: &mut ServiceContext) {
        eprintln!("{} delivered in order, {} duplicates", self.delivered, self.duplicates);
    }
}

struct Ping {
    socket: Option<SocketId>,
    session: u64,
    next: u64,
    count: u64,
    /// The numbers without an acknowledgement, and their transmissions.
    under_way: BTreeMap<u64, u32>,
}

impl Ping {
    fn transmit(&mut self, ctx: &mut ServiceContext, number: u64) {
        let fields = [self.session, number, ctx.now().as_nanos()].map(u64::to_be_bytes);
        let Some(mut socket) = self.socket.and_then(|id| ctx.socket(id)) else { return };
        socket.send(&[b"D", fields.as_flattened()].concat());
        let transmissions = self.under_way.entry(number).or_insert(0);
        ctx.set_timer(TimerName(number), ctx.now() + TIMEOUT * 2u32.pow(4.min(*transmissions)), Duration::ZERO);
        *transmissions += 1;
    }
}

impl DatagramService for Ping {
    /// Transmits as many datagrams as the window allows, at the start and after each acknowledgement.
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.socket = Some(ctx.id());
        let end = self.under_way.keys().next().unwrap_or(&self.next) + WINDOW;
        while self.next < self.count.min(end) {
            self.transmit(ctx, self.next);
            self.next += 1;
        }
        if self.under_way.is_empty() {
            ctx.stop_reactor();
        }
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, datagram: &[u8]) {
        let Some([_, number, sent]) = decode(datagram, b'A').filter(|fields| fields[0] == self.session) else { return };
        let Some(transmissions) = self.under_way.remove(&number) else { return };
        println!("number={number} rtt={:?} transmissions={transmissions}", ctx.now().since(Time::from_nanos(sent)));
        ctx.cancel_timer(TimerName(number));
        self.on_open(ctx);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        if self.under_way.get(&timer.0) == Some(&TRANSMISSIONS) {
            eprintln!("error: no acknowledgement of number {} after {TRANSMISSIONS} transmissions", timer.0);
            process::exit(1);
        }
        self.transmit(ctx, timer.0);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let (mode, addr, count) = (args.next(), args.next().map(|addr| addr.parse()), args.next().map(|n| n.parse()));
    let (mut reactor, options) = (Reactor::new()?, ListenOptions::default());
    reactor.handle_signals()?;
    match (mode.as_deref(), addr, count, args.next()) {
        (Some("serve"), Some(Ok(addr)), None, None) => {
            let server = reactor.add_datagram_service("reliable_udp", Box::new(Server::default()));
            let bound = reactor.bind_datagram(server, addr, &options);
            let (_, addr) = bound.map_err(|error| format!("cannot bind {addr}: {error}"))?;
            println!("listening reliable_udp udp {addr}");
        }
        (Some("ping"), Some(Ok(addr)), Some(Ok(count)), None) => {
            let ping = Ping { socket: None, session: process::id().into(), next: 0, count, under_way: BTreeMap::new() };
            let ping = reactor.add_datagram_service("reliable_udp", Box::new(ping));
            reactor.connect_datagram(ping, addr, None, &options)?;
        }
        _ => {
            eprintln!("usage: reliable_udp serve LISTEN | ping ADDR N");
            process::exit(2);
        }
    }
    Ok(reactor.run().map(drop)?)
}
