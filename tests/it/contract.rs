//! The contract of services at its limits, through the library.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::harness::spy::{Callback, Loop, listen};
use crate::harness::{PATIENCE, client, read_all};
use reactor::limits::Policy;
use reactor::reactor::{Handle, Reactor, RunOutcome};
use reactor::service::{CloseReason, Context, Dial, Service, ServiceContext, TimerName};
use reactor::timer::Deadline;

/// Runs `service` in a thread. Returns its address, a handle, and the receiver of its outcome.
fn run(service: impl Service + Send + 'static) -> (SocketAddr, Handle, mpsc::Receiver<RunOutcome>) {
    let (ready, is_ready) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        reactor.set_grace(Duration::from_secs(2));
        let service = reactor.add_service("test", Box::new(service));
        let (_, addr) = listen(&mut reactor, service, Policy::default());
        ready.send((addr, reactor.handle())).unwrap();
        ended.send(reactor.run().unwrap()).unwrap();
    });
    let (addr, handle) = is_ready.recv_timeout(PATIENCE).unwrap();
    (addr, handle, has_ended)
}

/// Answers each byte with a thousand bytes, until the connection is congested.
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
fn input_left_by_a_congested_service_is_offered_again_after_the_kernel_takes_all_output() {
    let (addr, handle, ended) = run(Thousandfold);
    let mut peer = client(addr);
    peer.write_all(&[b'x'; 200]).unwrap();
    let mut answer = vec![0; 200_000];
    peer.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == b'x'));
    handle.stop();
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(RunOutcome::Drained));
}

/// Sets each fired deadline and timer to the past again.
struct Restless;

impl Service for Restless {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now();
        ctx.set_deadline(Deadline::Read, now);
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

/// Dials again after each close.
struct Faithful(SocketAddr);

impl Service for Faithful {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.send(b"x");
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        ctx.dial(Dial::to(self.0));
    }
}

#[test]
fn a_stopping_reactor_does_not_dial() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, handle, ended) = run(Faithful(elsewhere.local_addr().unwrap()));
    let mut peer = client(addr);
    peer.read_exact(&mut [0]).unwrap();
    drop(peer);
    drop(elsewhere.accept().expect("a dial after the close"));
    handle.stop();
    assert!(ended.recv_timeout(PATIENCE).is_ok(), "the reactor does not stop");
}

#[test]
fn input_before_a_reset_is_delivered() {
    for _ in 0..20 {
        let spy = Loop::acting(Policy::default(), |ctx, callback| {
            if *callback == Callback::Open {
                ctx.send(&vec![b'x'; 4 << 20]);
            }
        });
        let (mut peer, _) = spy.connect();
        peer.read_exact(&mut [0; 100]).unwrap();
        peer.write_all(b"too much\n").unwrap();
        // The peer closes with unread bytes, so the kernel sends RST.
        drop(peer);
        spy.expect(Callback::Data(b"too much\n".to_vec()));
        spy.expect(Callback::Close(CloseReason::Reset));
        spy.stop();
    }
}

/// Sends more than the peer takes, and finishes at its write deadline.
struct Verbose;

impl Service for Verbose {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let due = ctx.now() + Duration::from_millis(100);
        ctx.set_deadline(Deadline::Write, due);
        ctx.send(&vec![b'x'; 20 << 20]);
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, _which: Deadline) {
        ctx.finish();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        assert_eq!(reason, CloseReason::Deadline(Deadline::Write));
        ctx.stop_reactor();
    }
}

#[test]
fn a_finish_after_a_passed_write_deadline_ends_the_connection() {
    let (addr, _handle, ended) = run(Verbose);
    let _peer = client(addr);
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(RunOutcome::Drained));
}
