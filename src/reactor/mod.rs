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
mod named_timers;
mod observe;
mod setup;
mod source;
mod stop;
mod sys;
mod timers;
mod work;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use log::debug;
use mio::{Events, Poll};

pub use self::handle::{Handle, PostError};
pub use self::observe::ledger::Ledger;
pub use self::observe::report::ConnectionStatus;
pub use self::stop::RunOutcome;
pub use self::sys::open::ListenOptions;

use self::handle::Mailbox;
use self::named_timers::NamedTimers;
use self::observe::recorder::Recorder;
use self::source::sources::{Source, Sources};
use self::stop::Stop;
use self::sys::batch::Batch;
use self::sys::signals::Signals;
use crate::id::{Addressee, ConnId, ServiceId, SourceId};
use crate::limits::{EVENTS, SCRATCH};
use crate::service::{CloseReason, DialName, Service, ServiceContext, SocketContext, TimerName};
use crate::timer::{Tick, Time, Wheel};

/// What an entry of the wheel is about.
#[derive(Clone, Copy, Debug)]
enum Alarm {
    /// The earliest deadline of a connection, as it was when the alarm was set.
    Connection(SourceId),
    /// The end of a listener's rest.
    Listener(SourceId),
    /// The end of a datagram socket's rest.
    Socket(SourceId),
    /// A timer of a service.
    Named(Addressee, TimerName),
    /// The end of the grace period.
    Grace,
}

/// What somebody is called for at the beginning of a turn.
#[derive(Clone, Copy, Debug)]
enum Invitation {
    /// It has been added since the last one: `on_start`.
    Start,
    /// It has asked for it: `on_turn`.
    Turn,
}

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
/// let addr = reactor.listen(echo, ([127, 0, 0, 1], 7007).into(), &ListenOptions::default(), Policy::default())?;
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
    /// Those who want a turn: filled until `work` begins, then for the next turn.
    ready: Vec<SourceId>,
    /// An empty queue that has memory: the two queues take turns.
    spare: Vec<SourceId>,
    /// Connections that somebody else's callback has changed: flushed and settled at the end of the turn.
    touched: Vec<SourceId>,
    /// Connections that have ended in this turn.
    ended: Vec<SourceId>,
    /// Those who are called at the beginning of the next turn.
    invited: Vec<(Addressee, Invitation)>,
    /// What the dials that are under way are called.
    dials: HashMap<ConnId, DialName>,
    /// Dials that have failed at once, for want of a socket or a route.
    stillborn: Vec<(ServiceId, DialName, CloseReason)>,
    wheel: Wheel<Alarm>,
    timers: NamedTimers,
    context: ServiceContext,
    socket_context: SocketContext,
    scratch: Box<[u8]>,
    batch: Batch,
    recorder: Recorder,
    mailbox: Mailbox,
    signals: Option<Signals>,
    stop: Stop,
    max_connections: usize,
}

impl Reactor {
    /// A reactor without sources. Its clock starts now.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and eventfd(2): a lack of descriptors.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Mailbox::new(poll.registry())?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            now: Time::ZERO,
            sources: Sources::default(),
            services: Vec::new(),
            ready: Vec::with_capacity(EVENTS),
            spare: Vec::with_capacity(EVENTS),
            touched: Vec::with_capacity(EVENTS),
            ended: Vec::with_capacity(EVENTS),
            invited: Vec::new(),
            dials: HashMap::new(),
            stillborn: Vec::new(),
            wheel: Wheel::new(Tick(0)),
            timers: NamedTimers::default(),
            context: ServiceContext::new(SystemTime::now),
            socket_context: SocketContext::new(),
            scratch: vec![0; SCRATCH].into(),
            batch: Batch::default(),
            recorder: Recorder::default(),
            mailbox,
            signals: None,
            stop: Stop::default(),
            max_connections: usize::MAX,
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
        self.stop.ended(&self.sources).filter(|&ended| self.stillborn.is_empty() || ended == RunOutcome::Forced)
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
        let timeout = if self.has_more_to_do() {
            Some(Duration::ZERO)
        } else {
            self.wheel.next_expiry().map(|tick| tick.begins().since(self.now))
        };
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
        !self.ready.is_empty() || !self.stillborn.is_empty() || !self.invited.is_empty() || self.mailbox.is_woken()
    }

    /// Turns events into readiness, and queues their sources.
    #[inline(never)]
    fn note(&mut self) {
        let Self { events, sources, ready, recorder, mailbox, signals, .. } = self;
        for event in events.iter() {
            let Some(id) = SourceId::from_word(event.token().0) else {
                mailbox.note(event);
                if let Some(signals) = signals {
                    signals.note(event);
                }
                continue;
            };
            recorder.event(id, event);
            let queued = match sources.get_mut(id) {
                Some(Source::Connection(connection)) => {
                    connection.note(event);
                    &mut connection.queued
                }
                Some(Source::Listener(listener)) => {
                    listener.note(event);
                    &mut listener.queued
                }
                Some(Source::Datagram(socket)) => {
                    socket.note(event);
                    &mut socket.queued
                }
                Some(Source::Taken) | None => {
                    recorder.ledger.stale_events += 1;
                    continue;
                }
            };
            if !std::mem::replace(queued, true) {
                ready.push(id);
            }
        }
    }

    /// Takes from the wheel what is due. After the events: a connection whose bytes have just arrived is not idle, but
    /// a deadline that has passed still beats them.
    #[inline(never)]
    fn expire(&mut self) {
        while let Some(alarm) = self.wheel.expire(Tick::of_now(self.now)) {
            self.recorder.ledger.timers_fired += 1;
            match alarm {
                Alarm::Connection(id) => self.deadline_due(id),
                Alarm::Listener(id) => self.end_rest(id),
                Alarm::Socket(id) => self.end_socket_rest(id),
                Alarm::Named(owner, name) => self.named_timer_due(owner, name),
                Alarm::Grace => self.end_grace(),
            }
        }
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
