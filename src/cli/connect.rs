//! `reactor connect`: standard input to a peer, what the peer says to standard output.
//!
//! Owns: its arguments, and which client runs on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reactor::clients::{Backoff, DatagramClient, Lookup, Route, Settings, StreamClient};
use reactor::console::{ConsoleHandle, Name, Resolver, ThreadedConsole};
use reactor::reactor::{ListenOptions, Reactor};

use super::value::{self, Address};
use super::{Failure, cannot, cause};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "reactor connect [OPTIONS] <tcp://HOST:PORT|udp://HOST:PORT>")]
pub(super) struct Arguments {
    /// The peer; tcp://PORT and tcp://:PORT are on this host
    #[arg(value_name = "tcp://HOST:PORT|udp://HOST:PORT", value_parser = target)]
    target: Option<Target>,
    /// Give up a dial after so long, resolving the name included; 0 leaves it to the kernel
    #[arg(long, value_name = "D", default_value = "10s", value_parser = value::duration)]
    dial_timeout: Duration,
    /// Fail when the peer has been silent for so long; UDP: when a datagram has not been answered [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    read_timeout: Option<Duration>,
    /// Fail when nothing of what is to be sent could be for so long [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    write_timeout: Option<Duration>,
    /// Connect from this local address: IP, PORT, :PORT, IP:PORT or [IPv6]:PORT
    #[arg(long, value_name = "ADDR", value_parser = local)]
    bind: Option<Local>,
    /// Say something after so long a silence; a peer that is silent for three times as long is dead [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    heartbeat: Option<Duration>,
    /// What to say then, as a line
    #[arg(long, value_name = "TEXT", default_value = "ping")]
    heartbeat_text: String,
    /// Connect again after a loss, waiting from 100ms to 10s; give up after MAX attempts in a row
    #[arg(long, value_name = "MAX", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "it may be absent, and so may its value")]
    reconnect: Option<Option<String>>,
}

const EXAMPLES: &str = "\
Examples:
  reactor connect tcp://127.0.0.1:7013                     the time
  echo hello | reactor connect udp://127.0.0.1:7007        one datagram, and its answer
  reactor connect tcp://127.0.0.1:3000 --dial-timeout 1s   fail after a second
  reactor connect tcp://:8000 --reconnect --heartbeat 1s   stay in the chat

TCP: the end of input (Ctrl-D) closes our half; the peer's end ends the command.
UDP: a line is a datagram; after the end of input, a second of silence ends it
(or --read-timeout). Ctrl-C cancels: exit 130.";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
}

/// A peer, as it is written on the command line.
#[derive(Clone, Debug)]
struct Target {
    transport: Transport,
    /// What it is called in messages.
    text: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    At(SocketAddr),
    Named(Name),
}

/// Parses `tcp://HOST:PORT` or `udp://HOST:PORT`.
fn target(text: &str) -> Result<Target, String> {
    let (transport, address) = match text.split_once("://") {
        Some(("tcp", address)) => (Transport::Tcp, address),
        Some(("udp", address)) => (Transport::Udp, address),
        _ => return Err(format!("'{text}' is not a peer such as tcp://127.0.0.1:7007 or udp://localhost:7007")),
    };
    if address.is_empty() {
        return Err(format!("'{text}' has no address: {text}HOST:PORT"));
    }
    if address.starts_with('[') && address.ends_with(']') {
        return Err(format!("'{text}' has no port: {text}:PORT"));
    }
    let place = match value::address(address)? {
        Address::At(addr) => Place::At(addr),
        // As in Go, where a dial without a host is one to this host.
        Address::Everywhere(port) => Place::At((Ipv4Addr::LOCALHOST, port).into()),
        Address::Named(host, port) => Place::Named(Name { host, port }),
    };
    let scheme = if transport == Transport::Tcp { "tcp" } else { "udp" };
    let text = match &place {
        Place::At(addr) => format!("{scheme}://{addr}"),
        Place::Named(name) => format!("{scheme}://{name}"),
    };
    Ok(Target { transport, text, place })
}

