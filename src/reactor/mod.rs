//! The machinery: one thread, one poll loop, a slab of sources.
//!
//! Owns: [`Reactor`] and its turn. Must not know: any protocol. It meets its services only at the contract,
//! [`crate::service`].
//!
//! ```text
//!            ┌────────────────────────── one turn ──────────────────────────┐
//!            │  wait      epoll_wait: until an event, the next timer, or     │
//!            │            not at all if somebody still wants a turn          │
//!            │  note      events set readiness bits and queue their sources  │
//!            │  expire    the wheel: timers whose tick has come              │
//!            │  work      each ready source once: fill, its service, apply   │
//!            │            the commands, flush                                │
//!            │  reap      tell the services who is gone, free the slots      │
//!            └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! In Go, `wait` and `note` are `runtime.netpoll`, called by the scheduler; `work` is what the goroutines do that it
//! makes runnable.
//!
//! Invariants:
//! 1. The clock is read once per turn, after the wait.
//! 2. A source is in a ready queue at most once; it comes there by an event, an alarm, or because it wants a turn.
//! 3. Slots are freed in `reap` only: no id that was valid in `work` becomes somebody else's within the turn.

mod accept;
mod apply;
mod datagrams;
mod handle;
mod observe;
mod setup;
mod source;
mod stop;
mod sys;
mod timers;
mod work;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::debug;
use mio::{Events, Poll};

pub use self::handle::{Handle, PostError, Poster};
pub use self::observe::ledger::Ledger;
pub use self::observe::report::ConnectionStatus;
pub use self::stop::RunOutcome;
pub use self::sys::open::ListenOptions;

use self::handle::Mailbox;
use self::observe::recorder::Recorder;
use self::observe::report;
use self::source::sources::Sources;
use self::stop::Stop;
use self::sys::batch::Batch;
use self::sys::outcome::Observer;
use self::sys::signals::Signals;
use self::timers::{Alarm, Timers};
use crate::id::{Addressee, ConnId, ServiceId, SourceId};
use crate::limits::{EVENTS, SCRATCH};
use crate::service::{CloseReason, DialName, Service, ServiceContext, SocketContext};
use crate::timer::Time;

/// A callback that is due at the beginning of a turn.
#[derive(Clone, Copy, Debug)]
enum ScheduledCall {
    /// `on_start`: the service was added since the last turn.
    Start,
    /// `on_turn`: the service has requested the call.
    Turn,
}

/// The number of the next reactor of the process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The receiver of the report that SIGUSR1 requests.
type ReportSink = Box<dyn FnMut(&str)>;

