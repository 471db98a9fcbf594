//! `reactor serve`: services on one thread.
//!
//! Owns: the arguments of the subcommand, and the lines that it prints at its start and at its stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reactor::addr::Addr;
use reactor::console::NonblockingStdout;
use reactor::id::ServiceId;
use reactor::limits::{GRACE, Policy, UNREAD};
use reactor::protocol::time_text::LocalTime;
use reactor::reactor::{ListenOptions, Reactor, RunOutcome};
use reactor::services::{self, Entry, Make, SERVICES, Settings};
use reactor::stdio::Stderr;

use super::inherited::{self, Inherited, Socket, Wanted};
use super::value::{self, Address};
use super::{FINAL_TIMEOUT, Failure, cannot, cause, descriptors};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = with_services(EXAMPLES))]
pub(super) struct Arguments {
    /// Services to run, each at its default address or at ADDR: PORT, :PORT (every interface), HOST:PORT, [IPv6]:PORT,
    /// unix:PATH
    #[arg(value_name = "SERVICE[=ADDR]", value_parser = spec)]
    services: Vec<Spec>,
    /// Connections that the kernel completes before the loop accepts them
    #[arg(long, value_name = "N", default_value_t = ListenOptions::default().backlog)]
    backlog: u32,
    /// Close a new connection at once while N are open; 0 is no limit [default: 0]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// End a connection from which no byte arrives for D [default: off]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    read_timeout: Option<Duration>,
    /// End a connection whose peer takes no byte of its output for D [default: off; 60s for http]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    write_timeout: Option<Duration>,
    /// End a connection on which no byte passes either way for D [default: off; 3s for idle, 75s for http]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    idle_timeout: Option<Duration>,
    /// Suspend reading a connection with SIZE of queued output; in the chats, drop the member [default: 64KiB; 1MiB for the chats]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    high_water: Option<usize>,
    /// Resume reading when the queued output has fallen to SIZE [default: a quarter of the high-water mark]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    low_water: Option<usize>,
    /// End a chat member whose line is longer than SIZE
    #[arg(long, value_name = "SIZE", default_value_t = Settings::default().max_line, value_parser = value::size)]
    max_line: usize,
    /// Refuse an HTTP request whose body is longer than SIZE
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = value::size)]
    max_body: usize,
    /// Refuse an HTTP request whose head is not complete D after its first byte
    #[arg(long, value_name = "D", default_value = "10s", value_parser = value::duration)]
    header_timeout: Duration,
    /// Refuse an HTTP request whose body pauses for D, or takes longer than D and a second for each KiB
    #[arg(long, value_name = "D", default_value = "30s", value_parser = value::duration)]
    body_timeout: Duration,
    /// End an HTTP connection that sends no request for D [default: the idle timeout, or 75s]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    keep_alive_timeout: Option<Duration>,
    /// Abort the connections that are open D after the first SIGINT or SIGTERM; 0 is never [default: 5s]
    #[arg(long, value_name = "D", value_parser = value::duration)]
    grace: Option<Duration>,
    /// Size of the kernel's send buffer of each connection (SO_SNDBUF)
    #[arg(long, value_name = "SIZE", value_parser = value::buffer_size)]
    send_buffer: Option<usize>,
    /// Size of the kernel's receive buffer of each connection (SO_RCVBUF)
    #[arg(long, value_name = "SIZE", value_parser = value::buffer_size)]
    recv_buffer: Option<usize>,
    /// Permissions of the files of Unix sockets, in octal, such as 660 [default: what umask leaves]
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    unix_mode: Option<u32>,
    /// Let other processes listen at the same addresses (SO_REUSEPORT)
    #[arg(long)]
    reuse_port: bool,
    /// Format of the counters on standard error when the server stops
    #[arg(long, value_enum, value_name = "text|json|none", default_value_t = LedgerFormat::Text, hide_possible_values = true)]
    ledger: LedgerFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LedgerFormat {
    Text,
    Json,
    None,
}

