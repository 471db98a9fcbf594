//! Jobs of services on the threads of the reactor, and their results.

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::harness::spy::listen;
use crate::harness::{PATIENCE, client, read_all};
use reactor::limits::{JOBS, POSTS, Policy};
use reactor::reactor::{OffloadError, Poster, Reactor, RunOutcome};
use reactor::service::{Context, Receive, Service, ServiceContext, TimerName};
use reactor::{ConnId, HostPort, ResolveError, ServiceId};

/// Keeps the results of its jobs.
struct Keeper {
    poster: Poster<u32>,
    results: Vec<u32>,
}

impl Service for Keeper {
    /// Ends each wait of the loop, so that a test without a result fails.
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now(), Duration::from_millis(50));
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

impl Receive<u32> for Keeper {
    fn on_post(&mut self, _: &mut ServiceContext, result: u32) {
        self.results.push(result);
    }
}

/// A reactor with a keeper, and the poster of the keeper.
fn keeper() -> (Reactor, ServiceId, Poster<u32>) {
    let mut reactor = Reactor::new().unwrap();
    let id = reactor.add_service_with("keeper", |poster| Keeper { poster, results: Vec::new() });
    let poster = reactor.service::<Keeper>(id).unwrap().poster.clone();
    (reactor, id, poster)
}

/// Turns until the keeper has `count` results.
fn await_results(reactor: &mut Reactor, id: ServiceId, count: usize) -> Vec<u32> {
    let start = Instant::now();
    while reactor.service::<Keeper>(id).unwrap().results.len() < count {
        assert!(start.elapsed() < PATIENCE, "a result is missing");
        reactor.turn().unwrap();
    }
    std::mem::take(&mut reactor.service_mut::<Keeper>(id).unwrap().results)
}

#[test]
fn each_job_has_one_result_and_runs_beside_the_loop() {
    let (mut reactor, id, poster) = keeper();
    let (sender, threads) = channel::<ThreadId>();
    for n in 0..JOBS as u32 {
        let sender = sender.clone();
        let job = move || {
            sender.send(thread::current().id()).unwrap();
            n
        };
        poster.offload(job).expect("room for all jobs");
    }
    let mut results = await_results(&mut reactor, id, JOBS);
    results.sort_unstable();
    assert!(results.iter().copied().eq(0..JOBS as u32));
    drop(sender);
    let threads: HashSet<_> = threads.iter().collect();
    assert!(threads.len() <= reactor::limits::OFFLOAD_THREADS && !threads.contains(&thread::current().id()));
}

#[test]
fn one_thread_runs_jobs_in_order() {
    let (mut reactor, id, poster) = keeper();
    reactor.set_offload_threads(1);
    for n in 0..100 {
        poster.offload(move || n).unwrap();
    }
    assert!(await_results(&mut reactor, id, 100).into_iter().eq(0..100));
}

#[test]
fn results_wait_for_room_in_the_mailbox() {
    let (mut reactor, id, poster) = keeper();
    reactor.set_offload_threads(1);
    for _ in 0..POSTS {
        poster.post(0).unwrap();
    }
    let (started, starts) = channel();
    for n in 1..=2 {
        let started = started.clone();
        let job = move || {
            started.send(n).unwrap();
            n
        };
        poster.offload(job).unwrap();
    }
    assert_eq!(starts.recv_timeout(PATIENCE), Ok(1));
    // The thread waits with the first result: it does not drop the result and go on.
    assert!(starts.recv_timeout(Duration::from_millis(100)).is_err());
    assert_eq!(await_results(&mut reactor, id, POSTS + 2)[POSTS..], [1, 2]);
}

#[test]
fn a_job_that_panics_posts_its_fallback_and_nothing_without_one() {
    let (mut reactor, id, poster) = keeper();
    reactor.set_offload_threads(1);
    poster.offload(|| panic!("on purpose, in a test")).unwrap();
    poster.offload_or(1, || panic!("on purpose, in a test")).unwrap();
    poster.offload_or(2, || 3).unwrap();
    assert_eq!(await_results(&mut reactor, id, 2), [1, 3]);
}

