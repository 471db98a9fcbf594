//! What the contract promises to services that go to its limits, driven through the library.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::harness::spy::{Loop, Told};
use crate::harness::{PATIENCE, client, read_all};
use reactor::id::ConnId;
use reactor::limits::Policy;
use reactor::reactor::{Handle, ListenOptions, Reactor, RunOutcome};
use reactor::service::{CloseReason, Context, Dial, Service, ServiceContext, TimerName};
use reactor::timer::Deadline;

/// Runs `service` in a thread; gives its address, a handle, and how it has ended.
fn run(service: impl Service + Send + 'static) -> (SocketAddr, Handle, mpsc::Receiver<RunOutcome>) {
    let (ready, is_ready) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        reactor.set_grace(Duration::from_secs(2));
        let service = reactor.add_service("test", Box::new(service));
        let local = ([127, 0, 0, 1], 0).into();
        let addr = reactor.listen(service, local, &ListenOptions::default(), Policy::default()).unwrap();
        ready.send((addr, reactor.handle())).unwrap();
        ended.send(reactor.run().unwrap()).unwrap();
    });
    let (addr, handle) = is_ready.recv_timeout(PATIENCE).unwrap();
    (addr, handle, has_ended)
}

/// A thousand bytes for each, as long as there is room.
struct Thousandfold;

impl Service for Thousandfold {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let mut consumed = 0;
        while consumed < input.len() && !ctx.is_congested() {
            ctx.send(&[input[consumed]; 1000]);
            consumed += 1;
        }
        consumed
    }
}

#[test]
fn what_was_left_for_want_of_room_is_offered_again_even_if_the_kernel_takes_everything() {
    let (addr, handle, ended) = run(Thousandfold);
    let mut peer = client(addr);
    peer.write_all(&[b'x'; 200]).unwrap();
    let mut answer = vec![0; 200_000];
    peer.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == b'x'));
    handle.stop();
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(RunOutcome::Drained));
}

/// Sets what has just fired to the past again, each time.
struct Restless;

impl Service for Restless {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now();
        ctx.set_read_deadline(now);
        ctx.set_timer(TimerName(1), now, Duration::ZERO);
        ctx.send(b"x");
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        let now = ctx.now();
        ctx.set_deadline(which, now);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let now = ctx.now();
        ctx.set_timer(timer, now, Duration::ZERO);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.finish();
    }
}

#[test]
fn deadlines_and_timers_in_the_past_do_not_hold_up_the_loop() {
    let (addr, handle, ended) = run(Restless);
    let mut peer = client(addr);
    peer.read_exact(&mut [0]).unwrap();
    handle.stop();
    assert_eq!(read_all(&mut peer), b"");
    drop(peer);
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(RunOutcome::Drained));
}

/// Dials whoever it has lost.
struct Faithful(SocketAddr);

impl Service for Faithful {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.send(b"x");
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, _id: ConnId, _reason: CloseReason) {
        ctx.dial(Dial::to(self.0));
    }
}

#[test]
fn a_stopping_reactor_dials_nobody() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, handle, ended) = run(Faithful(elsewhere.local_addr().unwrap()));
    let mut peer = client(addr);
    peer.read_exact(&mut [0]).unwrap();
    drop(peer);
    drop(elsewhere.accept().expect("it dials whoever it has lost"));
    handle.stop();
    assert!(ended.recv_timeout(PATIENCE).is_ok(), "it does not stop");
}

#[test]
fn an_answer_that_came_before_a_reset_is_heard() {
    for _ in 0..20 {
        let spy = Loop::acting(Policy::default(), |ctx, told| {
            if *told == Told::Open {
                ctx.send(&vec![b'x'; 4 << 20]);
            }
        });
        let (mut peer, _) = spy.connect();
        peer.read_exact(&mut [0; 100]).unwrap();
        peer.write_all(b"too much\n").unwrap();
        // With unread bytes: the kernel sends RST.
        drop(peer);
        spy.expect(Told::Data(b"too much\n".to_vec()));
        spy.expect(Told::Close(CloseReason::Reset));
        spy.stop();
    }
}

/// Has more to say than anybody takes, until a deadline; then it finishes.
struct Verbose;

impl Service for Verbose {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let due = ctx.now() + Duration::from_millis(100);
        ctx.set_write_deadline(due);
        ctx.send(&vec![b'x'; 20 << 20]);
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, _which: Deadline) {
        ctx.finish();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, _id: ConnId, reason: CloseReason) {
        assert_eq!(reason, CloseReason::Deadline(Deadline::Write));
        ctx.stop_reactor();
    }
}

#[test]
fn finishing_behind_a_passed_write_deadline_is_the_end() {
    let (addr, _handle, ended) = run(Verbose);
    let _peer = client(addr);
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(RunOutcome::Drained));
}
