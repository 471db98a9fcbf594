//! Forwarding: the input of one connection becomes the output of another, in order, and with bounded memory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::harness::{PATIENCE, client, eventually, hold, pattern, read_all, reset};
use reactor::service::Span;
use reactor::{
    Addr, CloseReason, ConnId, ConnMap, Context, Dial, Handle, Ledger, ListenOptions, Policy, Reactor, Receive,
    Service, ServiceContext,
};

const MIB: usize = 1 << 20;

/// The way of the bytes through the relay.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The service forwards each piece.
    Forward,
    /// The service hands all input over.
    Splice,
}

const WAYS: [Way; 2] = [Way::Forward, Way::Splice];

/// Joins each client to a connection of its own at `upstream`.
struct Relay {
    upstream: Addr,
    policy: Policy,
    way: Way,
    peers: ConnMap<ConnId>,
    /// The end of each connection: true for a client.
    ends: Sender<(bool, CloseReason)>,
}

impl Service for Relay {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let upstream = ctx.dial(Dial::to(self.upstream.clone()).with(self.policy.clone()));
        self.peers.insert(ctx.id(), upstream);
        self.peers.insert(upstream, ctx.id());
        if let Way::Splice = self.way {
            ctx.splice(upstream);
        }
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        if let (Way::Splice, Some(&client)) = (self.way, self.peers.get(ctx.id())) {
            ctx.splice(client);
        }
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        assert!(matches!(self.way, Way::Forward), "the service has handed its bytes over");
        if let Some(&peer) = self.peers.get(ctx.id()) {
            ctx.forward(peer, Span::of(input));
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _: &[u8]) {
        if let Some(mut peer) = self.peers.get(ctx.id()).and_then(|&peer| ctx.connection(peer)) {
            peer.half_close();
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let is_client = ctx.local_addr() != self.upstream && ctx.peer_addr() != self.upstream;
        let _ = self.ends.send((is_client, reason));
        if let Some(peer) = self.peers.remove(ctx.id())
            && reason != CloseReason::Finished
            && let Some(mut peer) = ctx.connection(peer)
        {
            peer.reset();
        }
    }
}

/// The queued output of each connection, in bytes.
type Queued = Vec<usize>;

impl Receive<Sender<Queued>> for Relay {
    fn on_post(&mut self, ctx: &mut ServiceContext, answer: Sender<Queued>) {
        let ids: Vec<_> = self.peers.iter().map(|(id, _)| id).collect();
        let queued = ids.into_iter().filter_map(|id| Some(ctx.connection(id)?.queued()));
        answer.send(queued.collect()).unwrap();
    }
}

/// A relay in a thread of its own, and its upstream in the hands of the test.
struct Fixture {
    listener: TcpListener,
    addr: Addr,
    handle: Handle,
    poster: reactor::Poster<Sender<Queued>>,
    ends: Receiver<(bool, CloseReason)>,
    thread: JoinHandle<Ledger>,
}

impl Fixture {
    fn new(way: Way, policy: Policy) -> Self {
        Self::with(way, policy.clone(), policy)
    }

    /// Returns a relay whose clients have the policy `near`, and whose dials have `far`.
    fn with(way: Way, near: Policy, far: Policy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Addr::from(listener.local_addr().unwrap());
        let (started, start) = channel();
        let (sender, ends) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let mut posters = None;
            let relay = reactor.add_service_with("relay", |poster| {
                posters = Some(poster);
                Relay { upstream, policy: far, way, peers: ConnMap::new(), ends: sender }
            });
            let options = ListenOptions::default();
            let (_, addr) = reactor.listen(relay, ([127, 0, 0, 1], 0), &options, near).unwrap();
            started.send((addr, reactor.handle(), posters.unwrap())).unwrap();
            reactor.run().unwrap();
            reactor.ledger().clone()
        });
        let (addr, handle, poster) = start.recv_timeout(PATIENCE).unwrap();
        Self { listener, addr, handle, poster, ends, thread }
    }

    /// Returns both ends of a pair.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let near = client(self.addr.as_socket().unwrap());
        let (far, _) = self.listener.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        (near, far)
    }

    fn queued(&self) -> Queued {
        let (sender, queued) = channel();
        self.poster.post(sender).unwrap();
        queued.recv_timeout(PATIENCE).unwrap()
    }

    fn stop(self) -> Ledger {
        self.handle.stop();
        self.thread.join().unwrap()
    }
}

