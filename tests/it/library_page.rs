//! The table "How do I …" of `docs/library.md`: each of its lines stands here as well, and so compiles.

#![allow(dead_code, reason = "the lines must compile, and are not run")]

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use reactor::protocol::lines::LineDecoder;
use reactor::{
    Addr, CloseReason, ConnId, ConnMap, Context, Conversation, DatagramContext, Deadline, Dial, Handle, HostPort,
    ListenOptions, ListenerId, OffloadError, PerConnection, Policy, PostError, Poster, Probe, Reactor, ResolveError,
    Service, ServiceId, Span, TimerName,
};

const LOGIN: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const SIGHUP: i32 = 1;

/// The service of the page, and a state for each connection.
#[derive(Default)]
struct Lengths {
    states: ConnMap<State>,
}

#[derive(Default)]
struct State;

impl Service for Lengths {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.states.get_or_insert_with(ctx.id(), State::default);
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[derive(Default)]
struct Talk {
    lines: usize,
}

impl Conversation for Talk {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

struct Answer(ConnId, io::Result<Vec<u8>>);

struct Found(ConnId, Result<Vec<SocketAddr>, ResolveError>);

fn answers(ctx: &mut Context<'_>, peer: ConnId, members: Vec<ConnId>, input: &[u8], piece: &[u8]) {
    ctx.send(b"hello\n");
    ctx.send_input(Span::of(input));
    ctx.send_with(|out| out.extend_from_slice(b"hello\n"));
    if let Some(mut peer) = ctx.connection(peer) {
        peer.send(b"hello\n");
    }
    ctx.broadcast(&members, b"hello\n");
    ctx.forward(peer, Span::of(input));
    ctx.splice(peer);
    ctx.is_congested();
    ctx.send(piece);
    ctx.await_drain();
}

fn ends(ctx: &mut Context<'_>, peer: ConnId) {
    ctx.send(b"bye\n");
    ctx.finish();
    ctx.abort();
    ctx.reset();
    if let Some(mut peer) = ctx.connection(peer) {
        peer.half_close();
    }
    ctx.stop_reactor();
}

fn ends_by_themselves(ctx: &mut Context<'_>, reason: CloseReason, listener: ListenerId) {
    eprintln!("{} {reason}", ctx.peer_addr());
    ctx.close(listener);
}

fn answers_a_datagram(ctx: &mut DatagramContext<'_>) {
    ctx.reply(b"hello\n");
}

#[derive(Default)]
struct Shared {
    names: Vec<String>,
}

fn states() -> (Rc<RefCell<Shared>>, LineDecoder) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    (shared, LineDecoder::new(1000))
}

fn sockets(reactor: &mut Reactor, service: ServiceId, listener: TcpListener) -> Result<Addr, Box<dyn Error>> {
    reactor.listen(service, Addr::unix("/run/app.sock"), &ListenOptions::default(), Policy::default())?;
    reactor.listen_on(service, listener, Policy::default())?;
    let addr: Addr = "unix:/run/app.sock".parse()?;
    let _: HostPort = "localhost:7".parse()?;
    Ok(addr)
}

fn waits(ctx: &mut Context<'_>, peer: ConnId, answer: Vec<u8>, addr: Addr) -> Option<ConnId> {
    ctx.pause();
    if let Some(mut peer) = ctx.connection(peer) {
        peer.send(&answer);
        peer.resume();
    }
    ctx.set_deadline(Deadline::Read, ctx.now() + LOGIN);
    ctx.restore_timeout(Deadline::Read);
    let due = ctx.now() + MINUTE;
    ctx.set_timer(TimerName(1), due, MINUTE);
    ctx.peer_addr();
    ctx.peer_credentials();
    let peer = ctx.dial(Dial::to(addr).within(Duration::from_secs(3)).with(Policy::relay()));
    Some(peer)
}

fn offloads(poster: &Poster<Answer>, id: ConnId, path: PathBuf) -> bool {
    poster.offload(move || Answer(id, std::fs::read(path))).is_ok()
}

fn resolves(poster: &Poster<Found>, id: ConnId, name: HostPort) -> Result<(), OffloadError<HostPort>> {
    poster.resolve(name, move |found| Found(id, found))
}

fn posts<M: Send + 'static>(poster: &Poster<M>, handle: &Handle, message: M) -> Result<(), PostError<M>> {
    handle.stop();
    poster.post_blocking(message)
}

fn program(reactor: &mut Reactor, service: ServiceId, listener: ListenerId) -> io::Result<(Policy, ListenOptions)> {
    reactor.handle_signals()?;
    reactor.handle_signal(service, SIGHUP)?;
    reactor.set_max_connections(10_000);
    reactor.set_max_connections_of(listener, 100);
    let _ = reactor.ledger().accepts;
    reactor.report();
    reactor.service::<Lengths>(service);
    reactor.add_service("talk", Box::new(PerConnection::new(|_| Talk::default())));
    Policy::relay();
    let _ = Policy::default().with_write_timeout(Duration::from_secs(60));
    Ok((Policy::default().with_idle_timeout(Duration::from_secs(60)), ListenOptions::default().with_reuse_port(true)))
}

fn probes(probe: &mut Probe) -> usize {
    probe.on(Probe::id(1), |ctx| Lengths::default().on_data(ctx, b"hello\n"))
}

/// Returns the text without white space.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn each_line_of_the_table_compiles() {
    let read = |file| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (page, source) = (read("docs/library.md"), squeezed(&read("tests/it/library_page.rs")));
    let section = page.split("\n## How do I …\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let row = row.replace(r"\|", "\0");
        let cell = row.split('|').nth(2).unwrap().replace('\0', "|");
        for line in cell.split('`').skip(1).step_by(2).filter(|line| line.contains('(')) {
            if !source.contains(&squeezed(line)) {
                missing.push(line.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "lines that compile nowhere:\n{}", missing.join("\n"));
}