/// A local address, of which the family may be the peer's.
#[derive(Clone, Copy, Debug)]
enum Local {
    Anywhere(u16),
    Here(u16),
    At(SocketAddr),
}

/// Parses a local address.
fn local(text: &str) -> Result<Local, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bracketed {
        Some(six) => six.parse().map(IpAddr::V6),
        None => text.parse(),
    };
    if let Ok(ip) = ip {
        return Ok(Local::At((ip, 0).into()));
    }
    match value::address(text)? {
        Address::Everywhere(port) => Ok(Local::Anywhere(port)),
        Address::At(addr) => Ok(Local::At(addr)),
        Address::Named(host, port) if host.eq_ignore_ascii_case("localhost") => Ok(Local::Here(port)),
        Address::Named(host, _) => Err(format!("'{host}' is a name; a local address is IP:PORT, :PORT or PORT")),
    }
}

impl Local {
    /// The address for peers at `addrs`; where it does not say, IPv4 if any of them is.
    fn towards(self, addrs: Option<&[SocketAddr]>) -> SocketAddr {
        let six = addrs.is_some_and(|addrs| addrs.iter().all(SocketAddr::is_ipv6));
        let ip = |four: Ipv4Addr, other: Ipv6Addr| if six { IpAddr::from(other) } else { IpAddr::from(four) };
        match self {
            Local::Anywhere(port) => (ip(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), port).into(),
            Local::Here(port) => (ip(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST), port).into(),
            Local::At(addr) => addr,
        }
    }
}

impl Arguments {
    /// The peer. A value that follows `--reconnect` and is no number is not its own but the peer.
    fn target(&mut self) -> Result<Target, Failure> {
        if let Some(Some(text)) = &self.reconnect
            && text.contains("://")
            && self.target.is_none()
        {
            self.target = Some(target(text).map_err(Failure::Usage)?);
            self.reconnect = Some(None);
        }
        self.target
            .take()
            .ok_or_else(|| Failure::Usage("a peer is missing: tcp://HOST:PORT or udp://HOST:PORT".to_owned()))
    }

    fn backoff(&self) -> Result<Option<Backoff>, Failure> {
        let Some(most) = &self.reconnect else { return Ok(None) };
        let backoff = Backoff::new(fastrand::Rng::new());
        let Some(most) = most else { return Ok(Some(backoff)) };
        match most.parse() {
            Ok(attempts) if most.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(backoff.at_most(attempts))),
            _ => Err(Failure::Usage(format!("--reconnect: '{most}' is not a number of attempts"))),
        }
    }

    fn settings(&self, target: &Target) -> Result<Settings, Failure> {
        Ok(Settings {
            read_timeout: self.read_timeout.unwrap_or_default(),
            write_timeout: self.write_timeout.unwrap_or_default(),
            heartbeat: self.heartbeat.unwrap_or_default(),
            heartbeat_text: format!("{}\n", self.heartbeat_text).into_bytes(),
            reconnect: self.backoff()?,
            ..Settings::new(&target.text)
        })
    }
}

/// Connects, and waits for the end of the conversation.
pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let target = arguments.target()?;
    let settings = arguments.settings(&target)?;
    let mut reactor = Reactor::new().map_err(|error| cannot("make an event loop", &error))?;
    reactor.handle_signals().map_err(|error| cannot("handle signals", &error))?;
    reactor.report_to(super::print_report);
    reactor.stop_on_hangup();
    // A cancelled command does not wait for its peer.
    reactor.set_grace(Duration::from_millis(100));
    let wire = match target.transport {
        Transport::Tcp => Some(stream(&mut reactor, &arguments, &target, settings)?),
        Transport::Udp => match addresses(&mut reactor, &arguments, &target)? {
            Some(addrs) => Some(datagram(&mut reactor, &arguments, &target, &addrs, settings)?),
            None => None,
        },
    };
    reactor.run().map_err(|error| cannot("wait for events", &error))?;
    let signal = reactor.stop_signal();
    // The last output is written before the last word is said.
    drop(reactor);
    match (signal, wire.and_then(|wire| wire.ending())) {
        // As a shell reports it.
        (Some(signal), _) => Ok(ExitCode::from(128u8.saturating_add(signal as u8))),
        (None, Some(Err(failure))) => Err(Failure::Runtime(failure)),
        (None, _) => Ok(ExitCode::SUCCESS),
    }
}

