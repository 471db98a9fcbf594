//! A client with a protocol of its own, made of the pieces of `reactor::clients`.
//!
//! - **Run** `cargo run -- serve echo` first, then `cargo run --example reconnecting [ADDR]...` beside it (the addresses
//!   of `localhost`, port 7007, unless given).
//! - **Try** to end the server with Ctrl-C and start it again. Then stop it with Ctrl-Z, and continue it with `fg`.
//! - **Notice** that `Counter` decides what to send. The pieces decide when to dial, how long to wait, and when a silent
//!   server is dead. None of them knows a clock or a socket.

use std::env;
use std::error::Error;
use std::time::Duration;

use reactor::addr::Addr;
use reactor::clients::{Backoff, Dialer, Heartbeat, Pulse};
use reactor::id::ConnId;
use reactor::limits::Policy;
use reactor::reactor::Reactor;
use reactor::service::{CloseReason, Context, Service, ServiceContext, TimerName};

const RETRY: TimerName = TimerName(1);
const BEAT: TimerName = TimerName(2);

/// Sends numbers, and expects an echo.
struct Counter {
    addrs: Vec<Addr>,
    dialer: Dialer,
    backoff: Backoff,
    heartbeat: Heartbeat,
    connection: Option<ConnId>,
    count: u64,
}

impl Counter {
    fn new(addrs: Vec<Addr>) -> Self {
        Self {
            addrs,
            dialer: Dialer::new(Duration::from_secs(3), None, Policy::default()),
            backoff: Backoff::new(fastrand::Rng::new()),
            heartbeat: Heartbeat::new(Duration::from_secs(1)),
            connection: None,
            count: 0,
        }
    }

    fn attempt(&mut self, ctx: &mut ServiceContext) {
        self.dialer.begin(ctx.now());
        if let Some(reason) = self.dialer.dial(ctx, self.addrs.clone()) {
            self.lost(ctx, reason);
        }
    }

    fn lost(&mut self, ctx: &mut ServiceContext, reason: CloseReason) {
        self.connection = None;
        if let Some(wait) = self.backoff.failed() {
            println!("{reason}; again in {wait:.1?}");
            ctx.set_timer(RETRY, ctx.now() + wait, Duration::ZERO);
        }
    }

    fn beat(&mut self, ctx: &mut ServiceContext) {
        let Some(mut connection) = self.connection.and_then(|id| ctx.connection(id)) else { return };
        match self.heartbeat.pulse(connection.now()) {
            Pulse::Quiet => {}
            Pulse::Beat => {
                self.count += 1;
                connection.send(format!("{}\n", self.count).as_bytes());
                self.heartbeat.spoken(connection.now());
            }
            Pulse::Dead => return connection.abort(),
        }
        ctx.set_timer(BEAT, self.heartbeat.due(), Duration::ZERO);
    }
}

impl Service for Counter {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.attempt(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        println!("connected to {}", ctx.peer_addr());
        self.backoff.succeeded();
        self.heartbeat.start(ctx.now());
        self.connection = Some(ctx.id());
        self.beat(ctx);
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        if let Some(reason) = self.dialer.on_dial_error(ctx, reason) {
            self.lost(ctx, reason);
        }
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.heartbeat.heard(ctx.now());
        print!("{}", String::from_utf8_lossy(input));
        input.len()
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            RETRY => self.attempt(ctx),
            _ => self.beat(ctx),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        self.lost(ctx, reason);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut addrs: Vec<String> = env::args().skip(1).collect();
    if addrs.is_empty() {
        // The addresses of `localhost`, which the dialer tries in turn.
        addrs = ["[::1]:7007", "127.0.0.1:7007"].map(str::to_owned).to_vec();
    }
    let parse = |addr: &String| addr.parse().map_err(|error| format!("{addr}: {error}"));
    let addrs = addrs.iter().map(parse).collect::<Result<Vec<Addr>, _>>()?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    reactor.add_service("counter", Box::new(Counter::new(addrs)));
    reactor.run()?;
    Ok(())
}