/// Writes `bytes` and closes the half; a thread, because the other half is read meanwhile.
fn write_all(peer: &TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut peer = peer.try_clone().unwrap();
    thread::spawn(move || {
        peer.write_all(&bytes).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    })
}

/// Writes `bytes` until all buffers on the way are full; returns the number of bytes that they took.
fn fill(mut peer: &TcpStream, bytes: &[u8]) -> usize {
    peer.set_nonblocking(true).unwrap();
    let (mut taken, mut idle) = (0, 0);
    let is_full = eventually(PATIENCE, || {
        match peer.write(&bytes[taken..]) {
            Ok(n) => (taken, idle) = (taken + n, 0),
            Err(_) => idle += 1,
        }
        idle > 50
    });
    peer.set_nonblocking(false).unwrap();
    assert!(is_full && taken < bytes.len(), "{taken} bytes are taken");
    taken
}

#[test]
fn thirty_megabytes_each_way_arrive_while_both_ends_write_first() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay());
        let (mut near, mut far) = fixture.connect();
        let (there, back) = (pattern(30 * MIB), pattern(30 * MIB + 1));
        let (sent_there, sent_back) = (fill(&near, &there), fill(&far, &back));
        let writers = [write_all(&near, there[sent_there..].to_vec()), write_all(&far, back[sent_back..].to_vec())];
        let reader = thread::spawn(move || read_all(&mut far));
        assert!(read_all(&mut near) == back, "the way back");
        assert!(reader.join().unwrap() == there, "the way there");
        for writer in writers {
            writer.join().unwrap();
        }
        for _ in 0..2 {
            assert_eq!(fixture.ends.recv_timeout(PATIENCE).unwrap().1, CloseReason::Finished);
        }
        let ledger = fixture.stop();
        assert_eq!(
            (ledger.bytes_in, ledger.bytes_out, ledger.stale_commands),
            (ledger.bytes_out, 60 * MIB as u64 + 1, 0)
        );
    }
}

#[test]
fn a_reader_that_stops_holds_its_writer_alone() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay());
        let (near, mut far) = fixture.connect();
        let bytes = pattern(60 * MIB);
        let sent = fill(&near, &bytes);
        let queued: usize = fixture.queued().iter().sum();
        assert!(queued <= 128 << 10, "{queued} bytes are queued, more than one read");
        let (mut other, mut other_far) = fixture.connect();
        other.write_all(b"hello").unwrap();
        other_far.read_exact(&mut [0; 5]).unwrap();
        let writer = write_all(&near, bytes[sent..].to_vec());
        assert!(read_all(&mut far) == bytes);
        writer.join().unwrap();
        drop((other, other_far, near, far));
        fixture.stop();
    }
}

#[test]
fn a_write_timeout_counts_while_a_reader_stops() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay().with_write_timeout(std::time::Duration::from_millis(200)));
        let (near, _far) = fixture.connect();
        fill(&near, &pattern(60 * MIB));
        let timed_out = CloseReason::Deadline(reactor::Deadline::Write);
        assert_eq!(fixture.ends.recv_timeout(PATIENCE).unwrap(), (false, timed_out));
        fixture.stop();
    }
}

#[test]
fn a_default_policy_on_both_ends_forwards_as_well() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::default());
        let (mut near, mut far) = fixture.connect();
        let bytes = pattern(20 * MIB);
        let writers = [write_all(&near, bytes.clone()), write_all(&far, bytes.clone())];
        let expected = bytes.clone();
        let reader = thread::spawn(move || assert!(read_all(&mut far) == expected));
        assert!(read_all(&mut near) == bytes);
        reader.join().unwrap();
        for writer in writers {
            writer.join().unwrap();
        }
        fixture.stop();
    }
}

