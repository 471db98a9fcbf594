//! Datagram sockets in the library: connected sockets, their errors, and sends without a request.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::PATIENCE;
use reactor::id::SocketId;
use reactor::reactor::{Handle, ListenOptions, Poster, Reactor, RunOutcome};
use reactor::service::{DatagramContext, DatagramService, Errno, Receive, ServiceContext, SocketContext, TimerName};

#[derive(PartialEq, Debug)]
enum Callback {
    Open,
    Datagram(Vec<u8>),
    Error(Errno),
    Connect(Result<SocketAddr, Errno>),
    Timer,
    Stop,
}

type Task = Box<dyn FnOnce(&mut SocketContext<'_>) + Send>;

/// Sends on each callback, and runs posted tasks about its last socket.
struct SpyService {
    callbacks: Sender<Callback>,
    socket: Option<SocketId>,
}

impl SpyService {
    fn new(callbacks: Sender<Callback>) -> Self {
        Self { callbacks, socket: None }
    }

    fn report(&self, callback: Callback) {
        self.callbacks.send(callback).unwrap();
    }

    fn on_socket(&self, ctx: &mut ServiceContext, task: impl FnOnce(&mut SocketContext<'_>)) {
        task(&mut self.socket.and_then(|socket| ctx.socket(socket)).expect("the socket is open"));
    }
}

impl DatagramService for SpyService {
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.socket = Some(ctx.id());
        ctx.send(b"hello");
        self.report(Callback::Open);
    }

    fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        self.report(Callback::Datagram(payload.to_vec()));
    }

    fn on_error(&mut self, _ctx: &mut SocketContext<'_>, errno: Errno) {
        self.report(Callback::Error(errno));
    }

    fn on_connect(&mut self, ctx: &mut SocketContext<'_>, outcome: Result<SocketAddr, Errno>) {
        ctx.send(b"hello again");
        assert!(outcome.is_err() || outcome == Ok(ctx.local_addr()));
        self.report(Callback::Connect(outcome));
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        self.on_socket(ctx, |ctx| ctx.send(b"tick"));
        self.report(Callback::Timer);
    }

    fn on_stop(&mut self, ctx: &mut SocketContext<'_>) {
        ctx.send(b"bye");
        self.report(Callback::Stop);
    }
}

impl Receive<Task> for SpyService {
    fn on_post(&mut self, ctx: &mut ServiceContext, task: Task) {
        self.on_socket(ctx, task);
    }
}

/// A loop in a thread, with one socket connected to a socket of the test.
struct Loop {
    peer: UdpSocket,
    poster: Poster<Task>,
    handle: Handle,
    callbacks: Receiver<Callback>,
    thread: JoinHandle<RunOutcome>,
}

impl Loop {
    fn start() -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = peer.local_addr().unwrap();
        let (sender, callbacks) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let options = ListenOptions::default();
            let spy = reactor.add_datagram_service("spy", Box::new(SpyService::new(sender)));
            let (_, local) = reactor.connect_datagram(spy, to, None, &options).unwrap();
            let poster = reactor.poster::<SpyService, Task>(spy).unwrap();
            started.send((poster, local, reactor.handle())).unwrap();
            reactor.run().unwrap()
        });
        let (poster, local, handle) = start.recv_timeout(PATIENCE).unwrap();
        let this = Self { peer, poster, handle, callbacks, thread };
        this.expect(Callback::Open);
        let mut hello = [0; 16];
        assert_eq!(this.peer.recv_from(&mut hello).unwrap(), (5, local));
        this.peer.connect(local).unwrap();
        this
    }

    fn post(&self, task: impl FnOnce(&mut SocketContext<'_>) + Send + 'static) {
        self.poster.post(Box::new(task)).unwrap();
    }

    #[track_caller]
    fn expect(&self, callback: Callback) {
        assert_eq!(self.callbacks.recv_timeout(PATIENCE), Ok(callback));
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let n = self.peer.recv(&mut buffer).unwrap();
        buffer[..n].to_vec()
    }

    /// Makes the kernel refuse datagrams of the loop's socket: a socket connected to another address does not receive
    /// them. The port stays bound, so that no other test can have it.
    fn refuse(&self) {
        self.peer.connect("127.0.0.1:9").unwrap();
    }

    fn stop(self) {
        self.handle.stop();
        self.expect(Callback::Stop);
        assert_eq!(self.thread.join().unwrap(), RunOutcome::Drained);
    }
}

