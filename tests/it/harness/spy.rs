//! The library in a thread of the test: a service that reports each callback and acts on it as the test wants.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use reactor::id::{ConnId, ListenerId, ServiceId};
use reactor::limits::Policy;
use reactor::reactor::{Handle, Ledger, ListenOptions, Poster, Reactor, RunOutcome};
use reactor::service::{CloseReason, Context, Receive, Service, ServiceContext, TimerName};
use reactor::timer::{Deadline, Time};

use super::process::Stopwatch;
use super::{PATIENCE, client};

/// A callback of the spy.
#[derive(Clone, PartialEq, Debug)]
pub enum Callback {
    Open,
    Data(Vec<u8>),
    Eof,
    Deadline(Deadline),
    Close(CloseReason),
    Timer(u64),
    DialError(CloseReason),
    /// A task of the test has run.
    Done,
}

/// A callback, its time and its connection.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Time,
    pub id: Option<ConnId>,
    pub callback: Callback,
}

/// The spy's reaction to a callback of a connection.
pub type Act = Box<dyn FnMut(&mut Context<'_>, &Callback) + Send>;

/// A closure that the test posts to the loop.
pub type Task = Box<dyn FnOnce(&mut ServiceContext) + Send>;

/// The service of a [`Loop`].
pub struct SpyService {
    events: Sender<Event>,
    act: Act,
}

impl SpyService {
    /// Reports before it acts: the act may block the loop until the test has seen the event.
    fn report(&mut self, ctx: &mut Context<'_>, callback: Callback) {
        let _ = self.events.send(Event { at: ctx.now(), id: Some(ctx.id()), callback: callback.clone() });
        (self.act)(ctx, &callback);
    }
}

impl Service for SpyService {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.report(ctx, Callback::Open);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.report(ctx, Callback::Data(input.to_vec()));
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.report(ctx, Callback::Eof);
        ctx.finish();
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        self.report(ctx, Callback::Deadline(which));
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let callback = Callback::DialError(reason);
        let _ = self.events.send(Event { at: ctx.now(), id: Some(ctx.id()), callback });
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let _ = self.events.send(Event { at: ctx.now(), id: None, callback: Callback::Timer(timer.0) });
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        let _ = self.events.send(Event { at: ctx.now(), id: Some(id), callback: Callback::Close(reason) });
    }
}

impl Receive<Task> for SpyService {
    fn on_post(&mut self, ctx: &mut ServiceContext, task: Task) {
        task(ctx);
        let _ = self.events.send(Event { at: ctx.now(), id: None, callback: Callback::Done });
    }
}

/// A reactor in a thread of its own, with one spy that has a listener.
pub struct Loop {
    pub handle: Handle,
    pub poster: Poster<Task>,
    pub addr: SocketAddr,
    /// The number of the loop's thread (gettid(2)).
    tid: i32,
    events: Receiver<Event>,
    thread: JoinHandle<(RunOutcome, Ledger)>,
}

impl Loop {
    /// Starts a loop whose spy only reports.
    pub fn start() -> Self {
        Self::acting(Policy::default(), |_, _| {})
    }

    /// Starts a loop whose spy acts.
    pub fn acting(policy: Policy, act: impl FnMut(&mut Context<'_>, &Callback) + Send + 'static) -> Self {
        Self::prepared(policy, act, |_, _| {})
    }

    /// Starts a loop that `prepare` changes before it runs.
    pub fn prepared(
        policy: Policy,
        act: impl FnMut(&mut Context<'_>, &Callback) + Send + 'static,
        prepare: impl FnOnce(&mut Reactor, ServiceId) + Send + 'static,
    ) -> Self {
        let (sender, events) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().expect("an event loop");
            let mut tasks = None;
            let service = reactor.add_service_with("spy", |poster| {
                tasks = Some(poster);
                SpyService { events: sender, act: Box::new(act) }
            });
            let (_, addr) = listen(&mut reactor, service, policy);
            prepare(&mut reactor, service);
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            started.send((reactor.handle(), tasks.expect("added"), addr, tid)).expect("the test waits for the start");
            let outcome = reactor.run().expect("run");
            (outcome, reactor.ledger().clone())
        });
        let (handle, poster, addr, tid) = start.recv_timeout(PATIENCE).expect("the loop starts");
        Self { handle, poster, addr, tid, events, thread }
    }