#[test]
fn input_that_precedes_the_dial_arrives_with_its_end() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay());
        // The bytes and the FIN are there before the relay has dialed: the listener of the test accepts later.
        let mut near = client(fixture.addr.as_socket().unwrap());
        near.write_all(b"early").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let (mut far, _) = fixture.listener.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read_all(&mut far), b"early");
        far.write_all(b"answer").unwrap();
        drop(far);
        assert_eq!(read_all(&mut near), b"answer");
        fixture.stop();
    }
}

#[test]
fn a_held_source_ends_with_its_target() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay());
        let (near, far) = fixture.connect();
        fill(&near, &pattern(60 * MIB));
        reset(far);
        // The relay has met the reset of the far end, and the near end is not left held.
        let ends: Vec<_> = (0..2).map(|_| fixture.ends.recv_timeout(PATIENCE).unwrap()).collect();
        assert!(
            ends.contains(&(false, CloseReason::Reset)) && ends.contains(&(true, CloseReason::Aborted)),
            "{ends:?}"
        );
        fixture.stop();
    }
}

#[test]
fn bytes_behind_urgent_data_arrive() {
    for way in WAYS {
        let fixture = Fixture::new(way, Policy::relay());
        for _ in 0..4 {
            let (near, mut far) = fixture.connect();
            let bytes = pattern(4 * MIB);
            let writer = {
                let (near, bytes) = (near.try_clone().unwrap(), bytes.clone());
                thread::spawn(move || {
                    let mut peer = &near;
                    peer.write_all(&bytes[..2 * MIB]).unwrap();
                    rustix::net::send(peer, b"!", rustix::net::SendFlags::OOB).unwrap();
                    peer.write_all(&bytes[2 * MIB..]).unwrap();
                    near.shutdown(Shutdown::Write).unwrap();
                })
            };
            // The urgent byte is no part of the stream (tcp(7)).
            assert!(read_all(&mut far) == bytes, "{way:?}");
            writer.join().unwrap();
        }
        fixture.stop();
    }
}

#[test]
fn a_read_timeout_counts_again_after_the_source_was_held() {
    for way in WAYS {
        let timeout = std::time::Duration::from_millis(100);
        let fixture = Fixture::with(way, Policy::relay().with_read_timeout(timeout), Policy::relay());
        let (near, mut far) = fixture.connect();
        let bytes = pattern(60 * MIB);
        // The near end is held for longer than its timeout, and is silent after that.
        fill(&near, &bytes);
        hold(2 * timeout);
        // The relay resets the far end when the near one has timed out.
        far.read_to_end(&mut Vec::new()).unwrap_err();
        let timed_out = CloseReason::Deadline(reactor::Deadline::Read);
        assert_eq!(fixture.ends.recv_timeout(PATIENCE).unwrap(), (true, timed_out));
        fixture.stop();
    }
}

/// Splices its first connection into its second, whose FIN finishes the first.
#[derive(Default)]
struct Finisher(Vec<ConnId>);

impl Service for Finisher {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.0.push(ctx.id());
        if let [first, second] = self.0[..]
            && let Some(mut first) = ctx.connection(first)
        {
            first.splice(second);
        }
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _: &[u8]) {
        if let Some(mut first) = self.0.first().and_then(|&first| ctx.connection(first)) {
            first.finish();
        }
    }
}

#[test]
fn a_finished_source_with_a_full_pipe_does_not_spin() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("finisher", Box::new(Finisher::default()));
    let (_, addr) = reactor.listen(service, ([127, 0, 0, 1], 0), &ListenOptions::default(), Policy::relay()).unwrap();
    let addr = addr.as_socket().unwrap();
    let (first, second) = (TcpStream::connect(addr).unwrap(), TcpStream::connect(addr).unwrap());
    first.set_nonblocking(true).unwrap();
    let (bytes, mut idle) = (pattern(MIB), 0);
    let limit = std::time::Duration::from_millis(1);
    while idle < 50 {
        idle = if (&first).write(&bytes).is_ok() { 0 } else { idle + 1 };
        reactor.turn_for(Some(limit)).unwrap();
    }
    second.shutdown(Shutdown::Write).unwrap();
    for _ in 0..20 {
        reactor.turn_for(Some(limit)).unwrap();
    }
    // Nothing can be done now: the loop waits.
    assert_ne!(reactor.next_turn(), Some(std::time::Duration::ZERO));
}
