//! Sources that callbacks make, use and close: services on streams and on datagrams reach each other's sources.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use reactor::reactor::Interest;
use reactor::service::{Context, DatagramContext, Ready, Service, ServiceContext, SocketContext};
use reactor::{
    Addr, CloseReason, ConnId, DatagramService, DescriptorId, Dial, Errno, ListenOptions, ListenerId, Policy, Poster,
    Reactor, Receive, RunOutcome, ServiceId, SocketId,
};

const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A callback, in the order of all callbacks of both services.
#[derive(Clone, PartialEq, Debug)]
enum Event {
    Listening(ListenerId, Result<Addr, Errno>),
    Accepted(ConnId),
    DialError,
    Closed(ConnId, CloseReason),
    SocketOpen(SocketId, SocketAddr),
    SocketOpenError(SocketId, Errno),
    Connected(SocketId, Result<SocketAddr, Errno>),
    Datagram(SocketId, Vec<u8>),
    Ready(DescriptorId),
    SocketStop(SocketId),
}

type Events = Rc<RefCell<Vec<Event>>>;
type Task = Box<dyn FnOnce(&mut ServiceContext) + Send>;

/// A reaction of a service to input, after its report.
type OnInput = Box<dyn FnMut(&mut ServiceContext, &[u8])>;

/// Echoes.
struct Streams(Events, OnInput);

impl Service for Streams {
    fn on_listening(&mut self, _ctx: &mut ServiceContext, id: ListenerId, outcome: Result<Addr, Errno>) {
        self.0.borrow_mut().push(Event::Listening(id, outcome));
    }

    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.0.borrow_mut().push(Event::Accepted(ctx.id()));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        (self.1)(ctx, input);
        ctx.send(input);
        input.len()
    }

    fn on_dial_error(&mut self, _ctx: &mut Context<'_>, _reason: CloseReason) {
        self.0.borrow_mut().push(Event::DialError);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(Event::Closed(ctx.id(), reason));
    }
}

/// Answers with the number of the datagram.
struct Datagrams(Events, OnInput, u8);

impl DatagramService for Datagrams {
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.0.borrow_mut().push(Event::SocketOpen(ctx.id(), ctx.local_addr()));
    }

    fn on_open_error(&mut self, ctx: &mut ServiceContext, id: SocketId, errno: Errno) {
        assert!(ctx.socket(id).is_none());
        self.0.borrow_mut().push(Event::SocketOpenError(id, errno));
    }

    fn on_connect(&mut self, ctx: &mut SocketContext<'_>, outcome: Result<SocketAddr, Errno>) {
        self.0.borrow_mut().push(Event::Connected(ctx.id(), outcome));
    }

    fn on_ready(&mut self, _ctx: &mut ServiceContext, id: DescriptorId, _ready: Ready) {
        self.0.borrow_mut().push(Event::Ready(id));
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        self.0.borrow_mut().push(Event::Datagram(ctx.id(), payload.to_vec()));
        self.2 += 1;
        ctx.reply(&[b'0' + self.2]);
        (self.1)(ctx, payload);
    }

    fn on_stop(&mut self, ctx: &mut SocketContext<'_>) {
        self.0.borrow_mut().push(Event::SocketStop(ctx.id()));
    }
}

impl Receive<Task> for Streams {
    fn on_post(&mut self, ctx: &mut ServiceContext, task: Task) {
        task(ctx);
    }
}

impl Receive<Task> for Datagrams {
    fn on_post(&mut self, ctx: &mut ServiceContext, task: Task) {
        task(ctx);
    }
}

/// A reactor with a service of each kind.
struct Bench {
    reactor: Reactor,
    streams: ServiceId,
    datagrams: ServiceId,
    events: Events,
}

impl Bench {
    fn new() -> Self {
        Self::acting(|_, _| {}, |_, _| {})
    }

    fn acting(
        on_data: impl FnMut(&mut ServiceContext, &[u8]) + 'static,
        on_datagram: impl FnMut(&mut ServiceContext, &[u8]) + 'static,
    ) -> Self {
        let (mut reactor, events) = (Reactor::new().unwrap(), Events::default());
        let streams = reactor.add_service("streams", Box::new(Streams(Rc::clone(&events), Box::new(on_data))));
        let datagrams = Datagrams(Rc::clone(&events), Box::new(on_datagram), 0);
        let datagrams = reactor.add_datagram_service("datagrams", Box::new(datagrams));
        Self { reactor, streams, datagrams, events }
    }

