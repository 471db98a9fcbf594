//! Datagram sockets in the library: connected ones, what they are told, and what their services may do unasked.

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::PATIENCE;
use reactor::id::SourceId;
use reactor::reactor::{Handle, ListenOptions, Reactor, RunOutcome};
use reactor::service::{DatagramContext, DatagramService, Errno, SocketContext, TimerName};

#[derive(PartialEq, Debug)]
enum Told {
    Start,
    Datagram(Vec<u8>),
    Error(Errno),
    Connect(Result<SocketAddr, Errno>),
    Timer,
    Stop,
}

type Order = Box<dyn FnOnce(&mut SocketContext) + Send>;

struct Spy(Sender<Told>);

impl DatagramService for Spy {
    fn on_start(&mut self, ctx: &mut SocketContext) {
        ctx.send(b"hello");
        self.0.send(Told::Start).unwrap();
    }

    fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        self.0.send(Told::Datagram(payload.to_vec())).unwrap();
    }

    fn on_error(&mut self, _ctx: &mut SocketContext, errno: Errno) {
        self.0.send(Told::Error(errno)).unwrap();
    }

    fn on_connect(&mut self, ctx: &mut SocketContext, outcome: Result<SocketAddr, Errno>) {
        ctx.send(b"hello again");
        self.0.send(Told::Connect(outcome)).unwrap();
    }

    fn on_timer(&mut self, ctx: &mut SocketContext, _timer: TimerName) {
        ctx.send(b"tick");
        self.0.send(Told::Timer).unwrap();
    }

    fn on_post(&mut self, ctx: &mut SocketContext, message: Box<dyn Any + Send>) {
        message.downcast::<Order>().expect("an order")(ctx);
    }

    fn on_stop(&mut self, ctx: &mut SocketContext) {
        ctx.send(b"bye");
        self.0.send(Told::Stop).unwrap();
    }
}

/// A loop in a thread, with one socket that is connected to a socket of the test.
struct Loop {
    peer: UdpSocket,
    socket: SourceId,
    handle: Handle,
    told: Receiver<Told>,
    thread: JoinHandle<RunOutcome>,
}

impl Loop {
    fn start() -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = peer.local_addr().unwrap();
        let (sender, told) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let options = ListenOptions::default();
            let (socket, local) = reactor.connect_datagram("spy", Box::new(Spy(sender)), to, None, &options).unwrap();
            started.send((socket, local, reactor.handle())).unwrap();
            reactor.run().unwrap()
        });
        let (socket, local, handle) = start.recv_timeout(PATIENCE).unwrap();
        let this = Self { peer, socket, handle, told, thread };
        this.expect(Told::Start);
        let mut hello = [0; 16];
        assert_eq!(this.peer.recv_from(&mut hello).unwrap(), (5, local));
        this.peer.connect(local).unwrap();
        this
    }

    fn order(&self, order: impl FnOnce(&mut SocketContext) + Send + 'static) {
        let order: Order = Box::new(order);
        self.handle.post(self.socket, Box::new(order)).unwrap();
    }

    #[track_caller]
    fn expect(&self, what: Told) {
        assert_eq!(self.told.recv_timeout(PATIENCE), Ok(what));
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let n = self.peer.recv(&mut buffer).unwrap();
        buffer[..n].to_vec()
    }

    fn stop(self) {
        self.handle.stop();
        self.expect(Told::Stop);
        assert_eq!(self.thread.join().unwrap(), RunOutcome::Drained);
    }
}

#[test]
fn a_connected_socket_talks_with_its_peer_alone() {
    let spy = Loop::start();
    spy.peer.send(b"one").unwrap();
    spy.expect(Told::Datagram(b"one".to_vec()));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"unheard", spy.peer.peer_addr().unwrap()).unwrap();
    spy.peer.send(b"two").unwrap();
    spy.expect(Told::Datagram(b"two".to_vec()));
    spy.handle.stop();
    spy.expect(Told::Stop);
    assert_eq!(spy.receive(), b"bye");
    assert_eq!(spy.thread.join().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_dead_port_is_told_and_the_socket_goes_on() {
    let Loop { peer, socket, handle, told, thread } = Loop::start();
    let addr = peer.local_addr().unwrap();
    drop(peer);
    let order: Order = Box::new(|ctx| ctx.send(b"anybody?"));
    handle.post(socket, Box::new(order)).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Error(Errno(libc::ECONNREFUSED))));
    let again = UdpSocket::bind(addr).unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    let order: Order = Box::new(|ctx| ctx.send(b"there?"));
    handle.post(socket, Box::new(order)).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(again.recv(&mut buffer).unwrap(), 6);
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn a_letter_to_a_stranger_is_refused_and_the_next_one_is_sent() {
    let spy = Loop::start();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = spy.peer.local_addr().unwrap();
    spy.order(move |ctx| {
        ctx.send_to(stranger, b"secret");
        ctx.send_to(peer, b"for you");
    });
    spy.expect(Told::Error(Errno(libc::EISCONN)));
    assert_eq!(spy.receive(), b"for you");
    spy.stop();
}

