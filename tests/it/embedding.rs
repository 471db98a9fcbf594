//! The loop among other things of a program: descriptors and signals of its own, and another loop around it.

use std::io::{Read, Write, pipe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::harness::{PATIENCE, client};
use reactor::service::TimerName;
use reactor::{
    Context, DescriptorId, Interest, ListenOptions, Policy, Reactor, Ready, RunOutcome, Service, ServiceContext,
};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

#[derive(Debug, PartialEq)]
enum Event {
    Ready(DescriptorId, Ready),
    Signal(i32),
    Timer,
    Data(Vec<u8>),
}

struct Reporter(Sender<Event>);

impl Service for Reporter {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(1), ctx.now() + Duration::from_millis(20), Duration::ZERO);
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        self.0.send(Event::Data(input.to_vec())).unwrap();
        input.len()
    }

    fn on_timer(&mut self, _: &mut ServiceContext, _: TimerName) {
        self.0.send(Event::Timer).unwrap();
    }

    fn on_ready(&mut self, _: &mut ServiceContext, id: DescriptorId, ready: Ready) {
        self.0.send(Event::Ready(id, ready)).unwrap();
    }

    fn on_signal(&mut self, _: &mut ServiceContext, signal: i32) {
        self.0.send(Event::Signal(signal)).unwrap();
    }
}

fn reporting() -> (Reactor, reactor::ServiceId, Receiver<Event>) {
    let (sender, events) = channel();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("reporter", Box::new(Reporter(sender)));
    (reactor, service, events)
}

/// Turns until an event that is no timer.
fn next(reactor: &mut Reactor, events: &Receiver<Event>) -> Event {
    loop {
        match events.try_recv() {
            Ok(Event::Timer) => {}
            Ok(event) => return event,
            Err(_) => reactor.turn_for(Some(PATIENCE)).unwrap(),
        }
    }
}

#[test]
fn a_descriptor_of_the_program_is_reported_by_its_edges() {
    let (mut reactor, service, events) = reporting();
    let (mut reader, mut writer) = pipe().unwrap();
    let id = reactor.add_source(service, &reader, Interest::Readable).unwrap();
    for text in [&b"one"[..], b"two"] {
        writer.write_all(text).unwrap();
        let Event::Ready(of, ready) = next(&mut reactor, &events) else { panic!("another event") };
        assert!(of == id && ready.is_readable && !ready.is_writable && !ready.is_closed, "{ready:?}");
        let mut bytes = [0; 3];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, text);
    }
    drop(writer);
    let Event::Ready(_, ready) = next(&mut reactor, &events) else { panic!("another event") };
    assert!(ready.is_closed, "{ready:?}");
    // A descriptor does not hold up a stop.
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_descriptor_that_cannot_be_polled_is_an_error() {
    let (mut reactor, service, _) = reporting();
    let (mut other, ..) = reporting();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = reactor.add_source(service, &file, Interest::Readable).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    let error = other.add_source(service, &pipe().unwrap().0, Interest::Readable).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
}

#[test]
fn a_signal_goes_to_the_service_that_asks_for_it() {
    let (mut reactor, service, events) = reporting();
    // The default action of this signal harms no other test.
    let signal = Signal::WINCH;
    reactor.handle_signal(service, signal.as_raw()).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
    assert_eq!(next(&mut reactor, &events), Event::Signal(signal.as_raw()));
    assert_eq!(reactor.ledger().signals, 1);
    let error = reactor.handle_signal(service, Signal::KILL.as_raw()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
}

#[test]
fn the_loop_runs_inside_another_loop() {
    let (mut reactor, service, events) = reporting();
    let (_, addr) = reactor.listen(service, ([127, 0, 0, 1], 0), &ListenOptions::default(), Policy::default()).unwrap();
    assert_eq!(reactor.next_turn(), Some(Duration::ZERO), "on_start is due");
    reactor.turn_for(Some(Duration::ZERO)).unwrap();
    let until_timer = reactor.next_turn().unwrap();
    assert!(!until_timer.is_zero() && until_timer <= Duration::from_millis(21), "{until_timer:?}");
    let mut peer = client(addr.as_socket().unwrap());
    peer.write_all(b"hello").unwrap();
    // The outer loop: poll(2) on the descriptor of the reactor and nothing else.
    let (mut timer, mut data) = (false, false);
    while !(timer && data) {
        let limit = reactor.next_turn().unwrap_or(PATIENCE);
        poll(&reactor, limit);
        reactor.turn_for(Some(Duration::ZERO)).unwrap();
        for event in events.try_iter() {
            match event {
                Event::Timer => timer = true,
                Event::Data(bytes) => data = bytes == b"hello",
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Waits until the descriptor of the reactor is readable, at most for `limit`.
fn poll(reactor: &Reactor, limit: Duration) {
    let limit = rustix::time::Timespec::try_from(limit).unwrap();
    let mut fds = [PollFd::new(reactor, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&limit)).unwrap();
}