#[test]
fn a_connected_socket_receives_from_its_peer_alone() {
    let spy = Loop::start();
    spy.peer.send(b"one").unwrap();
    spy.expect(Callback::Datagram(b"one".to_vec()));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"ignored", spy.peer.peer_addr().unwrap()).unwrap();
    spy.peer.send(b"two").unwrap();
    spy.expect(Callback::Datagram(b"two".to_vec()));
    spy.handle.stop();
    spy.expect(Callback::Stop);
    assert_eq!(spy.receive(), b"bye");
    assert_eq!(spy.thread.join().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_refusal_is_reported_and_the_socket_goes_on() {
    let spy = Loop::start();
    let local = spy.peer.peer_addr().unwrap();
    spy.refuse();
    spy.post(|ctx| ctx.send(b"anybody?"));
    spy.expect(Callback::Error(Errno(libc::ECONNREFUSED)));
    spy.peer.connect(local).unwrap();
    spy.post(|ctx| ctx.send(b"there?"));
    assert_eq!(spy.receive(), b"there?");
    spy.stop();
}

#[test]
fn a_datagram_to_another_address_is_an_error_and_the_next_one_is_sent() {
    let spy = Loop::start();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = spy.peer.local_addr().unwrap();
    spy.post(move |ctx| {
        ctx.send_to(other, b"secret");
        ctx.send_to(peer, b"for you");
    });
    spy.expect(Callback::Error(Errno(libc::EISCONN)));
    assert_eq!(spy.receive(), b"for you");
    spy.stop();
}

#[test]
fn an_error_of_an_earlier_datagram_does_not_cost_a_later_one() {
    let spy = Loop::start();
    let local = spy.peer.peer_addr().unwrap();
    spy.refuse();
    // Both in one turn: before the second send, the answer to the first has arrived and the peer is connected again.
    let peer = spy.peer.try_clone().unwrap();
    let first: Task = Box::new(|ctx| ctx.send(b"anybody?"));
    let second: Task = Box::new(move |ctx| {
        peer.connect(local).unwrap();
        ctx.send(b"there?");
    });
    let poster = spy.poster.clone();
    spy.post(move |_| {
        poster.post(first).unwrap();
        poster.post(second).unwrap();
    });
    assert_eq!(spy.receive(), b"there?");
    spy.expect(Callback::Error(Errno(libc::ECONNREFUSED)));
    spy.stop();
}

#[test]
fn a_timer_of_a_datagram_service_repeats_until_it_is_cancelled() {
    let spy = Loop::start();
    spy.post(|ctx| {
        let (now, period) = (ctx.now(), Duration::from_millis(5));
        ctx.set_timer(TimerName(1), now + period, period);
    });
    for _ in 0..3 {
        spy.expect(Callback::Timer);
        assert_eq!(spy.receive(), b"tick");
    }
    spy.post(|ctx| {
        ctx.cancel_timer(TimerName(1));
        ctx.send(b"no more");
    });
    // Ticks sent before the cancellation come first.
    while spy.receive() != b"no more" {
        spy.expect(Callback::Timer);
    }
    spy.stop();
}

#[test]
fn a_timer_belongs_to_the_service_and_outlives_a_socket() {
    struct Closing(Sender<bool>, Option<SocketId>);
    impl DatagramService for Closing {
        fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
            let (id, now) = (ctx.id(), ctx.now());
            self.1 = Some(id);
            ctx.set_timer(TimerName(1), now, Duration::ZERO);
            ctx.close(id);
        }

        fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
            let is_gone = self.1.is_some_and(|socket| ctx.socket(socket).is_none());
            self.0.send(is_gone).unwrap();
            ctx.stop_reactor();
        }

        fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}
    }
    let (sender, timers) = channel();
    let running = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let closing = reactor.add_datagram_service("closing", Box::new(Closing(sender, None)));
        reactor.bind_datagram(closing, ([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        reactor.run().unwrap()
    });
    assert_eq!(timers.recv_timeout(PATIENCE), Ok(true));
    assert_eq!(running.join().unwrap(), RunOutcome::Drained);
}

