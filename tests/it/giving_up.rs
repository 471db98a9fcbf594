//! Connections that are given up, held back or misused: the peer sees RST or an end, and the service sees the reason.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::spy::{Callback, Loop, SpyService, Task, listen};
use crate::harness::{PATIENCE, client, read_all};
use reactor::limits::Policy;
use reactor::service::{CloseReason, Context, Dial, Service, ServiceContext, TimerName};
use reactor::{ConnId, Reactor, RunOutcome};

/// Returns true if the peer of a connection sees RST and no end of file.
fn sees_reset(peer: &mut impl Read) -> bool {
    let mut bytes = Vec::new();
    matches!(peer.read_to_end(&mut bytes), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_reset_connection_sends_rst_and_a_finished_one_sends_fin() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| match callback {
        Callback::Data(bytes) if bytes == b"reset" => ctx.reset(),
        Callback::Data(_) => ctx.finish(),
        _ => {}
    });
    let (mut peer, _) = spy.connect();
    peer.write_all(b"reset").unwrap();
    assert!(sees_reset(&mut peer));
    let mut peer = client(spy.addr);
    peer.write_all(b"finish").unwrap();
    assert_eq!(read_all(&mut peer), b"");
    drop(peer);
    let (_, ledger, _) = spy.stop();
    assert_eq!((ledger.closed_by(CloseReason::Aborted), ledger.closed_by(CloseReason::Finished)), (1, 1));
}

#[test]
fn an_abort_that_loses_output_sends_rst() {
    let policy = Policy::default();
    let spy = Loop::acting(policy, |ctx, callback| {
        if matches!(callback, Callback::Data(_)) {
            // More than the buffers of the kernel hold.
            ctx.send(&vec![b'x'; 32 << 20]);
            ctx.abort();
        }
    });
    let (mut peer, _) = spy.connect();
    peer.write_all(b"go").unwrap();
    assert!(sees_reset(&mut peer), "the peer takes a part of the answer for the whole");
    spy.stop();
}

#[test]
fn output_from_another_connection_never_drops_its_receiver() {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 64;
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    for _ in 0..PIECES {
        spy.run_on(id, move |ctx| ctx.send(&vec![b'x'; PIECE]));
    }
    let mut received = vec![0; PIECE * PIECES];
    peer.read_exact(&mut received).unwrap();
    drop(peer);
    let (outcome, ledger, _) = spy.stop();
    assert_eq!((outcome, ledger.closed_by(CloseReason::Overflow)), (RunOutcome::Drained, 0));
}

#[test]
fn output_for_a_dialing_connection_waits_until_it_is_established() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            let id = reactor.dial(service, &Dial::to(to)).unwrap();
            // The first turn delivers this before it serves the dial, however soon the kernel has connected.
            let poster = reactor.poster::<SpyService, Task>(service).unwrap();
            let task: Task = Box::new(move |ctx| ctx.connection(id).expect("a dial").send(b"early"));
            poster.post(task).unwrap();
        },
    );
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = [0; 5];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"early");
    drop(peer);
    let (_, ledger, _) = spy.stop();
    assert_eq!(ledger.stale_commands, 0);
}

#[test]
fn dialed_connections_do_not_count_as_accepted_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            reactor.set_max_connections(2);
            for _ in 0..3 {
                reactor.dial(service, &Dial::to(to)).unwrap();
            }
        },
    );
    let dialed: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
    for _ in 0..3 {
        spy.expect(Callback::Open);
    }
    let first = spy.connect();
    let second = spy.connect();
    let mut third = client(spy.addr);
    assert_eq!(read_all(&mut third), b"", "a third connection is above the limit");
    drop((dialed, first, second));
    let (_, ledger, _) = spy.stop();
    assert_eq!((ledger.accepts, ledger.refused), (3, 1));
}

/// Returns more than it was given.
struct Greedy;

impl Service for Greedy {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        if input == b"greedy" { input.len() + 1 } else { input.len() }
    }
}

