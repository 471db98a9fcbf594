//! The library in a thread of the test: a service that tells what it is told, and does what the test wants.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use reactor::id::{ConnId, ServiceId};
use reactor::limits::Policy;
use reactor::reactor::{Handle, Ledger, ListenOptions, Reactor, RunOutcome};
use reactor::service::{CloseReason, Context, DialName, Service, ServiceContext, TimerName};
use reactor::timer::{Deadline, Time};

use super::{PATIENCE, client};

/// What a service has been told.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    Open,
    Data(Vec<u8>),
    Eof,
    Deadline(Deadline),
    Close(CloseReason),
    Timer(u64),
    DialError(u64, CloseReason),
    /// An order of the test has been carried out.
    Done,
}

/// When it was told what, and about whom.
#[derive(Clone, Debug)]
pub struct News {
    pub at: Time,
    pub id: Option<ConnId>,
    pub what: Told,
}

/// What a spy does when a connection has been told something.
pub type Act = Box<dyn FnMut(&mut Context<'_>, &Told) + Send>;

type Order = Box<dyn FnOnce(&mut ServiceContext) + Send>;

struct Spy {
    sender: Sender<News>,
    act: Act,
}

impl Spy {
    /// Tells first and acts then: an act may block the loop, and the test has to know.
    fn tell(&mut self, ctx: &mut Context<'_>, what: Told) {
        let _ = self.sender.send(News { at: ctx.now(), id: Some(ctx.id()), what: what.clone() });
        (self.act)(ctx, &what);
    }
}

impl Service for Spy {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.tell(ctx, Told::Open);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.tell(ctx, Told::Data(input.to_vec()));
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.tell(ctx, Told::Eof);
        ctx.finish();
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        self.tell(ctx, Told::Deadline(which));
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        let _ = self.sender.send(News { at: ctx.now(), id: None, what: Told::DialError(dial.0, reason) });
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let _ = self.sender.send(News { at: ctx.now(), id: None, what: Told::Timer(timer.0) });
    }

    fn on_post(&mut self, ctx: &mut ServiceContext, message: Box<dyn std::any::Any + Send>) {
        message.downcast::<Order>().expect("an order")(ctx);
        let _ = self.sender.send(News { at: ctx.now(), id: None, what: Told::Done });
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let _ = self.sender.send(News { at: ctx.now(), id: Some(id), what: Told::Close(reason) });
    }
}

/// A reactor that runs in a thread of its own, with one spy that listens.
pub struct Loop {
    pub handle: Handle,
    pub service: ServiceId,
    pub addr: SocketAddr,
    news: Receiver<News>,
    thread: JoinHandle<(RunOutcome, Ledger)>,
}

impl Loop {
    /// Starts one whose spy only tells.
    pub fn start() -> Self {
        Self::acting(Policy::default(), |_, _| {})
    }

    /// Starts one whose spy acts.
    pub fn acting(policy: Policy, act: impl FnMut(&mut Context<'_>, &Told) + Send + 'static) -> Self {
        Self::prepared(policy, act, |_, _| {})
    }

    /// Starts one that is prepared before it runs.
    pub fn prepared(
        policy: Policy,
        act: impl FnMut(&mut Context<'_>, &Told) + Send + 'static,
        prepare: impl FnOnce(&mut Reactor, ServiceId) + Send + 'static,
    ) -> Self {
        let (sender, news) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().expect("an event loop");
            let service = reactor.add_service("spy", Box::new(Spy { sender, act: Box::new(act) }));
            let anywhere = ([127, 0, 0, 1], 0).into();
            let addr = reactor.listen(service, anywhere, &ListenOptions::default(), policy).expect("listen");
            prepare(&mut reactor, service);
            started.send((reactor.handle(), service, addr)).expect("the test waits for it");
            let ended = reactor.run().expect("run");
            (ended, reactor.ledger().clone())
        });
        let (handle, service, addr) = start.recv_timeout(PATIENCE).expect("the loop starts");
        Self { handle, service, addr, news, thread }
    }

    /// Has `order` carried out in the loop; [`Told::Done`] follows.
    pub fn order(&self, order: impl FnOnce(&mut ServiceContext) + Send + 'static) {
        let order: Order = Box::new(order);
        self.handle.post(self.service, Box::new(order)).expect("room in the mailbox");
    }

    /// Waits until the loop has done everything that it had been told by now to do.
    pub fn order_and_wait(&self, order: impl FnOnce(&mut ServiceContext) + Send + 'static) -> Time {
        self.order(order);
        self.expect(Told::Done).at
    }

    /// The next news.
    pub fn next(&self) -> News {
        self.news.recv_timeout(PATIENCE).expect("news")
    }

    /// The next news, which must be `what`.
    #[track_caller]
    pub fn expect(&self, what: Told) -> News {
        let news = self.next();
        assert_eq!(news.what, what, "{news:?}");
        news
    }

    /// A client, and the id of its connection.
    #[track_caller]
    pub fn connect(&self) -> (TcpStream, ConnId) {
        let peer = client(self.addr);
        (peer, self.expect(Told::Open).id.expect("of a connection"))
    }

    /// Stops it; how it ended, its counters, and the news until then.
    pub fn stop(self) -> (RunOutcome, Ledger, Vec<News>) {
        self.handle.stop();
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(self) -> (RunOutcome, Ledger, Vec<News>) {
        let mut rest = Vec::new();
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(news) => rest.push(news),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the loop does not end; until now: {rest:?}"),
            }
        }
        let (ended, ledger) = self.thread.join().expect("the loop has not panicked");
        (ended, ledger, rest)
    }
}

/// Checks that each connection in `news` has one end and nothing after it; returns the reasons.
#[track_caller]
pub fn ends(news: &[News]) -> HashMap<ConnId, CloseReason> {
    let mut ends = HashMap::new();
    for News { id, what, .. } in news {
        let Some(id) = id else { continue };
        assert!(!ends.contains_key(id), "{id} was told {what:?} after its end");
        if let Told::Close(reason) = what {
            ends.insert(*id, *reason);
        }
    }
    ends
}