const EXAMPLES: &str = "\
Examples:
  reactor serve                               every service at its default address
  reactor serve echo=:7007 echo-udp=:7007     both echoes, on every interface
  reactor serve http=unix:/run/http.sock      HTTP at a Unix socket, for a proxy on this host
  reactor serve idle --idle-timeout 10s       goodbye after ten seconds of silence
  kill -USR1 PID                              print counters and connections, and go on serving

Sockets of systemd (LISTEN_FDS) go to the services at their addresses, the others in order.
D is a duration: 250ms, 3s, 2m; 0 switches the limit off. SIZE is 4096, 64KiB or 1MiB.";

/// Returns the table of services, with `examples` after it.
pub(super) fn with_services(examples: &str) -> String {
    let rows = SERVICES
        .iter()
        .map(|entry| format!("  {:<10} {} {:<6} {}\n", entry.name, entry.make.transport(), entry.port, entry.about));
    format!("Services:\n{}\n{examples}", rows.collect::<String>())
}

/// A service and the address of its listener.
#[derive(Clone, Debug)]
struct Spec {
    entry: &'static Entry,
    address: Address,
    /// The user has given the address.
    is_given: bool,
}

impl Spec {
    fn at_default(entry: &'static Entry) -> Self {
        Self { entry, address: Address::At(([127, 0, 0, 1], entry.port).into()), is_given: false }
    }
}

/// Parses `SERVICE[=ADDR]`.
fn spec(text: &str) -> Result<Spec, String> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) => (name, Some(address)),
        None => (text, None),
    };
    let Some(entry) = services::find(name) else {
        let names: Vec<_> = SERVICES.iter().map(|entry| entry.name).collect();
        return Err(format!("no service is called '{name}'; there are {}", names.join(", ")));
    };
    match address {
        Some(address) => {
            let address = value::address(address)?;
            if matches!((&address, entry.make), (Address::Unix(_), Make::Udp(_))) {
                return Err(format!("{name} goes over UDP, and not over a Unix socket"));
            }
            Ok(Spec { entry, address, is_given: true })
        }
        None => Ok(Spec::at_default(entry)),
    }
}

impl Arguments {
    /// Returns the arguments of `reactor` alone: every service at its default address.
    pub fn all_defaults() -> Self {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            arguments: Arguments,
        }
        <Only as clap::Parser>::parse_from(["reactor"]).arguments
    }

    fn options(&self) -> ListenOptions {
        let mut options = ListenOptions::default();
        options.backlog = self.backlog;
        options.reuse_port = self.reuse_port;
        options.send_buffer = self.send_buffer;
        options.recv_buffer = self.recv_buffer;
        options.unix_mode = self.unix_mode;
        options
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.max_line = self.max_line;
        settings.max_body = self.max_body;
        settings.header_timeout = self.header_timeout;
        settings.body_timeout = self.body_timeout;
        settings.print_to = || Box::new(NonblockingStdout::new());
        settings.local_time = LocalTime::of_system;
        settings
    }

    fn policy(&self, entry: &Entry) -> Policy {
        let default = Policy::default();
        let (high_water, overflow) = match self.high_water {
            None => (default.high_water, default.overflow),
            // The answers to a member's own input take half of its bound at most, so that texts of others fit as well.
            Some(mark) if entry.broadcasts => (mark.div_ceil(2), mark),
            Some(mark) => (mark, default.overflow),
        };
        let keep_alive_timeout = self.keep_alive_timeout.filter(|_| entry.keeps_alive);
        default
            .with_high_water(high_water)
            .with_low_water(self.low_water.map_or(high_water / 4, |mark| mark.min(high_water - 1)))
            .with_overflow(overflow)
            .with_read_timeout(self.read_timeout.unwrap_or_default())
            .with_write_timeout(self.write_timeout.unwrap_or(entry.write_timeout))
            .with_idle_timeout(keep_alive_timeout.or(self.idle_timeout).unwrap_or(entry.idle_timeout))
    }

    fn check(&self) -> Result<(), Failure> {
        let high_water = self.high_water.unwrap_or(Policy::default().high_water);
        if high_water == 0 {
            return Err(Failure::Usage("--high-water must not be 0: no output could be queued".to_owned()));
        }
        if self.max_line == 0 || self.max_line >= UNREAD {
            return Err(Failure::Usage(format!("--max-line must be from 1 to {} bytes", UNREAD - 1)));
        }
        if let Some(low_water) = self.low_water
            && low_water >= high_water
        {
            return Err(Failure::Usage(format!("--low-water {low_water} must be below --high-water {high_water}")));
        }
        Ok(())
    }
}