    /// Starts a stopwatch that counts the time in which the loop and the test could run.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::of_thread(self.tid)
    }

    /// Runs `task` in the loop; [`Callback::Done`] follows.
    pub fn post(&self, task: impl FnOnce(&mut ServiceContext) + Send + 'static) {
        self.poster.post(Box::new(task)).expect("room in the mailbox");
    }

    /// Runs `task` in the loop and waits until it and every earlier post have run. Returns the time of its turn.
    #[track_caller]
    pub fn run(&self, task: impl FnOnce(&mut ServiceContext) + Send + 'static) -> Time {
        self.post(task);
        self.expect(Callback::Done).at
    }

    /// Posts `act` on the connection `id`, which must not have ended. [`Callback::Done`] follows.
    pub fn post_on(&self, id: ConnId, act: impl FnOnce(&mut Context<'_>) + Send + 'static) {
        self.post(move |ctx| act(&mut ctx.connection(id).expect("a connection")));
    }

    /// Runs `act` on the connection `id`, as [`run`](Self::run).
    #[track_caller]
    pub fn run_on(&self, id: ConnId, act: impl FnOnce(&mut Context<'_>) + Send + 'static) -> Time {
        self.post_on(id, act);
        self.expect(Callback::Done).at
    }

    /// Returns the next event.
    #[track_caller]
    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// Returns the next event, which must be `callback`.
    #[track_caller]
    pub fn expect(&self, callback: Callback) -> Event {
        let event = self.next();
        assert_eq!(event.callback, callback, "{event:?}");
        event
    }

    /// Connects a client. Returns its stream and the id of its connection.
    #[track_caller]
    pub fn connect(&self) -> (TcpStream, ConnId) {
        let peer = client(self.addr);
        (peer, self.expect(Callback::Open).id.expect("of a connection"))
    }

    /// Stops the loop. Returns its outcome, its counters and the events until the end.
    pub fn stop(self) -> (RunOutcome, Ledger, Vec<Event>) {
        self.handle.stop();
        self.wait()
    }

    /// Waits for the end of the loop. Returns the same as [`stop`](Self::stop).
    pub fn wait(self) -> (RunOutcome, Ledger, Vec<Event>) {
        let mut rest = Vec::new();
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => rest.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the loop does not end; until now: {rest:?}"),
            }
        }
        let (outcome, ledger) = self.thread.join().expect("the loop has not panicked");
        (outcome, ledger, rest)
    }
}

/// Listens for `service` on a free port of 127.0.0.1.
#[track_caller]
pub fn listen(reactor: &mut Reactor, service: ServiceId, policy: Policy) -> (ListenerId, SocketAddr) {
    let listened = reactor.listen(service, ([127, 0, 0, 1], 0), &ListenOptions::default(), policy);
    let (id, addr) = listened.expect("listen");
    (id, addr.as_socket().expect("an IP address"))
}

/// Returns the reason of each connection's end in `events`. Panics if a connection has two ends, or an event after its end.
#[track_caller]
pub fn ends(events: &[Event]) -> HashMap<ConnId, CloseReason> {
    let mut ends = HashMap::new();
    for Event { id, callback, .. } in events {
        let Some(id) = id else { continue };
        assert!(!ends.contains_key(id), "{id} has {callback:?} after its end");
        if let Callback::Close(reason) = callback {
            ends.insert(*id, *reason);
        }
    }
    ends
}
