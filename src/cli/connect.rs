//! `reactor connect`: standard input to a peer, the peer's bytes to standard output.
//!
//! Owns: its arguments, and the choice of the client. Must not know: the protocol of a client.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reactor::addr::Addr;
use reactor::clients::{Backoff, DatagramClient, LocalAddr, Route, Settings, StreamClient};
use reactor::console::{ConsoleHandle, ThreadedConsole};
use reactor::reactor::{ListenOptions, Reactor};
use reactor::resolver::HostPort;

use super::value::{self, Address};
use super::{Failure, cannot};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "reactor connect [OPTIONS] <tcp://HOST:PORT|udp://HOST:PORT|unix:PATH>")]
pub(super) struct Arguments {
    /// The peer; tcp://PORT and tcp://:PORT are on this host; unix:PATH is a Unix socket, as is unix:///PATH
    #[arg(value_name = "tcp://HOST:PORT|udp://HOST:PORT|unix:PATH", value_parser = target)]
    target: Option<Target>,
    /// Fail when a dial takes longer than D, resolving the name included; 0 leaves it to the kernel
    #[arg(long, value_name = "D", default_value = "10s", value_parser = value::duration)]
    dial_timeout: Duration,
    /// Fail when no byte has come from the peer for D; UDP: no answer to a datagram [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    read_timeout: Option<Duration>,
    /// Fail when no queued byte could be sent for D [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    write_timeout: Option<Duration>,
    /// Connect from this local address: IP, PORT, :PORT, IP:PORT or [IPv6]:PORT
    #[arg(long, value_name = "ADDR", value_parser = local)]
    bind: Option<LocalAddr>,
    /// Send a heartbeat after D of silence; a peer that is silent for 3xD counts as dead [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    heartbeat: Option<Duration>,
    /// The text of a heartbeat, sent as a line
    #[arg(long, value_name = "TEXT", default_value = "ping")]
    heartbeat_text: String,
    /// Connect again after a loss, after 100ms to 10s; fail after MAX attempts in a row
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
  reactor connect unix:/run/echo.sock                      a server at a Unix socket

TCP and Unix sockets: the end of input (Ctrl-D) closes our half; the peer's end ends the command.
UDP: a line is a datagram; after the end of input, a second of silence ends it
(or --read-timeout). Ctrl-C cancels: exit 130.";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Stream,
    Datagram,
}

/// A peer on the command line.
#[derive(Clone, Debug)]
struct Target {
    transport: Transport,
    /// The peer's name in messages.
    text: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    At(Addr),
    Named(HostPort),
}

/// Parses `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:PATH`.
fn target(text: &str) -> Result<Target, String> {
    let (transport, scheme, address) = match text.split_once("://") {
        _ if text.starts_with("unix:") => (Transport::Stream, "", text),
        Some(("tcp", address)) => (Transport::Stream, "tcp://", address),
        Some(("udp", address)) => (Transport::Datagram, "udp://", address),
        _ => {
            return Err(format!(
                "'{text}' is not a peer such as tcp://127.0.0.1:7007, udp://localhost:7007 or unix:/run/echo.sock"
            ));
        }
    };
    if address.is_empty() {
        return Err(format!("'{text}' has no address: {text}HOST:PORT"));
    }
    if address.starts_with('[') && address.ends_with(']') {
        return Err(format!("'{text}' has no port: {text}:PORT"));
    }
    let place = match value::address(address)? {
        Address::Unix(_) if !scheme.is_empty() => return Err(format!("a Unix socket has no scheme: {address}")),
        Address::Unix(addr) => Place::At(addr.into()),
        Address::At(addr) => Place::At(addr.into()),
        // As in Go, where a dial without a host is one to this host.
        Address::Everywhere(port) => Place::At((Ipv4Addr::LOCALHOST, port).into()),
        Address::Named(host, port) => Place::Named(HostPort { host, port }),
    };
    let text = match &place {
        Place::At(addr) => format!("{scheme}{addr}"),
        Place::Named(name) => format!("{scheme}{name}"),
    };
    Ok(Target { transport, text, place })
}