/// A service with its possible addresses, the preferred one first.
struct Plan {
    entry: &'static Entry,
    addrs: Vec<Addr>,
    /// The user has given the address.
    is_given: bool,
}

impl Plan {
    /// Returns the inherited socket that the service could have.
    fn wanted(&self) -> Wanted<'_> {
        Wanted { is_datagram: matches!(self.entry.make, Make::Udp(_)), addrs: &self.addrs, is_given: self.is_given }
    }
}

/// Resolves every address, and refuses two services on one address.
fn plan(specs: &[Spec]) -> Result<Vec<Plan>, Failure> {
    let mut plans: Vec<Plan> = Vec::new();
    for Spec { entry, address, is_given } in specs {
        let name = entry.name;
        let addrs = address.resolve().map_err(|error| Failure::Runtime(format!("{name}: {error}")))?;
        let clashes = |other: &&Plan| {
            other.entry.make.transport() == entry.make.transport() && overlap(&other.addrs[0], &addrs[0])
        };
        if let Some(other) = plans.iter().find(clashes) {
            let other = other.entry.name;
            return Err(Failure::Usage(format!("{other} and {name} cannot both listen on {address}")));
        }
        plans.push(Plan { entry, addrs, is_given: *is_given });
    }
    Ok(plans)
}

/// Returns true if two listeners need the same address and port, or the same file.
fn overlap(a: &Addr, b: &Addr) -> bool {
    let (Addr::Ip(a), Addr::Ip(b)) = (a, b) else { return a == b };
    let (a, b) = (*a, *b);
    // Every IPv6 address includes every IPv4 address, but not the other way round.
    let covers = |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let zone = |addr| if let SocketAddr::V6(addr) = addr { addr.scope_id() } else { 0 };
    let same = a.ip().to_canonical() == b.ip().to_canonical() && zone(a) == zone(b);
    a.port() != 0 && a.port() == b.port() && (same || covers(a, b) || covers(b, a))
}