/// An event loop: sources, services, and the turn that brings them together.
///
/// ```no_run
/// use reactor::limits::Policy;
/// use reactor::reactor::{ListenOptions, Reactor};
/// use reactor::services::Echo;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.add_service("echo", Box::new(Echo));
/// let (_, addr) = reactor.listen(echo, ([127, 0, 0, 1], 7007).into(), &ListenOptions::default(), Policy::default())?;
/// println!("listening on {addr}");
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Reactor {
    poll: Poll,
    events: Events,
    started: Instant,
    now: Time,
    sources: Sources,
    services: Vec<(&'static str, Box<dyn Service>)>,
    /// Connections that have ended in this turn.
    closing: Vec<ConnId>,
    /// Callbacks that are due at the beginning of the next turn.
    scheduled: Vec<(Addressee, ScheduledCall)>,
    /// The names of the dials that are under way.
    dials: HashMap<ConnId, DialName>,
    /// Dials that failed at once, without a socket or a route.
    failed_dials: Vec<(ServiceId, DialName, CloseReason)>,
    timers: Timers,
    context: ServiceContext,
    socket_context: SocketContext,
    scratch: Box<[u8]>,
    batch: Batch,
    recorder: Recorder,
    mailbox: Mailbox,
    signals: Option<Signals>,
    stop: Stop,
    max_connections: usize,
    report_sink: Option<ReportSink>,
    /// Connections that were adopted since the last turn.
    adopted: Vec<ConnId>,
    /// The number of the reactor within the process: a service id of another reactor is an error at the call.
    number: u32,
}

impl Reactor {
    /// A reactor without sources. Its clock starts now.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and eventfd(2): a lack of descriptors.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mailbox = Mailbox::new(poll.registry(), number)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            now: Time::ZERO,
            sources: Sources::default(),
            services: Vec::new(),
            closing: Vec::with_capacity(EVENTS),
            scheduled: Vec::new(),
            dials: HashMap::new(),
            failed_dials: Vec::new(),
            timers: Timers::new(),
            context: ServiceContext::new(SystemTime::now),
            socket_context: SocketContext::new(),
            scratch: vec![0; SCRATCH].into(),
            batch: Batch::default(),
            recorder: Recorder::default(),
            mailbox,
            signals: None,
            stop: Stop::default(),
            max_connections: usize::MAX,
            report_sink: None,
            adopted: Vec::new(),
            number,
        })
    }

    /// Turns until the reactor has been stopped.
    ///
    /// # Errors
    /// Only those of the poll itself, which no peer can cause.
    pub fn run(&mut self) -> io::Result<RunOutcome> {
        loop {
            if let Some(ended) = self.ended() {
                debug!("the reactor has stopped: {ended:?}");
                return Ok(ended);
            }
            self.turn()?;
        }
    }

    /// How the run has ended, if it has: for a program that calls [`turn`](Self::turn) itself, to look at the reactor
    /// between two turns.
    pub fn ended(&self) -> Option<RunOutcome> {
        self.stop.ended(&self.sources).filter(|&ended| self.failed_dials.is_empty() || ended == RunOutcome::Forced)
    }

    /// The number of the signal that has made it stop, if it was one ([`handle_signals`](Self::handle_signals)).
    pub fn stop_signal(&self) -> Option<i32> {
        self.stop.signal
    }

    /// One turn.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.note();
        self.expire();
        self.work();
        self.reap();
        Ok(())
    }

    /// Waits for events: for ever, until the next timer is due, or not at all. Afterwards it is `now`.
    #[inline(never)]
    fn wait(&mut self) -> io::Result<()> {
        let timeout = if self.has_more_to_do() { Some(Duration::ZERO) } else { self.timers.next_timeout(self.now) };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                self.recorder.interrupted();
            }
            Err(error) => return Err(error),
        }
        self.now = self.clock();
        self.context.set_now(self.now);
        self.recorder.wait(timeout, &self.events);
        Ok(())
    }

    /// The clock itself: read once per turn, after the wait, and by those who are called between turns.
    fn clock(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Whether there is something to do before the kernel says anything.
    fn has_more_to_do(&self) -> bool {
        self.sources.has_ready()
            || !self.failed_dials.is_empty()
            || !self.scheduled.is_empty()
            || !self.adopted.is_empty()
            || self.mailbox.is_woken()
    }

    /// Turns events into readiness, and queues their sources.
    #[inline(never)]
    fn note(&mut self) {
        let Self { events, sources, recorder, mailbox, signals, .. } = self;
        for event in events.iter() {
            let Some(id) = SourceId::from_word(event.token().0) else {
                mailbox.note(event);
                if let Some(signals) = signals {
                    signals.note(event);
                }
                continue;
            };
            recorder.event(id, event);
            if !sources.note(id, event) {
                recorder.ledger.stale_events += 1;
            }
        }
    }

    /// Takes from the wheel what is due. After the events: a connection whose bytes have just arrived is not idle, but
    /// a deadline that has passed still beats them.
    #[inline(never)]
    fn expire(&mut self) {
        while let Some(alarm) = self.timers.expire(self.now) {
            self.recorder.ledger.timers_fired += 1;
            match alarm {
                Alarm::Connection(id) => self.deadline_due(id),
                Alarm::Retry(id) => self.end_backoff(id),
                Alarm::Named(owner, name) => self.named_timer_due(owner, name),
                Alarm::Grace => self.end_grace(),
            }
        }
    }

    /// Returns the state of a connection, or `None` if the id is stale.
    pub fn connection_status(&self, id: ConnId) -> Option<ConnectionStatus> {
        self.sources.get(id).map(|connection| connection.status())
    }

    /// Returns the ledger and a table of all sources, one a line.
    pub fn report(&self) -> String {
        let rows = self.sources.rows(|service| self.services[service.index()].0);
        report::report(&self.recorder.ledger, self.now, self.timers.len(), rows)
    }

    /// The counters.
    pub fn ledger(&self) -> &Ledger {
        &self.recorder.ledger
    }

    /// The present, as of the last turn.
    pub fn now(&self) -> Time {
        self.now
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("now", &self.now).field("sources", &self.sources).finish_non_exhaustive()
    }
}
