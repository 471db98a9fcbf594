//! The set-up of a scenario: a reactor on a thread of its own, which can be queried between two turns.
//!
//! Owns: [`Fixture`], the making of clients, and every wait. Must not know: any scenario.
//!
//! Invariants:
//! 1. No wait is longer than [`STEP_TIMEOUT`]; a longer one ends in [`Error::Timeout`].
//! 2. Dropping a fixture stops its loop and joins its thread.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::transcript::{Error, Result};
use crate::id::ServiceId;
use crate::limits::Policy;
use crate::reactor::{Handle, Ledger, ListenOptions, Reactor, RunOutcome};
use crate::service::{Receive, Service};

/// The timeout of each step: longer than any step takes on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(8);

/// The IPv4 loopback address with port 0: the kernel chooses the port.
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// A running reactor.
#[derive(Debug)]
pub struct Fixture {
    handle: Handle,
    tasks: Sender<Task>,
    /// The service of a fixture that listens.
    service: Option<ServiceId>,
    thread: Option<JoinHandle<io::Result<(RunOutcome, Ledger)>>>,
}

/// A loop that is blocked, as if a callback did not return. Dropping this value releases the loop.
#[derive(Debug)]
pub struct Stalled<'a> {
    _release: Sender<()>,
    _fixture: &'a Fixture,
}

impl Fixture {
    /// Starts a reactor after `prepare` has set it up; returns the result of `prepare`, too.
    ///
    /// # Errors
    /// Those of `prepare`, of [`Reactor::new`] and of starting a thread.
    pub fn new<T: Send + 'static>(
        prepare: impl FnOnce(&mut Reactor) -> io::Result<T> + Send + 'static,
    ) -> Result<(Self, T)> {
        let (tasks, inbox) = channel();
        let (started, start) = channel();
        let thread = thread::Builder::new().name("lab loop".to_owned()).spawn(move || {
            let mut reactor = Reactor::new()?;
            reactor.set_grace(Duration::from_secs(1));
            let prepared = prepare(&mut reactor)?;
            // The send fails if the scenario has ended; nothing is left to prepare for then.
            let _ = started.send((reactor.handle(), prepared));
            turn_until_stopped(&mut reactor, &inbox)
        })?;
        match start.recv() {
            Ok((handle, prepared)) => Ok((Self { handle, tasks, service: None, thread: Some(thread) }, prepared)),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error.into(),
                _ => Error::new("the loop panicked"),
            }),
        }
    }

    /// Starts a reactor that listens for one service, with `policy` and `options`.
    pub fn listening(
        service: impl Service + Send + 'static,
        policy: Policy,
        options: ListenOptions,
    ) -> Result<(Self, SocketAddr)> {
        let (mut fixture, (service, addr)) = Self::new(move |reactor| {
            let service = reactor.add_service("lab", Box::new(service));
            Ok((service, listen(reactor, service, &options, policy)?))
        })?;
        fixture.service = Some(service);
        Ok((fixture, addr))
    }

    /// Runs `task` on the loop's thread, between two turns.
    fn run_between_turns(&self, task: impl FnOnce(&mut Reactor) + Send + 'static) -> Result<()> {
        let gone = || Error::new("the loop ended too early");
        self.tasks.send(Box::new(task)).map_err(|_| gone())?;
        self.handle.wake();
        Ok(())
    }

    /// Calls `question` with the reactor between two turns; returns its result.
    pub fn query<T: Send + 'static>(&self, question: impl FnOnce(&mut Reactor) -> T + Send + 'static) -> Result<T> {
        let (answer, answers) = channel();
        // The send fails after the timeout below, when the receiver is gone.
        self.run_between_turns(move |reactor| drop(answer.send(question(reactor))))?;
        answers.recv_timeout(STEP_TIMEOUT).map_err(|_| Error::timeout("the loop answers a query"))
    }

    /// Posts `message` to the service of a fixture that listens, whose type is `S`.
    pub fn post<S: Service + Receive<M>, M: Send + 'static>(&self, message: M) -> Result<()> {
        let service = self.service.ok_or_else(|| Error::new("the fixture has no service"))?;
        let poster = self.query(move |reactor| reactor.poster::<S, M>(service))?;
        let poster = poster.ok_or_else(|| Error::new("the service of the fixture has another type"))?;
        poster.post(message).map_err(|_| Error::new("the loop ended too early"))
    }

    /// The current counters.
    pub fn ledger(&self) -> Result<Ledger> {
        self.query(|reactor| reactor.ledger().clone())
    }

    /// Blocks the loop between two turns.
    pub fn stall(&self) -> Result<Stalled<'_>> {
        let (stalled, is_stalled) = channel();
        let (release, released) = channel::<()>();
        self.run_between_turns(move |_| {
            let _ = stalled.send(());
            // The receive fails when the other end is dropped: that is the release.
            let _ = released.recv();
        })?;
        is_stalled.recv_timeout(STEP_TIMEOUT).map_err(|_| Error::timeout("the loop is blocked"))?;
        Ok(Stalled { _release: release, _fixture: self })
    }

    /// Stops the loop; returns its outcome and its counters.
    pub fn stop(mut self) -> Result<(RunOutcome, Ledger)> {
        self.handle.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => Ok(ended?),
            _ => Err(Error::new("the loop panicked")),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // A panic of the loop is on standard error already.
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

/// Listens for `service` at [`LOOPBACK`]. Returns the real address.
pub fn listen(
    reactor: &mut Reactor,
    service: ServiceId,
    options: &ListenOptions,
    policy: Policy,
) -> io::Result<SocketAddr> {
    let (_, addr) = reactor.listen(service, LOOPBACK, options, policy)?;
    addr.as_socket().ok_or_else(|| io::Error::other("the address has no port"))
}

/// Connects a blocking client socket to `addr`. Its calls time out after [`STEP_TIMEOUT`].
pub fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, STEP_TIMEOUT)?;
    prepare(&stream)?;
    Ok(stream)
}

/// Both ends of a connection, as blocking sockets.
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

/// A TCP port of the loopback interface without a listener: the kernel chose it for a socket that is closed again.
pub fn unused_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(LOOPBACK)?.local_addr()?)
}

/// Waits until `holds` returns true; returns the time that it took.
///
/// # Errors
/// [`Error::Timeout`] with `what`, in present tense, after [`STEP_TIMEOUT`]; and those of `holds`.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > STEP_TIMEOUT {
            return Err(Error::timeout(what));
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(start.elapsed())
}

/// Returns true as soon as `holds` does, false after `span`.
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

/// Sleeps for `span`.
pub fn sleep(span: Duration) {
    holds_within(span, || false);
}

/// `len` bytes that differ from offset to offset, so that a loss, a swap or a repetition is detected.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