    /// Turns until `result` returns a value.
    #[track_caller]
    fn await_some<T>(&mut self, mut result: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(result) = result(self) {
                return result;
            }
            assert!(start.elapsed() < PATIENCE, "events so far: {:?}", self.events.borrow());
            self.reactor.turn_for(Some(Duration::from_millis(10))).unwrap();
        }
    }

    /// Turns until `select` returns a value for an event, and takes the event.
    #[track_caller]
    fn expect<T>(&mut self, mut select: impl FnMut(&Event) -> Option<T>) -> T {
        self.await_some(|bench| {
            let mut events = bench.events.borrow_mut();
            let place = events.iter().position(|event| select(event).is_some())?;
            select(&events.remove(place))
        })
    }

    fn expect_accepted(&mut self) -> ConnId {
        self.expect(|event| if let Event::Accepted(id) = *event { Some(id) } else { None })
    }

    fn run<T: Send + 'static>(
        &mut self,
        poster: Option<Poster<Task>>,
        task: impl FnOnce(&mut ServiceContext) -> T + Send + 'static,
    ) -> T {
        let (sender, results) = channel();
        poster.unwrap().post(Box::new(move |ctx| sender.send(task(ctx)).unwrap())).unwrap();
        self.await_some(|_| results.try_recv().ok())
    }

    /// Runs `task` in a callback of the service on streams.
    fn on_streams<T: Send + 'static>(&mut self, task: impl FnOnce(&mut ServiceContext) -> T + Send + 'static) -> T {
        let poster = self.reactor.poster::<Streams, Task>(self.streams);
        self.run(poster, task)
    }

    /// Runs `task` in a callback of the service on datagrams.
    fn on_datagrams<T: Send + 'static>(&mut self, task: impl FnOnce(&mut ServiceContext) -> T + Send + 'static) -> T {
        let poster = self.reactor.poster::<Datagrams, Task>(self.datagrams);
        self.run(poster, task)
    }

    fn bind(&mut self) -> (SocketId, SocketAddr) {
        self.reactor.bind_datagram(self.datagrams, ANYWHERE.into(), &ListenOptions::default()).unwrap()
    }

    fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let options = ListenOptions::default();
        let (id, addr) = self.reactor.listen(self.streams, ANYWHERE, &options, Policy::default()).unwrap();
        (id, addr.as_socket().unwrap())
    }

    /// Receives the next datagram at `peer`.
    #[track_caller]
    fn receive(&mut self, peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        peer.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        let (n, from) = self.await_some(|_| peer.recv_from(&mut buffer).ok());
        (buffer[..n].to_vec(), from)
    }

    /// Reads the next bytes at `peer`.
    #[track_caller]
    fn read(&mut self, mut peer: &TcpStream) -> Vec<u8> {
        peer.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        let n = self.await_some(|_| peer.read(&mut buffer).ok());
        buffer[..n].to_vec()
    }

    /// Stops the reactor; returns the events that were not expected.
    fn stop(&mut self) -> Vec<Event> {
        self.reactor.handle().stop();
        let outcome = self.await_some(|bench| bench.reactor.ended());
        assert_eq!(outcome, RunOutcome::Drained);
        self.events.take()
    }
}

fn peer() -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind(SocketAddr::from(ANYWHERE)).unwrap();
    let addr = peer.local_addr().unwrap();
    (peer, addr)
}

#[test]
fn a_service_answers_on_each_of_its_sockets() {
    let mut bench = Bench::new();
    let sockets = [bench.bind(), bench.bind()];
    for (id, addr) in sockets {
        bench.expect(|event| (*event == Event::SocketOpen(id, addr)).then_some(()));
    }
    let (peer, _) = peer();
    for (n, (id, addr)) in [sockets[0], sockets[1], sockets[0]].into_iter().enumerate() {
        peer.send_to(b"in", addr).unwrap();
        assert_eq!(bench.receive(&peer), (vec![b'1' + n as u8], addr), "the service counts across its sockets");
        bench.expect(|event| (*event == Event::Datagram(id, b"in".to_vec())).then_some(()));
    }
    assert_eq!(bench.stop(), sockets.map(|(id, _)| Event::SocketStop(id)), "each opens once");
}