#[test]
fn an_error_of_an_earlier_letter_costs_no_later_one() {
    let Loop { peer, socket, handle, told, thread } = Loop::start();
    let addr = peer.local_addr().unwrap();
    drop(peer);
    // Both in one turn: when the second is sent the answer to the first is there, and somebody has come back.
    let (came_back, again) = channel();
    let first: Order = Box::new(|ctx| ctx.send(b"anybody?"));
    let second: Order = Box::new(move |ctx| {
        came_back.send(UdpSocket::bind(addr).unwrap()).unwrap();
        ctx.send(b"there?");
    });
    let both: Order = {
        let handle = handle.clone();
        Box::new(move |_| {
            handle.post(socket, Box::new(first)).unwrap();
            handle.post(socket, Box::new(second)).unwrap();
        })
    };
    handle.post(socket, Box::new(both)).unwrap();
    let again = again.recv_timeout(PATIENCE).unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(again.recv(&mut buffer).unwrap(), 6);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Error(Errno(libc::ECONNREFUSED))));
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn a_timer_of_a_socket_repeats_until_it_is_cancelled() {
    let spy = Loop::start();
    spy.order(|ctx| ctx.set_timer(TimerName(1), ctx.now() + Duration::from_millis(5), Duration::from_millis(5)));
    for _ in 0..3 {
        spy.expect(Told::Timer);
        assert_eq!(spy.receive(), b"tick");
    }
    spy.order(|ctx| {
        ctx.cancel_timer(TimerName(1));
        ctx.send(b"no more");
    });
    // Ticks that had been on their way come first.
    while spy.receive() != b"no more" {
        spy.expect(Told::Timer);
    }
    spy.stop();
}

#[test]
fn a_timer_does_not_outlive_its_socket() {
    struct Yearly;
    impl DatagramService for Yearly {
        fn on_start(&mut self, ctx: &mut SocketContext) {
            let year = Duration::from_secs(365 * 86_400);
            ctx.set_timer(TimerName(1), ctx.now() + year, year);
        }

        fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}
    }
    let mut reactor = Reactor::new().unwrap();
    reactor.bind_datagram("yearly", Box::new(Yearly), ([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
    assert_eq!(reactor.ledger().timers_cancelled, 1);
}

#[test]
fn a_socket_connects_to_one_peer_after_another_from_the_same_port() {
    let spy = Loop::start();
    let local = spy.peer.peer_addr().unwrap();
    let next = UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = next.local_addr().unwrap();
    spy.order(move |ctx| ctx.connect(to, Some(local)));
    spy.expect(Told::Connect(Ok(local)));
    let mut buffer = [0; 16];
    assert_eq!(next.recv_from(&mut buffer).unwrap(), (11, local));
    // The former peer is a stranger now.
    spy.peer.send(b"unheard").unwrap();
    next.send_to(b"two", local).unwrap();
    spy.expect(Told::Datagram(b"two".to_vec()));
    spy.stop();
}

#[test]
fn a_connect_that_fails_is_reported_and_the_next_one_is_made() {
    let spy = Loop::start();
    let four = spy.peer.local_addr().unwrap();
    // An IPv6 socket has no IPv4 address to bind.
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    spy.order(move |ctx| ctx.connect(six, Some(([127, 0, 0, 1], 0).into())));
    let Ok(Told::Connect(Err(_))) = spy.told.recv_timeout(PATIENCE) else { panic!("no error") };
    // Its greeting has no peer to go to.
    spy.expect(Told::Error(Errno(libc::EDESTADDRREQ)));
    spy.order(move |ctx| ctx.connect(four, None));
    let Ok(Told::Connect(Ok(local))) = spy.told.recv_timeout(PATIENCE) else { panic!("no address") };
    assert!(local.ip().is_loopback());
    assert_eq!(spy.peer.local_addr().unwrap(), four);
    spy.stop();
}

#[test]
fn a_service_without_an_address_connects_when_it_has_one() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = peer.local_addr().unwrap();
    let (sender, told) = channel();
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle();
    let socket = reactor.open_datagram("spy", Box::new(Spy(sender)), &ListenOptions::default()).unwrap();
    let order: Order = Box::new(move |ctx| ctx.connect(to, None));
    handle.post(socket, Box::new(order)).unwrap();
    while !matches!(told.try_recv(), Ok(Told::Connect(_))) {
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
    assert!(told.try_iter().any(|told| told == Told::Datagram(b"one".to_vec())));
}