/// Runs the services until a signal stops them.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    arguments.check()?;
    let sockets = inherited::take()?;
    let specs = match arguments.services.as_slice() {
        [] => SERVICES.iter().map(Spec::at_default).collect(),
        specs => specs.to_vec(),
    };
    let plans = plan(&specs)?;
    let wanted: Vec<_> = plans.iter().map(Plan::wanted).collect();
    let sockets = inherited::assign(sockets, &wanted, overlap)?;
    descriptors::raise_limit();
    let mut reactor = Reactor::new().map_err(|error| cannot("make an event loop", &error))?;
    reactor.set_grace(arguments.grace.unwrap_or(GRACE));
    reactor.handle_signals().map_err(|error| cannot("handle signals", &error))?;
    reactor.report_to(super::print_report);
    let mut lines = String::new();
    for (Plan { entry, addrs, .. }, sockets) in plans.iter().zip(sockets) {
        let opened = match sockets.is_empty() {
            true => vec![open(&mut reactor, entry, addrs, &arguments)?],
            false => open_inherited(&mut reactor, entry, sockets, &arguments)?,
        };
        for addr in opened {
            lines += &match addr {
                Addr::Ip(addr) => format!("listening {} {} {addr}\n", entry.name, entry.make.transport()),
                Addr::Unix(addr) => format!("listening {} unix {addr}\n", entry.name),
            };
        }
    }
    lines += "ready\n";
    // After every listener is open, the other descriptors are for connections.
    if let Some(asked) = arguments.max_connections.filter(|&asked| asked > 0) {
        reactor.set_max_connections(descriptors::allowed_connections(asked));
    }
    // A closed standard output does not stop a server.
    let _ = io::stdout().write_all(lines.as_bytes()).and_then(|()| io::stdout().flush());
    let ended = reactor.run().map_err(|error| cannot("wait for events", &error))?;
    let ledger = match arguments.ledger {
        LedgerFormat::Text => reactor.ledger().to_string(),
        LedgerFormat::Json => reactor.ledger().to_json() + "\n",
        LedgerFormat::None => String::new(),
    };
    let _ = Stderr::with_timeout(FINAL_TIMEOUT).write_all(ledger.as_bytes());
    Ok(match ended {
        RunOutcome::Drained => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// Adds one service to the reactor.
fn add(reactor: &mut Reactor, entry: &Entry, arguments: &Arguments) -> ServiceId {
    let settings = arguments.settings();
    match entry.make {
        Make::Tcp(make) => reactor.add_service(entry.name, make(&settings)),
        Make::Udp(make) => reactor.add_datagram_service(entry.name, make(&settings)),
    }
}

/// Starts one service on sockets of a supervisor, and returns their addresses.
fn open_inherited(
    reactor: &mut Reactor,
    entry: &Entry,
    sockets: Vec<Inherited>,
    arguments: &Arguments,
) -> Result<Vec<Addr>, Failure> {
    let service = add(reactor, entry, arguments);
    let mut addrs = Vec::new();
    for Inherited { descriptor, addr, socket } in sockets {
        let opened = match socket {
            Socket::Stream(socket) => reactor.listen_on(service, socket, arguments.policy(entry)).map(|(_, addr)| addr),
            Socket::Datagram(socket) => reactor.bind_datagram_on(service, socket).map(|(_, addr)| addr.into()),
        };
        let name = entry.name;
        addrs.push(opened.map_err(|error| {
            let cause = cause(&error);
            Failure::Runtime(format!("{name}: cannot use the inherited socket {descriptor} at {addr}: {cause}"))
        })?);
    }
    Ok(addrs)
}

/// Starts one service at the first of `addrs` that this host has, and returns the real address.
fn open(reactor: &mut Reactor, entry: &Entry, addrs: &[Addr], arguments: &Arguments) -> Result<Addr, Failure> {
    let options = arguments.options();
    let service = add(reactor, entry, arguments);
    let mut failure = None;
    for addr in addrs {
        let opened = match (entry.make, addr.as_socket()) {
            (Make::Udp(_), Some(addr)) => reactor.bind_datagram(service, addr, &options).map(|(_, addr)| addr.into()),
            (Make::Tcp(_), _) => {
                reactor.listen(service, addr.clone(), &options, arguments.policy(entry)).map(|(_, addr)| addr)
            }
            (Make::Udp(_), None) => continue,
        };
        match opened {
            Ok(addr) => return Ok(addr),
            Err(error) => failure = Some((addr, error)),
        }
        let family_is_missing = matches!(
            failure.as_ref().and_then(|(_, error)| error.raw_os_error()),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
        );
        if !family_is_missing {
            break;
        }
    }
    let Some((addr, error)) = failure else {
        return Err(Failure::Runtime(format!("{}: no address to listen on", entry.name)));
    };
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied if addr.as_socket().is_some_and(|addr| addr.port() < 1024) => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this host has it)",
        io::ErrorKind::AlreadyExists => " (remove it, or choose another path)",
        io::ErrorKind::NotFound => " (the directory must exist)",
        _ => "",
    };
    let name = entry.name;
    Err(Failure::Runtime(format!("{name}: cannot listen on {addr}: {}{remedy}", cause(&error))))
}
