//! How late deadlines fire: `cargo bench --bench lateness`.
//!
//! One reactor has 10,000 connections, each with a read deadline of its own between 10 ms and 5 s. The first case has no
//! other work; in the second case 50 more connections echo as fast as they can. The clients are a second process (this
//! program again), because one process has not enough descriptors for both ends of all connections.
//!
//! The lateness is measured in the callback, by a clock of its own, as a service would notice it. "Early" compares with the
//! reactor's clock. The benchmark prints one line per case, and fails if any deadline fires early or never.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reactor::id::{ConnId, ConnMap};
use reactor::limits::Policy;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{Context, Service};
use reactor::services::Echo;
use reactor::timer::{Deadline, Time};

const CONNECTIONS: usize = 10_000;
const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_secs(5);

/// The measured lateness.
#[derive(Default)]
struct Lateness {
    early: usize,
    late: Vec<Duration>,
}

/// Gives each connection a deadline once all are open, and measures when it fires.
struct Timed {
    clock: Instant,
    random: u64,
    waiting: Vec<ConnId>,
    due: ConnMap<Time>,
    lateness: Arc<Mutex<Lateness>>,
}

impl Timed {
    fn some_timeout(&mut self) -> Duration {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        FIRST + (LAST - FIRST).mul_f64((self.random >> 33) as f64 / (1u64 << 31) as f64)
    }
}

impl Service for Timed {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.waiting.push(ctx.id());
        if self.waiting.len() < CONNECTIONS {
            return;
        }
        for id in std::mem::take(&mut self.waiting) {
            let due = ctx.now() + self.some_timeout();
            self.due.insert(id, due);
            if let Some(mut connection) = ctx.connection(id) {
                connection.set_deadline(Deadline::Read, due);
            }
        }
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, _which: Deadline) {
        let due = self.due.remove(ctx.id()).unwrap_or(Time::ZERO);
        let mut lateness = self.lateness.lock().expect("one thread");
        lateness.early += usize::from(ctx.now() < due);
        lateness.late.push((Time::ZERO + self.clock.elapsed()).since(due));
        ctx.abort();
        if lateness.late.len() == CONNECTIONS {
            ctx.stop_reactor();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, timed, echo, echoes] = arguments.as_slice()
        && role == "clients"
    {
        return clients(timed.parse()?, echo.parse()?, echoes.parse()?);
    }
    for (name, echoes) in [("idle", 0), ("under load", 50)] {
        measure(name, echoes)?;
    }
    Ok(())
}

fn measure(name: &str, echoes: usize) -> Result<(), Box<dyn Error>> {
    let lateness = Arc::new(Mutex::new(Lateness::default()));
    let clock = Instant::now();
    let mut reactor = Reactor::new()?;
    reactor.set_grace(Duration::from_millis(100));
    let timed = Timed { clock, random: 1, waiting: Vec::new(), due: ConnMap::new(), lateness: Arc::clone(&lateness) };
    let timed = reactor.add_service("timed", Box::new(timed));
    let echo = reactor.add_service("echo", Box::new(Echo));
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let (_, timed_addr) = reactor.listen(timed, local, &ListenOptions::default(), Policy::default())?;
    let (_, echo_addr) = reactor.listen(echo, local, &ListenOptions::default(), Policy::default())?;
    let mut clients: Child = Command::new(std::env::current_exe()?)
        .args(["clients", &timed_addr.to_string(), &echo_addr.to_string(), &echoes.to_string()])
        .stdin(Stdio::piped())
        .spawn()?;
    reactor.run()?;
    // The other process ends at the end of its input.
    drop(clients.stdin.take());
    clients.wait()?;
    let mut lateness = lateness.lock().expect("one thread");
    lateness.late.sort_unstable();
    let late = |share: f64| lateness.late[((CONNECTIONS - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{CONNECTIONS} deadlines, {name}: early {}; late p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; {} echoes",
        lateness.early,
        late(0.5),
        late(0.99),
        late(1.0),
        reactor.ledger().reads,
    );
    if lateness.early > 0 || lateness.late.len() != CONNECTIONS {
        return Err("a deadline fired early, or never".into());
    }
    Ok(())
}

/// The other process: holds the timed connections, and sends messages on the echo connections until its input ends.
fn clients(timed: SocketAddr, echo: SocketAddr, echoes: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..echoes {
        let mut peer = TcpStream::connect(echo)?;
        thread::spawn(move || {
            let mut bytes = [b'x'; 64];
            while peer.write_all(&bytes).is_ok() && peer.read_exact(&mut bytes).is_ok() {}
        });
    }
    let held: Result<Vec<_>, _> = (0..CONNECTIONS).map(|_| TcpStream::connect(timed)).collect();
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held?);
    Ok(())
}