#[test]
fn datagrams_of_one_callback_leave_by_their_own_sockets() {
    let target: Rc<RefCell<Option<(SocketId, SocketAddr)>>> = Rc::default();
    let other = Rc::clone(&target);
    let mut bench = Bench::acting(
        |_, _| {},
        move |ctx, _| {
            let (socket, to) = other.borrow().unwrap();
            let mut socket = ctx.socket(socket).unwrap();
            socket.send_to(to, b"other");
            socket.send_to(to, b"another");
        },
    );
    let [(_, one), (two, two_addr)] = [bench.bind(), bench.bind()];
    let (peer, peer_addr) = peer();
    target.replace(Some((two, peer_addr)));
    peer.send_to(b"in", one).unwrap();
    let mut received: Vec<_> = (0..3).map(|_| bench.receive(&peer)).collect();
    received.sort();
    let expected = [(b"1".to_vec(), one), (b"another".to_vec(), two_addr), (b"other".to_vec(), two_addr)];
    assert_eq!(received, expected);
    // Datagrams of a callback that is about no socket.
    let (sockets, to) = ([bench.bind(), bench.bind()], peer_addr);
    bench.on_datagrams(move |ctx| {
        for (id, addr) in sockets {
            ctx.socket(id).unwrap().send_to(to, addr.to_string().as_bytes());
        }
    });
    for _ in sockets {
        let (text, from) = bench.receive(&peer);
        assert_eq!(text, from.to_string().as_bytes());
    }
}

#[test]
fn a_service_on_datagrams_sends_to_a_connection() {
    let target: Rc<RefCell<Option<ConnId>>> = Rc::default();
    let connection = Rc::clone(&target);
    let mut bench = Bench::acting(
        |_, _| {},
        move |ctx, payload| {
            let mut connection = connection.borrow().and_then(|id| ctx.connection(id)).unwrap();
            connection.send(payload);
            connection.finish();
        },
    );
    let ((_, listen), (_, bound)) = (bench.listen(), bench.bind());
    let client = TcpStream::connect(listen).unwrap();
    let id = bench.expect_accepted();
    target.replace(Some(id));
    let (peer, _) = peer();
    peer.send_to(b"over datagrams", bound).unwrap();
    assert_eq!(bench.read(&client), b"over datagrams");
    assert_eq!(bench.read(&client), b"", "the connection is finished");
    drop(client);
    bench.expect(|event| (*event == Event::Closed(id, CloseReason::Finished)).then_some(()));
}

#[test]
fn a_service_on_streams_sends_a_datagram() {
    let target: Rc<RefCell<Option<(SocketId, SocketAddr)>>> = Rc::default();
    let socket = Rc::clone(&target);
    let mut bench = Bench::acting(
        move |ctx, input| {
            let (socket, to) = socket.borrow().unwrap();
            let mut socket = ctx.socket(socket).unwrap();
            assert!(!socket.is_congested());
            socket.send_to(to, input);
        },
        |_, _| {},
    );
    let ((_, listen), (id, bound), (peer, to)) = (bench.listen(), bench.bind(), peer());
    target.replace(Some((id, to)));
    let mut client = TcpStream::connect(listen).unwrap();
    for text in [&b"one"[..], b"two"] {
        client.write_all(text).unwrap();
        assert_eq!(bench.receive(&peer), (text.to_vec(), bound));
        assert_eq!(bench.read(&client), text, "the echo follows");
    }
}

