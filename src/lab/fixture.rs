//! Where a scenario is played: a reactor on a thread of its own, that can be looked at between two turns.
//!
//! Owns: [`Fixture`], how clients are made, and waiting with an end. Must not know: any scenario.
//!
//! Invariants:
//! 1. Nothing waits for longer than [`STEP_TIMEOUT`]: what does not come is a [`Error`].
//! 2. A fixture that is dropped has stopped its loop and joined its thread.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::transcript::{Error, Result};
use crate::id::ServiceId;
use crate::limits::Policy;
use crate::reactor::{Handle, Ledger, ListenOptions, Reactor, RunOutcome};
use crate::service::Service;

/// Longer than any step takes on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(8);

/// The kernel chooses a port of the loopback interface.
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Nobody: a post to this service only wakes the loop up.
const NO_SERVICE: ServiceId = ServiceId(u16::MAX);

type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// A running reactor.
#[derive(Debug)]
pub struct Fixture {
    handle: Handle,
    tasks: Sender<Task>,
    thread: Option<JoinHandle<io::Result<(RunOutcome, Ledger)>>>,
}

/// A loop that stands still, as one does whose callback does not return. It goes on when this is dropped.
#[derive(Debug)]
pub struct Stalled<'a> {
    _release: Sender<()>,
    _fixture: &'a Fixture,
}

impl Fixture {
    /// Starts a reactor that has been prepared by `prepare`; what that returns is handed out.
    pub fn new<T: Send + 'static>(
        prepare: impl FnOnce(&mut Reactor) -> io::Result<T> + Send + 'static,
    ) -> Result<(Self, T)> {
        let (tasks, inbox) = channel();
        let (started, start) = channel();
        let thread = thread::Builder::new().name("lab loop".to_owned()).spawn(move || {
            let mut reactor = Reactor::new()?;
            reactor.set_grace(Duration::from_secs(1));
            let prepared = prepare(&mut reactor)?;
            // A scenario that is gone has no use for the rest.
            let _ = started.send((reactor.handle(), prepared));
            turn_until_stopped(&mut reactor, &inbox)
        })?;
        match start.recv() {
            Ok((handle, prepared)) => Ok((Self { handle, tasks, thread: Some(thread) }, prepared)),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error.into(),
                _ => Error::new("the loop has panicked"),
            }),
        }
    }

    /// Starts a reactor that listens on behalf of one service, as `policy` and `options` say.
    pub fn listening(
        service: impl Service + Send + 'static,
        policy: Policy,
        options: ListenOptions,
    ) -> Result<(Self, SocketAddr)> {
        Self::new(move |reactor| {
            let service = reactor.add_service("lab", Box::new(service));
            reactor.listen(service, LOOPBACK, &options, policy)
        })
    }

    /// Has `task` carried out between two turns.
    fn run_between_turns(&self, task: impl FnOnce(&mut Reactor) + Send + 'static) -> Result<()> {
        let gone = || Error::new("the loop has ended too early");
        self.tasks.send(Box::new(task)).map_err(|_| gone())?;
        self.handle.post(NO_SERVICE, Box::new(())).map_err(|_| gone())
    }

    /// Asks the reactor something between two turns.
    pub fn query<T: Send + 'static>(&self, question: impl FnOnce(&mut Reactor) -> T + Send + 'static) -> Result<T> {
        let (answer, answers) = channel();
        // Whoever has lost patience does not listen any more.
        self.run_between_turns(move |reactor| drop(answer.send(question(reactor))))?;
        answers.recv_timeout(STEP_TIMEOUT).map_err(|_| Error::new("the loop does not answer"))
    }

    /// Hands `message` to the first service.
    pub fn post(&self, message: impl Send + 'static) -> Result<()> {
        let gone = |_| Error::new("the loop has ended too early");
        self.handle.post(ServiceId(0), Box::new(message)).map_err(gone)
    }

    /// The counters, as they are now.
    pub fn ledger(&self) -> Result<Ledger> {
        self.query(|reactor| reactor.ledger().clone())
    }

    /// Makes the loop stand still between two turns.
    pub fn stall(&self) -> Result<Stalled<'_>> {
        let (held, is_held) = channel();
        let (release, released) = channel::<()>();
        self.run_between_turns(move |_| {
            let _ = held.send(());
            // This fails when the other end is dropped: that is the release.
            let _ = released.recv();
        })?;
        is_held.recv_timeout(STEP_TIMEOUT).map_err(|_| Error::new("the loop does not stand still"))?;
        Ok(Stalled { _release: release, _fixture: self })
    }

    /// Stops the loop; how it has ended, and its counters.
    pub fn stop(mut self) -> Result<(RunOutcome, Ledger)> {
        self.handle.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => Ok(ended?),
            _ => Err(Error::new("the loop has panicked")),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // A loop that has panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn turn_until_stopped(reactor: &mut Reactor, tasks: &Receiver<Task>) -> io::Result<(RunOutcome, Ledger)> {
    loop {
        reactor.turn()?;
        for task in tasks.try_iter() {
            task(reactor);
        }
        if let Some(ended) = reactor.ended() {
            return Ok((ended, reactor.ledger().clone()));
        }
    }
}

/// A client made by hand. Its calls block, but not for ever.
pub fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, STEP_TIMEOUT)?;
    prepare(&stream)?;
    Ok(stream)
}

/// Both ends of a connection, made by hand.
pub fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let here = connect(listener.local_addr()?)?;
    let (there, _) = listener.accept()?;
    prepare(&there)?;
    Ok((here, there))
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    Ok(stream.set_write_timeout(Some(STEP_TIMEOUT))?)
}

/// A TCP port of the loopback interface at which nobody listens: one that the kernel has just given out, and got back.
pub fn unused_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(LOOPBACK)?.local_addr()?)
}

/// Waits until `what` holds; says how long it took.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > STEP_TIMEOUT {
            return Err(Error::new(format!("waited {} s in vain: {what}", STEP_TIMEOUT.as_secs())));
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(start.elapsed())
}

/// Whether `holds` becomes true within `span`.
pub fn holds_within(span: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > span {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Lets time pass.
pub fn sleep(span: Duration) {
    holds_within(span, || false);
}

/// Bytes that differ from place to place, so that a loss, a swap or a repetition shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
