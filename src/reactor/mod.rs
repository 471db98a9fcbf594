//! The machinery: one thread, one poll loop, a slab of sources.
//!
//! Owns: [`Reactor`] and its turn. Must not know: any protocol. The reactor calls its services only by the contract,
//! [`crate::service`].
//!
//! ```text
//!            ┌────────────────────────── one turn ───────────────────────────┐
//!            │  wait      epoll_wait: until an event or the next timer; not  │
//!            │            at all while sources are ready or calls are due    │
//!            │  note      events set readiness bits and queue their sources  │
//!            │  expire    the wheel: timers whose tick has come              │
//!            │  work      for each ready source once: fill, call the         │
//!            │            service, apply the commands, flush                 │
//!            │  reap      call on_close for ended connections, free slots    │
//!            └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! In Go, the scheduler calls `runtime.netpoll`, which is `wait` and `note`. The goroutines that netpoll makes runnable
//! do the `work`.
//!
//! Invariants:
//! 1. The turn reads the clock once, after the wait.
//! 2. A source is in the ready queue at most once. An event or an alarm puts the source there, or a turn that leaves
//!    work undone.
//! 3. Ids of connections are freed in `reap` only. So an id that was valid in `work` names no other connection within
//!    the turn.

mod observe;
mod services;
mod setup;
mod source;
mod stop;
mod sys;
mod threads;
mod timers;
mod turn;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::debug;
use mio::{Events, Poll};

pub use self::observe::ledger::Ledger;
pub use self::observe::report::ConnectionStatus;
pub use self::source::descriptor::Interest;
pub use self::stop::RunOutcome;
pub use self::threads::handle::Handle;
pub use self::threads::pool::OffloadError;
pub use self::threads::poster::{PostError, Poster};
pub use crate::service::ListenOptions;

use self::observe::recorder::Recorder;
use self::observe::report;
use self::services::Entry;
use self::setup::RequestOutcome;
use self::source::sources::Sources;
use self::stop::Stop;
use self::sys::batch::Batch;
use self::sys::outcome::Observer;
use self::sys::pipe::Pipe;
use self::sys::signals::Signals;
use self::threads::handle::Mailbox;
use self::timers::{Alarm, Timers};
use crate::id::{ConnId, ServiceId, SocketId, SourceId};
use crate::limits::{EVENTS, SCRATCH};
use crate::service::ServiceContext;
use crate::timer::Time;

/// A callback that is due at the beginning of a turn.
#[derive(Clone, Copy, Debug)]
enum ScheduledCall {
    /// `on_start`: the service was added since the last turn.
    Start,
    /// `on_turn`: the service has requested the call.
    Turn,
    /// `on_open` of a datagram socket.
    Open(SocketId),
}

/// The number of the next reactor of the process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The receiver of the report that SIGUSR1 requests.
type ReportSink = Box<dyn FnMut(&str)>;

/// An event loop: sources, services, and the turn that calls the services for the sources.
///
/// ```no_run
/// use reactor::limits::Policy;
/// use reactor::reactor::{ListenOptions, Reactor};
/// use reactor::services::Echo;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.add_service("echo", Box::new(Echo));
/// let (_, addr) = reactor.listen(echo, ([127, 0, 0, 1], 7007), &ListenOptions::default(), Policy::default())?;
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
    services: Vec<Entry>,
    /// Connections that have ended in this turn.
    closing: Vec<ConnId>,
    /// Callbacks that are due at the beginning of the next turn.
    scheduled: Vec<(ServiceId, ScheduledCall)>,
    /// Outcomes of requests of this turn, which services learn at its end.
    outcomes: Vec<(ServiceId, RequestOutcome)>,
    timers: Timers,
    context: ServiceContext,
    scratch: Box<[u8]>,
    batch: Batch,
    /// Empty pipes, for the next connections whose input is bulk.
    spare_pipes: Vec<Pipe>,
    recorder: Recorder,
    mailbox: Mailbox,
    signals: Option<Signals>,
    /// The services that have asked for a signal, by its number.
    signal_services: Vec<(i32, ServiceId)>,
    stop: Stop,
    max_connections: usize,
    report_sink: Option<ReportSink>,
    /// Connections that were adopted since the last turn.
    adopted: Vec<ConnId>,
    /// The number of the reactor within the process. A call with a service id of another reactor returns an error.
    number: u32,
}