/// Requests a turn when it stops, which precedes the last turn of its socket.
struct LastTurn(Sender<Callback>);

impl DatagramService for LastTurn {
    fn on_datagram(&mut self, _: &mut DatagramContext<'_>, payload: &[u8]) {
        self.0.send(Callback::Datagram(payload.to_vec())).unwrap();
    }

    fn on_stop(&mut self, ctx: &mut SocketContext<'_>) {
        ctx.request_turn();
        self.0.send(Callback::Stop).unwrap();
    }
}

#[test]
fn a_call_during_the_stop_does_not_replace_the_last_turn() {
    let (sender, callbacks) = channel();
    let mut reactor = Reactor::new().unwrap();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let service = reactor.add_datagram_service("last turn", Box::new(LastTurn(sender)));
    let (_, addr) = reactor.bind_datagram(service, anywhere, &ListenOptions::default()).unwrap();
    reactor.handle().stop();
    while callbacks.try_recv() != Ok(Callback::Stop) {
        reactor.turn().unwrap();
    }
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"last", addr).unwrap();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
    assert_eq!(callbacks.try_recv(), Ok(Callback::Datagram(b"last".to_vec())));
}

#[test]
fn a_socket_connects_to_one_peer_after_another_from_the_same_port() {
    let spy = Loop::start();
    let local = spy.peer.peer_addr().unwrap();
    let next = UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = next.local_addr().unwrap();
    spy.post(move |ctx| ctx.connect(to, Some(local)));
    spy.expect(Callback::Connect(Ok(local)));
    let mut buffer = [0; 16];
    assert_eq!(next.recv_from(&mut buffer).unwrap(), (11, local));
    // The loop ignores its former peer.
    spy.peer.send(b"ignored").unwrap();
    next.send_to(b"two", local).unwrap();
    spy.expect(Callback::Datagram(b"two".to_vec()));
    spy.stop();
}

#[test]
fn a_connect_that_fails_is_reported_and_the_next_one_is_made() {
    let spy = Loop::start();
    // Not the socket of the start, which receives from the first local address alone and refuses all others.
    let next = UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let four = next.local_addr().unwrap();
    // An IPv6 socket has no IPv4 address to bind.
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    spy.post(move |ctx| ctx.connect(six, Some(([127, 0, 0, 1], 0).into())));
    let Ok(Callback::Connect(Err(_))) = spy.callbacks.recv_timeout(PATIENCE) else { panic!("no error") };
    // Its greeting has no destination.
    spy.expect(Callback::Error(Errno(libc::EDESTADDRREQ)));
    spy.post(move |ctx| ctx.connect(four, None));
    let Ok(Callback::Connect(Ok(local))) = spy.callbacks.recv_timeout(PATIENCE) else { panic!("no address") };
    assert!(local.ip().is_loopback());
    let mut buffer = [0; 16];
    assert_eq!(next.recv_from(&mut buffer).unwrap(), (11, local));
    spy.stop();
}

#[test]
fn a_service_without_an_address_connects_when_it_has_one() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = peer.local_addr().unwrap();
    let (sender, callbacks) = channel();
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle();
    let spy = reactor.add_datagram_service("spy", Box::new(SpyService::new(sender)));
    reactor.open_datagram(spy, &ListenOptions::default()).unwrap();
    let poster = reactor.poster::<SpyService, Task>(spy).unwrap();
    poster.post(Box::new(move |ctx| ctx.connect(to, None))).unwrap();
    while !matches!(callbacks.try_recv(), Ok(Callback::Connect(_))) {
        reactor.turn().unwrap();
    }
    let mut buffer = [0; 16];
    let (n, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"hello again");
    peer.send_to(b"one", from).unwrap();
    handle.stop();
    while reactor.ended().is_none() {
        reactor.turn().unwrap();
    }
    assert!(callbacks.try_iter().any(|callback| callback == Callback::Datagram(b"one".to_vec())));
}