/// Parses a local address.
fn local(text: &str) -> Result<LocalAddr, String> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(LocalAddr::Addr((ip, 0).into()));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return local(&format!("[{text}]"));
    }
    if text.starts_with('[') && text.ends_with(']') {
        return local(&format!("{text}:0"));
    }
    match value::address(text)? {
        Address::Everywhere(port) => Ok(LocalAddr::AnyInterface(port)),
        Address::At(addr) => Ok(LocalAddr::Addr(addr)),
        Address::Named(host, port) if host.eq_ignore_ascii_case("localhost") => Ok(LocalAddr::Loopback(port)),
        Address::Named(host, _) => Err(format!("'{host}' is a name; a local address is IP:PORT, :PORT or PORT")),
        Address::Unix(_) => Err("a Unix socket cannot be a local address".to_owned()),
    }
}

impl Arguments {
    /// The peer. A value after `--reconnect` that is no number is the peer.
    fn target(&mut self) -> Result<Target, Failure> {
        if let Some(Some(text)) = &self.reconnect
            && (text.contains("://") || text.starts_with("unix:"))
            && self.target.is_none()
        {
            self.target = Some(target(text).map_err(Failure::Usage)?);
            self.reconnect = Some(None);
        }
        self.target.take().ok_or_else(|| {
            Failure::Usage("a peer is missing: tcp://HOST:PORT, udp://HOST:PORT or unix:PATH".to_owned())
        })
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

/// Runs a client to its end.
pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let target = arguments.target()?;
    if arguments.bind.is_some() && matches!(&target.place, Place::At(addr) if addr.is_unix()) {
        return Err(Failure::Usage("--bind does not apply to a Unix socket".to_owned()));
    }
    let settings = arguments.settings(&target)?;
    let mut reactor = Reactor::new().map_err(|error| cannot("make an event loop", &error))?;
    reactor.handle_signals().map_err(|error| cannot("handle signals", &error))?;
    reactor.report_to(super::print_report);
    reactor.stop_on_hangup();
    // A cancelled command does not wait for its peer.
    reactor.set_grace(Duration::from_millis(100));
    let console = add_client(&mut reactor, &arguments, target, settings)?;
    reactor.run().map_err(|error| cannot("wait for events", &error))?;
    let signal = reactor.stop_signal();
    // The last output is written before the error is reported.
    drop(reactor);
    match (signal, console.outcome()) {
        // As a shell reports it.
        (Some(signal), _) => Ok(ExitCode::from(128u8.saturating_add(signal as u8))),
        (None, Some(Err(error))) => Err(Failure::Runtime(error.to_string())),
        (None, _) => Ok(ExitCode::SUCCESS),
    }
}

/// Adds the client of `target` to the reactor.
fn add_client(
    reactor: &mut Reactor,
    arguments: &Arguments,
    target: Target,
    settings: Settings,
) -> Result<ConsoleHandle, Failure> {
    let Target { transport, place, .. } = target;
    let (addrs, name) = match place {
        Place::At(addr) => (Some(vec![addr]), None),
        Place::Named(name) => (name.known().map(|addrs| addrs.into_iter().map(Addr::from).collect()), Some(name)),
    };
    let route = Route { addrs, from: arguments.bind, dial_timeout: arguments.dial_timeout };
    let console = ThreadedConsole::new(name);
    let (console, handle) = console.map_err(|error| cannot("use standard output", &error))?;
    match transport {
        Transport::Stream => {
            let client = StreamClient::new(settings, route, Box::new(console));
            reactor.add_service_with("connect", |poster| {
                handle.attach(poster);
                client
            });
        }
        Transport::Datagram => {
            let client = DatagramClient::new(settings, route, Box::new(console));
            let service = reactor.add_datagram_service_with("connect", |poster| {
                handle.attach(poster);
                client
            });
            let socket = reactor.open_datagram(service, &ListenOptions::default());
            socket.map_err(|error| cannot("make a socket", &error))?;
        }
    }
    Ok(handle)
}