impl Reactor {
    /// Returns a reactor without sources. Its clock starts now.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and eventfd(2): a lack of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mailbox = Mailbox::new(poll.registry())?;
        let mut context = ServiceContext::new(SystemTime::now);
        context.directory_mut().begin_for(number);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            now: Time::ZERO,
            sources: Sources::default(),
            services: Vec::new(),
            closing: Vec::with_capacity(EVENTS),
            scheduled: Vec::new(),
            outcomes: Vec::new(),
            timers: Timers::new(),
            context,
            scratch: vec![0; SCRATCH].into(),
            batch: Batch::default(),
            spare_pipes: Vec::new(),
            recorder: Recorder::default(),
            mailbox,
            signals: None,
            signal_services: Vec::new(),
            stop: Stop::default(),
            max_connections: usize::MAX,
            report_sink: None,
            adopted: Vec::new(),
            number,
        })
    }

    /// Turns until the reactor has stopped, and returns the result of the run.
    ///
    /// # Errors
    /// Those of epoll_wait(2), which no peer can cause.
    pub fn run(&mut self) -> io::Result<RunOutcome> {
        loop {
            if let Some(ended) = self.ended() {
                debug!("the reactor has stopped: {ended:?}");
                return Ok(ended);
            }
            self.turn()?;
        }
    }

    /// Returns the result of the run, or `None` while the reactor runs.
    ///
    /// For programs that call [`turn`](Self::turn) themselves, to inspect the reactor between two turns.
    pub fn ended(&self) -> Option<RunOutcome> {
        let ends = self.outcomes.is_empty() || self.stop.has_reported;
        self.stop.ended(&self.sources).filter(|&ended| ends || ended == RunOutcome::Forced)
    }

    /// Returns the number of the signal that stopped the reactor, or `None` if no signal did
    /// ([`handle_signals`](Self::handle_signals)).
    pub fn stop_signal(&self) -> Option<i32> {
        self.stop.signal
    }

    /// Runs one turn: waits for events, serves the ready sources and frees the ended ones.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_for(None)
    }

    /// Runs one turn whose wait is at most `limit` long; `None` for no limit. For a loop inside another loop: a turn with a
    /// limit of zero when the descriptor of the reactor ([`AsFd`]) is readable or [`next_turn`](Self::next_turn) has
    /// passed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::Reactor;
    ///
    /// /// Calls `draw` at least every 16 ms, until the reactor has stopped.
    /// fn run(reactor: &mut Reactor, mut draw: impl FnMut()) -> std::io::Result<()> {
    ///     while reactor.ended().is_none() {
    ///         reactor.turn_for(Some(Duration::from_millis(16)))?;
    ///         draw();
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn_for(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.wait(limit)?;
        self.note();
        self.expire();
        self.work();
        self.reap();
        Ok(())
    }

    /// Returns the time until the next turn is due without an event of the kernel: zero while work is left, and `None` if
    /// no timer is set.
    pub fn next_turn(&self) -> Option<Duration> {
        if self.has_more_to_do() { Some(Duration::ZERO) } else { self.timers.until_next(self.clock()) }
    }

    /// Waits for events, at most until the next timer is due or for `limit`, and not at all while work is left. Then sets
    /// `now`.
    #[inline(never)]
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let timeout = if self.has_more_to_do() {
            Some(Duration::ZERO)
        } else {
            self.timers.next_timeout(self.now, || self.clock())
        };
        let timeout = match limit {
            None => timeout,
            Some(limit) => Some(timeout.map_or(limit, |timeout| timeout.min(limit))),
        };
        let mut poll = self.poll.poll(&mut self.events, timeout);
        // SIGCONT, for one, ends the wait of a process that was suspended, however long that was (epoll_wait(2), EINTR). The
        // events of that time come before the alarms. A wait of zero length is not interrupted.
        while poll.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            self.recorder.interrupted();
            poll = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        }
        poll?;
        self.now = self.clock();
        self.context.set_now(self.now);
        self.recorder.wait(timeout, &self.events);
        Ok(())
    }

    /// Returns the time of the clock. The turn reads the clock once, after the wait. A call between two turns reads the
    /// clock as well, because `now` may be old then.
    fn clock(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Returns true if the next turn has work without an event of the kernel.
    fn has_more_to_do(&self) -> bool {
        self.sources.has_ready()
            || !self.outcomes.is_empty()
            || !self.scheduled.is_empty()
            || !self.adopted.is_empty()
            || self.mailbox.is_woken()
    }

    /// Sets the readiness bits of each event, and queues the source of the event.
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

    /// Takes the due alarms from the wheel.
    ///
    /// The alarms come after the events: a connection whose bytes have just arrived is not idle. A deadline that has
    /// passed still beats the bytes.
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
        let peer = |id| self.context.directory().get(id).map_or_else(String::new, |facts| facts.peer.to_string());
        let rows = self.sources.rows(|service| self.services[service.index()].name, peer);
        report::report(&self.recorder.ledger, self.now, self.timers.len(), rows)
    }

    /// Returns the counters.
    pub fn ledger(&self) -> &Ledger {
        &self.recorder.ledger
    }

    /// Returns the time of the last turn.
    pub fn now(&self) -> Time {
        self.now
    }
}

impl AsFd for Reactor {
    /// Returns the descriptor of the poll loop (epoll(7)): readable while events wait for a turn.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("now", &self.now).field("sources", &self.sources).finish_non_exhaustive()
    }
}