#[test]
fn a_service_that_breaks_its_contract_costs_that_connection_alone() {
    let mut reactor = Reactor::new().unwrap();
    let greedy = reactor.add_service("greedy", Box::new(Greedy));
    let (_, addr) = listen(&mut reactor, greedy, Policy::default());
    let (mut bad, good) = (client(addr), client(addr));
    bad.write_all(b"greedy").unwrap();
    while reactor.ledger().closed_by(CloseReason::ServiceFault) == 0 {
        reactor.turn().unwrap();
    }
    assert!(sees_reset(&mut bad));
    good.shutdown(Shutdown::Write).unwrap();
    while reactor.ledger().closed_by(CloseReason::Finished) == 0 {
        reactor.turn().unwrap();
    }
}

/// Pauses each connection at its first byte, and reports what happens then.
struct Pausing(std::sync::mpsc::Sender<&'static str>);

impl Service for Pausing {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.pause();
        input.len()
    }

    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        let _ = self.0.send("peer closed");
        ctx.send(b"answer");
        ctx.resume();
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        let _ = self.0.send("end of file");
        ctx.finish();
    }

    fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        assert!(ctx.is_stopping());
        let _ = self.0.send("stopping");
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_paused_service_learns_of_the_fin_and_each_service_of_the_stop() {
    let (sender, seen) = channel();
    let (started, start) = channel();
    let thread = std::thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let pausing = reactor.add_service("pausing", Box::new(Pausing(sender)));
        let (_, addr) = listen(&mut reactor, pausing, Policy::default());
        started.send((addr, reactor.handle())).unwrap();
        reactor.run().unwrap()
    });
    let (addr, handle) = start.recv_timeout(PATIENCE).unwrap();
    let mut peer = client(addr);
    peer.write_all(b"request").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut peer), b"answer");
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("peer closed"));
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("end of file"));
    handle.stop();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("stopping"));
    assert_eq!(thread.join().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_paused_connection_is_not_finished_by_a_stop() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| {
        if matches!(callback, Callback::Data(_)) {
            ctx.pause();
        }
    });
    let (mut peer, id) = spy.connect();
    peer.write_all(b"job").unwrap();
    spy.expect(Callback::Data(b"job".to_vec()));
    spy.handle.stop();
    let (sender, is_stopping) = channel();
    loop {
        let sender = sender.clone();
        spy.run(move |ctx| sender.send(ctx.is_stopping()).unwrap());
        if is_stopping.recv_timeout(PATIENCE).unwrap() {
            break;
        }
    }
    // The connection has had its last turn. The answer of the job comes after it.
    spy.run_on(id, |ctx| {
        ctx.send(b"done");
        ctx.resume();
    });
    assert_eq!(read_all(&mut peer), b"done");
    drop(peer);
    let (outcome, ..) = spy.wait();
    assert_eq!(outcome, RunOutcome::Drained);
}

#[test]
fn a_full_listener_refuses_until_a_connection_of_its_own_closes() {
    let (sender, listeners) = channel();
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            let (id, addr) = listen(reactor, service, Policy::default());
            assert!(reactor.set_max_connections_of(id, 1));
            sender.send(addr).unwrap();
        },
    );
    let addr = listeners.recv_timeout(Duration::from_secs(10)).unwrap();
    let first = client(addr);
    spy.expect(Callback::Open);
    assert_eq!(read_all(&mut client(addr)), b"");
    let other = spy.connect();
    drop(first);
    spy.expect(Callback::Eof);
    spy.expect(Callback::Close(CloseReason::Finished));
    let _second = client(addr);
    spy.expect(Callback::Open);
    drop(other);
    spy.stop();
}

/// Consumes one byte of each offer, and pauses until a timer resumes it.
struct OneByte {
    id: Option<ConnId>,
}

impl Service for OneByte {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.send(&input[..1]);
        ctx.pause();
        let (now, timer) = (ctx.now(), TimerName(ctx.id().slot() as u64));
        ctx.set_timer(timer, now, Duration::ZERO);
        self.id = Some(ctx.id());
        1
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _: TimerName) {
        if let Some(mut connection) = self.id.and_then(|id| ctx.connection(id)) {
            connection.resume();
        }
    }
}