#[test]
fn a_dropped_reactor_waits_for_no_job() {
    let (reactor, _, poster) = keeper();
    let (started, start) = channel();
    let (hold, held) = channel::<()>();
    let (sender, outcome) = channel();
    let late = poster.clone();
    let job = move || {
        started.send(()).unwrap();
        let _ = held.recv();
        // The job outlives the reactor, and its thread as well.
        sender.send(late.post(1).is_err()).unwrap();
        2
    };
    poster.offload(job).unwrap();
    start.recv_timeout(PATIENCE).unwrap();
    drop(reactor);
    drop(hold);
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(true));
    let error = poster.offload(|| 3).unwrap_err();
    assert!(matches!(error, OffloadError::Gone(_)), "{error}");
    assert_eq!(error.into_job()(), 3);
}

/// Answers each line with the result of a job, which waits for the test.
struct Answering {
    poster: Poster<ConnId>,
    started: Sender<Sender<()>>,
    stopping: Sender<()>,
}

impl Service for Answering {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.pause();
        let (to, started) = (ctx.id(), self.started.clone());
        let job = move || {
            let (hold, held) = channel();
            started.send(hold).unwrap();
            let _ = held.recv();
            to
        };
        self.poster.offload(job).unwrap();
        input.len()
    }

    fn on_stopping(&mut self, _: &mut ServiceContext) {
        self.stopping.send(()).unwrap();
    }
}

impl Receive<ConnId> for Answering {
    fn on_post(&mut self, ctx: &mut ServiceContext, to: ConnId) {
        let mut connection = ctx.connection(to).expect("a connection that waits");
        connection.send(b"answer\n");
        connection.resume();
    }
}

#[test]
fn a_stopping_reactor_delivers_the_results_that_connections_wait_for() {
    let (started, jobs): (_, Receiver<Sender<()>>) = channel();
    let (stopping, is_stopping) = channel();
    let (ready, start) = channel();
    let running = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        // The answer ends the wait, not the grace period.
        reactor.set_grace(PATIENCE);
        let service = reactor.add_service_with("answering", |poster| Answering { poster, started, stopping });
        let (_, addr) = listen(&mut reactor, service, Policy::default());
        ready.send((addr, reactor.handle())).unwrap();
        reactor.run().unwrap()
    });
    let (addr, handle) = start.recv_timeout(PATIENCE).unwrap();
    let mut peer = client(addr);
    peer.write_all(b"question\n").unwrap();
    let hold = jobs.recv_timeout(PATIENCE).unwrap();
    handle.stop();
    is_stopping.recv_timeout(PATIENCE).unwrap();
    drop(hold);
    assert_eq!(read_all(&mut peer), b"answer\n");
    drop(peer);
    assert_eq!(running.join().unwrap(), RunOutcome::Drained);
}

/// Keeps the addresses of names.
#[derive(Default)]
struct Names {
    found: Vec<Result<Vec<SocketAddr>, ResolveError>>,
}

impl Service for Names {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now(), Duration::from_millis(50));
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

impl Receive<Result<Vec<SocketAddr>, ResolveError>> for Names {
    fn on_post(&mut self, _: &mut ServiceContext, found: Result<Vec<SocketAddr>, ResolveError>) {
        self.found.push(found);
    }
}

#[test]
fn a_lookup_posts_addresses_or_the_reason() {
    let mut reactor = Reactor::new().unwrap();
    // With one thread, lookups run in order. One thread must do for lookups, too.
    reactor.set_offload_threads(1);
    let id = reactor.add_service("names", Box::new(Names::default()));
    let poster = reactor.poster::<Names, Result<Vec<SocketAddr>, ResolveError>>(id).unwrap();
    // getaddrinfo(3) takes no string with a NUL byte: the last name fails without a name server.
    for host in ["localhost", "::1", "no\0name"] {
        poster.resolve(HostPort { host: host.to_owned(), port: 7 }, |found| found).unwrap();
    }
    let start = Instant::now();
    while reactor.service::<Names>(id).unwrap().found.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "an answer is missing");
        reactor.turn().unwrap();
    }
    let found = &reactor.service::<Names>(id).unwrap().found;
    let [six, four]: [SocketAddr; 2] = ["[::1]:7", "127.0.0.1:7"].map(|addr| addr.parse().unwrap());
    assert_eq!(found[..2], [Ok(vec![six, four]), Ok(vec![six])]);
    assert_eq!(found[2].as_ref().unwrap_err().host(), "no\0name");
}