/// Adds the client of a TCP peer.
fn stream(
    reactor: &mut Reactor,
    arguments: &Arguments,
    target: &Target,
    settings: Settings,
) -> Result<ConsoleHandle, Failure> {
    let (addrs, name) = match &target.place {
        Place::At(addr) => (Some(vec![*addr]), None),
        Place::Named(name) => (name.known(), Some(name.clone())),
    };
    let from = arguments.bind.map(|local| local.towards(addrs.as_deref()));
    let route = Route { addrs, from, dial_timeout: arguments.dial_timeout };
    let (terminal, wire) = terminal(reactor, name)?;
    wire.attach(reactor.add_service("connect", Box::new(StreamClient::new(settings, route, Box::new(terminal)))));
    Ok(wire)
}

/// Adds the client of a UDP peer.
fn datagram(
    reactor: &mut Reactor,
    arguments: &Arguments,
    target: &Target,
    addrs: &[SocketAddr],
    settings: Settings,
) -> Result<ConsoleHandle, Failure> {
    let from = arguments.bind.map(|local| local.towards(Some(addrs)));
    let peer = &target.text;
    let Some(&to) = addrs.iter().find(|to| from.is_none_or(|from| from.is_ipv4() == to.is_ipv4())) else {
        return Err(Failure::Runtime(format!("dial {peer}: no address of the family of --bind")));
    };
    let longest = if to.is_ipv4() { 65_507 } else { 65_527 };
    let (terminal, wire) = terminal(reactor, None)?;
    let client = Box::new(DatagramClient::new(settings, longest, Box::new(terminal)));
    let (socket, local) = reactor
        .connect_datagram("connect", client, to, from, &ListenOptions::default())
        .map_err(|error| Failure::Runtime(format!("dial {peer}: {}", cause(&error))))?;
    if local == to {
        return Err(Failure::Runtime(format!("dial {peer}: the socket had connected to itself: nobody listens there")));
    }
    wire.attach(socket);
    Ok(wire)
}

fn terminal(reactor: &Reactor, name: Option<Name>) -> Result<(ThreadedConsole, ConsoleHandle), Failure> {
    ThreadedConsole::new(reactor.handle(), name).map_err(|error| cannot("use standard output", &error))
}

/// The addresses of a peer, IPv4 first as in Go's `ResolveUDPAddr`; `None` if a signal has come first. There has to be one
/// before there is a socket.
fn addresses(
    reactor: &mut Reactor,
    arguments: &Arguments,
    target: &Target,
) -> Result<Option<Vec<SocketAddr>>, Failure> {
    let name = match &target.place {
        Place::At(addr) => return Ok(Some(vec![*addr])),
        Place::Named(name) => name,
    };
    let found = match name.known() {
        Some(known) => Some(known),
        None => {
            let (lookup, found) = Lookup::new(target.text.clone(), arguments.dial_timeout);
            let service = reactor.add_service("lookup", Box::new(lookup));
            let resolver = Resolver::start(name.clone(), reactor.handle(), service);
            resolver.map_err(|error| cannot("start a thread", &error))?.request();
            while found.borrow().is_none() && reactor.ended().is_none() {
                reactor.turn().map_err(|error| cannot("wait for events", &error))?;
            }
            found.take().transpose().map_err(Failure::Runtime)?
        }
    };
    Ok(found.map(|mut addrs| {
        addrs.sort_by_key(SocketAddr::is_ipv6);
        addrs
    }))
}