#[test]
fn unread_input_comes_before_the_end_of_file() {
    let mut reactor = Reactor::new().unwrap();
    let one_byte = reactor.add_service("one byte", Box::new(OneByte { id: None }));
    let (_, addr) = listen(&mut reactor, one_byte, Policy::default());
    let mut peer = client(addr);
    peer.write_all(b"each of these bytes").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    while reactor.ledger().closed_by(CloseReason::Finished) == 0 {
        reactor.turn().unwrap();
    }
    assert_eq!(read_all(&mut peer), b"each of these bytes");
}

/// Sends the same answer for each byte of input, as long as there is capacity, and hands its input to the test at the end.
struct Answering {
    answer: usize,
    input: Vec<u8>,
    closed: std::sync::mpsc::Sender<(Vec<u8>, CloseReason)>,
}

impl Service for Answering {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.send(b"greeting");
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let mut n = 0;
        while n < input.len() && !ctx.is_congested() {
            ctx.send(&vec![b'x'; self.answer]);
            n += 1;
        }
        self.input.extend_from_slice(&input[..n]);
        n
    }

    fn on_close(&mut self, _: &mut Context<'_>, reason: CloseReason) {
        self.closed.send((std::mem::take(&mut self.input), reason)).unwrap();
    }
}

#[test]
fn input_left_for_want_of_capacity_is_served_before_the_end() {
    // The peer resets the connection over an unread greeting, or closes it and its kernel resets it at the first answer.
    // A kernel that is full leaves the output congested. Otherwise the kernel takes each answer, until the reset.
    for (resets, congests) in [(true, false), (false, false), (true, true), (false, true)] {
        let (closed, ends) = channel();
        let sent: Vec<u8> = (0..if congests { 100 } else { 40_000 }).map(|n| n as u8).collect();
        let mut reactor = Reactor::new().unwrap();
        let answering = Answering { answer: if congests { 1 << 20 } else { 1 }, input: Vec::new(), closed };
        let service = reactor.add_service("answering", Box::new(answering));
        let policy = Policy::default().with_high_water(4 << 10).with_low_water(2 << 10);
        let (_, addr) = listen(&mut reactor, service, policy);
        let mut peer = client(addr);
        while reactor.ledger().bytes_out == 0 {
            reactor.turn().unwrap();
        }
        if !resets {
            peer.read_exact(&mut [0; 8]).unwrap();
        }
        peer.write_all(&sent).unwrap();
        while congests && reactor.ledger().pauses == 0 {
            reactor.turn().unwrap();
        }
        drop(peer);
        while reactor.ledger().closed_by(CloseReason::Reset) == 0 {
            reactor.turn().unwrap();
        }
        let (input, reason) = ends.try_recv().unwrap();
        assert_eq!(reason, CloseReason::Reset);
        assert!(input == sent, "{} of {} bytes reached the service ({resets}, {congests})", input.len(), sent.len());
    }
}

/// Answers with more than the kernel takes, closes its half, and counts its input.
struct Concluding {
    received: Rc<Cell<usize>>,
}

impl Service for Concluding {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.send(&vec![b'x'; 32 << 20]);
        ctx.half_close();
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        self.received.set(self.received.get() + input.len());
        input.len()
    }
}

#[test]
fn input_after_a_half_close_is_served_before_the_end() {
    const SENT: usize = 150_000;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // More than one read takes fits into the receive buffer of the server.
    socket.set_recv_buffer_size(4 * SENT).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let (mut reactor, received) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let concluding = reactor.add_service("concluding", Box::new(Concluding { received: received.clone() }));
    let (_, addr) = reactor.listen_on(concluding, TcpListener::from(socket), Policy::default()).unwrap();
    let mut peer = client(addr.as_socket().unwrap());
    while reactor.ledger().pauses == 0 {
        reactor.turn().unwrap();
    }
    peer.write_all(&[b'x'; SENT]).unwrap();
    drop(peer);
    while reactor.ledger().closed_by(CloseReason::Reset) == 0 {
        reactor.turn().unwrap();
    }
    assert_eq!(received.get(), SENT);
}