#[test]
fn a_listener_of_a_callback_accepts_until_it_is_closed_and_its_connections_live_on() {
    let mut bench = Bench::new();
    let id = bench.on_streams(|ctx| ctx.listen(ANYWHERE, ListenOptions::default(), Policy::default()));
    let addr = bench.expect(|event| match event {
        Event::Listening(listener, outcome) if *listener == id => outcome.clone().unwrap().as_socket(),
        _ => None,
    });
    let mut client = TcpStream::connect(addr).unwrap();
    let accepted = bench.expect_accepted();
    bench.on_streams(move |ctx| ctx.close(id));
    // The address is free again, as soon as the commands of the callback are applied.
    let refused = TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"still here").unwrap();
    assert_eq!(bench.read(&client), b"still here");
    assert!(!bench.reactor.close(id), "the id is stale");
    // A connection is a source, too: to close it is to finish it.
    bench.on_streams(move |ctx| ctx.close(accepted));
    assert_eq!(bench.read(&client), b"");
    drop(client);
    bench.expect(|event| (*event == Event::Closed(accepted, CloseReason::Finished)).then_some(()));
    assert_eq!(bench.stop(), []);
}

#[test]
fn a_listener_that_cannot_be_made_is_reported() {
    let taken = TcpListener::bind(SocketAddr::from(ANYWHERE)).unwrap();
    let addr = taken.local_addr().unwrap();
    let mut bench = Bench::new();
    let id = bench.on_streams(move |ctx| ctx.listen(addr, ListenOptions::default(), Policy::default()));
    bench.expect(|event| (*event == Event::Listening(id, Err(Errno(libc::EADDRINUSE)))).then_some(()));
    let file = Addr::unix(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let id = bench.on_streams(move |ctx| ctx.listen(file, ListenOptions::default(), Policy::default()));
    bench.expect(|event| (*event == Event::Listening(id, Err(Errno(libc::EEXIST)))).then_some(()));
    // A request that its own callback withdraws has no report.
    bench.on_streams(|ctx| {
        let id = ctx.listen(ANYWHERE, ListenOptions::default(), Policy::default());
        ctx.close(id);
    });
    assert_eq!(bench.stop(), []);
}

#[test]
fn the_program_closes_sources_between_two_turns() {
    let mut bench = Bench::new();
    let ((listener, listen), (socket, bound)) = (bench.listen(), bench.bind());
    bench.expect(|event| (*event == Event::SocketOpen(socket, bound)).then_some(()));
    let mut served = TcpStream::connect(listen).unwrap();
    let accepted = bench.expect_accepted();
    // The kernel has completed the connection, and the reactor has not accepted it.
    let mut waiting = TcpStream::connect(listen).unwrap();
    assert!(bench.reactor.close(listener) && bench.reactor.close(socket));
    assert!(!bench.reactor.close(listener) && !bench.reactor.close(socket));
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    UdpSocket::bind(bound).expect("the address of the socket is free");
    served.write_all(b"x").unwrap();
    assert_eq!(bench.read(&served), b"x");
    assert!(bench.reactor.close(accepted), "a connection is finished");
    assert_eq!(bench.read(&served), b"");
    drop(served);
    bench.expect(|event| (*event == Event::Closed(accepted, CloseReason::Finished)).then_some(()));
    assert_eq!(bench.stop(), []);
}

#[test]
fn a_closed_source_has_no_events_while_the_program_holds_a_duplicate() {
    let mut bench = Bench::new();
    let listening = TcpListener::bind(SocketAddr::from(ANYWHERE)).unwrap();
    let addr = listening.local_addr().unwrap();
    let (listener, _) =
        bench.reactor.listen_on(bench.streams, listening.try_clone().unwrap(), Policy::default()).unwrap();
    let (bound, to) = peer();
    let (socket, _) = bench.reactor.bind_datagram_on(bench.datagrams, bound.try_clone().unwrap()).unwrap();
    let (watched, _) = peer();
    let watched_addr = watched.local_addr().unwrap();
    let descriptor = bench.reactor.add_source(bench.datagrams, &watched, Interest::Readable).unwrap();
    bench.expect(|event| (*event == Event::SocketOpen(socket, to)).then_some(()));
    assert!(bench.reactor.close(listener) && bench.reactor.close(socket) && bench.reactor.close(descriptor));
    let _client = TcpStream::connect(addr).unwrap();
    for to in [to, watched_addr] {
        peer().0.send_to(b"in", to).unwrap();
    }
    bench.reactor.turn_for(Some(Duration::ZERO)).unwrap();
    assert_eq!((bench.reactor.ledger().stale_events, bench.events.take()), (0, vec![]));
    assert!(listening.accept().is_ok() && bound.recv(&mut [0; 8]).is_ok(), "the duplicates go on");
}

#[test]
fn a_socket_of_a_callback_sends_at_once_and_opens_before_its_first_datagram() {
    let mut bench = Bench::new();
    let (peer, to) = peer();
    let id = bench.on_datagrams(move |ctx| {
        let id = ctx.bind_datagram(ANYWHERE.into(), ListenOptions::default());
        ctx.socket(id).unwrap().send_to(to, b"hello");
        id
    });
    let (hello, addr) = bench.receive(&peer);
    assert_eq!(hello, b"hello");
    peer.send_to(b"in", addr).unwrap();
    assert_eq!(bench.receive(&peer), (b"1".to_vec(), addr));
    assert_eq!(bench.events.take(), [Event::SocketOpen(id, addr), Event::Datagram(id, b"in".to_vec())]);
    // The datagrams of the callback leave before the close, and later ones have no socket.
    bench.on_datagrams(move |ctx| {
        ctx.socket(id).unwrap().send_to(to, b"bye");
        ctx.close(id);
        ctx.socket(id).unwrap().send_to(to, b"too late");
    });
    assert_eq!(bench.receive(&peer), (b"bye".to_vec(), addr));
    assert_eq!(bench.reactor.ledger().stale_commands, 1);
    assert!(bench.on_datagrams(move |ctx| ctx.socket(id).is_none()));
    assert_eq!(bench.stop(), []);
}

#[test]
fn a_socket_of_a_callback_opens_before_its_result_of_a_connect() {
    let mut bench = Bench::new();
    let (peer, to) = peer();
    let id = bench.on_datagrams(move |ctx| {
        let id = ctx.bind_datagram(ANYWHERE.into(), ListenOptions::default());
        ctx.socket(id).unwrap().connect(to, None);
        ctx.socket(id).unwrap().send(b"to the new peer");
        id
    });
    let (text, from) = bench.receive(&peer);
    assert_eq!(text, b"to the new peer");
    bench.await_some(|bench| (bench.events.borrow().len() == 2).then_some(()));
    assert_eq!(bench.events.take(), [Event::SocketOpen(id, from), Event::Connected(id, Ok(from))]);
}

#[test]
fn a_service_on_datagrams_watches_a_descriptor() {
    let mut bench = Bench::new();
    let (watched, to) = peer();
    let id = bench.reactor.add_source(bench.datagrams, &watched, Interest::Readable).unwrap();
    peer().0.send_to(b"in", to).unwrap();
    bench.expect(|event| (*event == Event::Ready(id)).then_some(()));
    bench.on_datagrams(move |ctx| ctx.close(id));
    assert!(!bench.reactor.close(id));
}

#[test]
fn a_socket_that_cannot_be_bound_is_reported() {
    let (taken, addr) = peer();
    let mut bench = Bench::new();
    let id = bench.on_datagrams(move |ctx| {
        let id = ctx.bind_datagram(addr, ListenOptions::default());
        ctx.socket(id).unwrap().send(b"nowhere");
        id
    });
    bench.expect(|event| (*event == Event::SocketOpenError(id, Errno(libc::EADDRINUSE))).then_some(()));
    assert_eq!(bench.reactor.ledger().stale_commands, 1);
    assert_eq!(bench.stop(), []);
    drop(taken);
}

#[test]
fn a_socket_that_its_service_closes_has_no_further_callback() {
    let closed: Rc<RefCell<Option<SocketId>>> = Rc::default();
    let socket = Rc::clone(&closed);
    let mut bench = Bench::acting(|_, _| {}, move |ctx, _| ctx.close(socket.borrow().unwrap()));
    let (id, addr) = bench.bind();
    closed.replace(Some(id));
    let (peer, _) = peer();
    // All of them are in one batch.
    for text in [b"one", b"two", b"six"] {
        peer.send_to(text, addr).unwrap();
    }
    assert_eq!(bench.receive(&peer), (b"1".to_vec(), addr), "the answer leaves before the close");
    assert_eq!(bench.reactor.ledger().datagrams_in, 3);
    assert_eq!(bench.stop(), [Event::SocketOpen(id, addr), Event::Datagram(id, b"one".to_vec())]);
}

#[test]
fn a_service_of_the_wrong_kind_or_of_another_reactor_is_an_error_at_the_call() {
    let Bench { mut reactor, streams, datagrams, .. } = Bench::new();
    let other = Bench::new();
    let (options, local) = (ListenOptions::default(), SocketAddr::from(ANYWHERE));
    let listening = TcpListener::bind(local).unwrap();
    let addr = listening.local_addr().unwrap();
    for service in [datagrams, other.streams] {
        let results = [
            reactor.listen(service, local, &options, Policy::default()).map(drop),
            reactor.listen_on(service, TcpListener::bind(local).unwrap(), Policy::default()).map(drop),
            reactor.adopt(service, TcpStream::connect(addr).unwrap(), Policy::default()).map(drop),
            reactor.dial(service, &Dial::to(addr)).map(drop),
        ];
        assert_eq!(results.map(|result| result.unwrap_err().kind()), [ErrorKind::InvalidInput; 4]);
    }
    for service in [streams, other.datagrams] {
        let results = [
            reactor.bind_datagram(service, local, &options).map(drop),
            reactor.bind_datagram_on(service, UdpSocket::bind(local).unwrap()).map(drop),
            reactor.connect_datagram(service, addr, None, &options).map(drop),
            reactor.open_datagram(service, &options).map(drop),
        ];
        assert_eq!(results.map(|result| result.unwrap_err().kind()), [ErrorKind::InvalidInput; 4]);
    }
}

#[test]
fn a_request_of_a_service_of_the_wrong_kind_is_dropped() {
    let mut bench = Bench::new();
    let listening = TcpListener::bind(SocketAddr::from(ANYWHERE)).unwrap();
    let addr = listening.local_addr().unwrap();
    let (connection, listener) = bench.on_datagrams(move |ctx| {
        (ctx.dial(Dial::to(addr)), ctx.listen(ANYWHERE, ListenOptions::default(), Policy::default()))
    });
    let socket = bench.on_streams(|ctx| ctx.bind_datagram(ANYWHERE.into(), ListenOptions::default()));
    assert!(bench.on_datagrams(move |ctx| ctx.connection(connection).is_none() && ctx.socket(socket).is_none()));
    assert!(!bench.reactor.close(listener));
    assert_eq!(bench.reactor.ledger().dials, 0);
    assert_eq!(bench.stop(), []);
}

#[test]
fn a_stopping_reactor_refuses_listeners_and_sockets_and_reports_that() {
    struct Late(Events);
    impl DatagramService for Late {
        fn on_stopping(&mut self, ctx: &mut ServiceContext) {
            ctx.bind_datagram(ANYWHERE.into(), ListenOptions::default());
        }

        fn on_open_error(&mut self, _ctx: &mut ServiceContext, id: SocketId, errno: Errno) {
            self.0.borrow_mut().push(Event::SocketOpenError(id, errno));
        }

        fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}
    }
    impl Service for Late {
        fn on_stopping(&mut self, ctx: &mut ServiceContext) {
            ctx.listen(ANYWHERE, ListenOptions::default(), Policy::default());
        }

        fn on_listening(&mut self, _ctx: &mut ServiceContext, id: ListenerId, outcome: Result<Addr, Errno>) {
            self.0.borrow_mut().push(Event::Listening(id, outcome));
        }

        fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
            input.len()
        }
    }
    let mut bench = Bench::new();
    bench.reactor.add_datagram_service("late", Box::new(Late(Rc::clone(&bench.events))));
    bench.reactor.add_service("late", Box::new(Late(Rc::clone(&bench.events))));
    let events = bench.stop();
    let cancelled = Errno(libc::ECANCELED);
    let [Event::SocketOpenError(_, socket), Event::Listening(_, Err(listener))] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((socket, listener), (cancelled, cancelled));
}

#[test]
fn a_socket_that_was_bound_in_the_turn_of_the_stop_opens_before_it_stops() {
    let mut bench = Bench::new();
    let id = bench.on_datagrams(|ctx| {
        ctx.stop_reactor();
        ctx.bind_datagram(ANYWHERE.into(), ListenOptions::default())
    });
    let events = bench.stop();
    let [Event::SocketOpen(opened, _), Event::SocketStop(stopped)] = events[..] else { panic!("{events:?}") };
    assert_eq!((opened, stopped), (id, id));
}
