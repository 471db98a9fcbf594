//! Losses and what comes after: many in little time, in the library with a console of the test and short waits; and a few
//! as the users of `reactor connect --reconnect --heartbeat` see them.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::addresses::dead_address;
use crate::harness::client::{Client, accept, await_text, tcp};
use crate::harness::{PATIENCE, Server, eventually, read_all};
use reactor::clients::{Backoff, Console, ConsoleEvent, Outcome, Route, Settings, StreamClient};
use reactor::id::ServiceId;
use reactor::reactor::{Handle, Ledger, Reactor};
use reactor::service::CloseReason;
use rustix::process::Signal;

/// An address that no outgoing connection has: a port that is bound anew must not have become one's meanwhile.
const APART: &str = "127.0.0.61:0";

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Listens where somebody has listened until now. A process that another test is just starting may still have a copy of
/// the old socket.
fn bind_again(addr: SocketAddr) -> TcpListener {
    let mut listener = None;
    let bound = eventually(PATIENCE, || {
        listener = TcpListener::bind(addr).ok();
        listener.is_some()
    });
    assert!(bound, "cannot bind {addr} again");
    listener.expect("bound")
}

/// A console that tells what it is shown, and is typed into through its client's handle.
struct Paper {
    shown: Sender<Vec<u8>>,
    handle: Handle,
    client: ServiceId,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

impl Console for Paper {
    fn resolve(&mut self) {
        panic!("the address is known");
    }

    fn request_input(&mut self) {}

    fn finish_input(&mut self) {}

    fn write_output(&mut self, bytes: &[u8]) -> bool {
        self.shown.send(bytes.to_vec()).is_ok()
    }

    fn write_notice(&mut self, line: String) -> bool {
        panic!("streams have no notes: {line}");
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.handle.post(self.client, Box::new(ConsoleEvent::Flushed)).expect("the loop goes on");
    }
}

/// A client in a thread.
struct Patient {
    handle: Handle,
    client: ServiceId,
    shown: Receiver<Vec<u8>>,
    thread: JoinHandle<(Outcome, Ledger)>,
}

impl Patient {
    fn start(addr: SocketAddr, backoff: Backoff) -> Self {
        let (sender, shown) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let handle = reactor.handle();
            // The first service of a reactor has the first number.
            let client = ServiceId(0);
            let outcome = Rc::new(RefCell::new(None));
            let paper = Paper { shown: sender, handle: handle.clone(), client, outcome: Rc::clone(&outcome) };
            let route = Route { addrs: Some(vec![addr]), from: None, dial_timeout: Duration::from_secs(5) };
            let settings = Settings { reconnect: Some(backoff), ..Settings::new(format!("tcp://{addr}")) };
            let service = StreamClient::new(settings, route, Box::new(paper));
            assert_eq!(reactor.add_service("client", Box::new(service)), client);
            started.send(handle).unwrap();
            reactor.run().unwrap();
            let outcome = outcome.borrow_mut().take().expect("an outcome");
            (outcome, reactor.ledger().clone())
        });
        Self { handle: start.recv_timeout(PATIENCE).unwrap(), client: ServiceId(0), shown, thread }
    }

    fn tell(&self, event: ConsoleEvent) {
        self.handle.post(self.client, Box::new(event)).unwrap();
    }
}

#[test]
fn a_hundred_restarts_of_the_server_are_a_hundred_connections() {
    let first = TcpListener::bind(APART).unwrap();
    let addr = first.local_addr().unwrap();
    let patient = Patient::start(addr, Backoff::new(fastrand::Rng::with_seed(1)).between(millis(1), millis(8)));
    let mut listener = Some(first);
    for round in 0..100 {
        let listening = listener.take().unwrap_or_else(|| bind_again(addr));
        let (mut stream, _) = listening.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server closes in an orderly way, or as one that is killed with unread input.
        let word = format!("word {round}\n");
        stream.write_all(word.as_bytes()).unwrap();
        assert_eq!(patient.shown.recv_timeout(PATIENCE).unwrap(), word.as_bytes());
        let typed = format!("typed {round}\n");
        patient.tell(ConsoleEvent::Input(typed.clone().into_bytes()));
        let mut arrived = vec![0; typed.len()];
        stream.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, typed.as_bytes());
        drop(listening);
        if round % 2 == 1 {
            crate::harness::reset(stream);
        }
    }
    let listening = bind_again(addr);
    // The end of input is for this connection: on the one that has just been lost it would be the last word.
    let (mut stream, _) = listening.accept().unwrap();
    patient.tell(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(read_all(&mut stream), b"");
    drop(stream);
    let (outcome, ledger) = patient.thread.join().unwrap();
    assert_eq!(outcome, Ok(()));
    // A copy of an old socket may have let it connect in vain.
    assert!(ledger.closed_by(CloseReason::Finished) + ledger.closed_by(CloseReason::Reset) >= 101);
}

#[test]
fn a_thousand_attempts_at_a_dead_port_never_meet_themselves() {
    let backoff = Backoff::new(fastrand::Rng::with_seed(1)).between(Duration::ZERO, Duration::ZERO).at_most(1_000);
    let patient = Patient::start(dead_address(), backoff);
    let (outcome, ledger) = patient.thread.join().unwrap();
    let failure = outcome.expect_err("connected to a port at which nobody listens");
    assert_eq!(failure.attempts(), Some(1000), "{failure}");
    assert_eq!(ledger.dials, 1_001);
    assert_eq!(patient.shown.try_iter().count(), 0);
}

#[test]
fn a_loss_is_mended_and_what_was_typed_meanwhile_arrives() {
    let first = TcpListener::bind(APART).unwrap();
    let addr = first.local_addr().unwrap();
    let peer = tcp(addr);
    let mut client = Client::start(&[&peer, "--reconnect"]);
    let mut stream = accept(&first);
    client.say("before\n");
    await_text(&mut stream, "before\n");
    drop(first);
    drop(stream);
    client.await_log(&format!("{peer}: closed by the peer; reconnecting in 1"));
    client.await_log(&format!("dial {peer}: Connection refused; reconnecting in "));
    client.say("meanwhile\n");
    let second = bind_again(addr);
    let mut stream = accept(&second);
    await_text(&mut stream, "meanwhile\n");
    stream.write_all(b"welcome back\n").unwrap();
    client.await_printed("welcome back\n");
    client.end_input();
    assert_eq!(read_all(&mut stream), b"");
    drop(stream);
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"welcome back\n"[..]), "{end:?}");
    assert!(end.stderr.contains(&format!("connected to {addr}")), "{end:?}");
}

#[test]
fn attempts_have_the_end_that_was_asked_for() {
    let peer = tcp(dead_address());
    let given_up = format!("error: dial {peer}: Connection refused (given up; attempts to reconnect: 2)");
    for args in
        [[&*peer, "--reconnect", "2"], ["--reconnect", "2", &*peer], ["--dial-timeout=1s", "--reconnect=2", &*peer]]
    {
        let end = Client::fed(&args, Stdio::null()).wait();
        assert_eq!(end.failure(), given_up);
        assert_eq!(end.stderr.lines().count(), 3, "{end:?}");
    }
    let end = Client::fed(&["--reconnect", "0", &peer], Stdio::null()).wait();
    assert!(end.failure().contains("Connection refused (given up"), "{end:?}");
    // The peer may stand behind the option: it is not the number of attempts.
    let client = Client::start(&["--reconnect", &peer]);
    client.await_log("(attempt 3)");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code, Some(130));
}

#[test]
fn a_server_that_only_accepts_is_not_tried_for_ever() {
    let (listener, peer) = crate::harness::client::listener();
    let mut client = Client::start(&[&peer, "--reconnect", "2"]);
    for _ in 0..3 {
        drop(accept(&listener));
    }
    assert_eq!(
        client.wait().failure(),
        format!("error: {peer}: closed by the peer (given up; attempts to reconnect: 2)")
    );
    // What has been lost after the last word cannot be mended by another connection.
    client = Client::fed(&[&peer, "--reconnect"], crate::harness::client::file(b"hello"));
    let mut stream = accept(&listener);
    assert_eq!(read_all(&mut stream), b"hello");
    crate::harness::reset(stream);
    assert_eq!(client.wait().failure(), format!("error: read {peer}: Connection reset by peer"));
}

#[test]
fn a_server_that_stands_still_is_dead_after_three_heartbeats() {
    let server = Server::start(&["chat=0"]);
    let peer = tcp(server.addr("chat"));
    let client = Client::start(&[&peer, "--heartbeat", "500ms", "--heartbeat-text", "still there?"]);
    client.await_printed(": still there?\n");
    server.freeze();
    let start = Instant::now();
    let end = client.wait();
    let after = start.elapsed();
    assert_eq!(end.failure(), format!("error: read {peer}: no sign of life for 1.5s"));
    // The last sign of life came at most one heartbeat before.
    assert!(after > millis(950) && after < millis(2_000), "{after:?}");
    server.thaw();
    server.stop();
}

#[test]
fn a_chat_goes_on_after_its_server_was_killed() {
    let server = Server::start(&[&format!("chat={APART}")]);
    let addr = server.addr("chat");
    let mut client = Client::start(&[&tcp(addr), "--reconnect", "--heartbeat", "1s"]);
    client.await_printed("You are ");
    server.signal(Signal::KILL);
    client.await_log("(attempt 1)");
    let server = Server::start(&[&format!("chat={addr}")]);
    client.await_log("connected to ");
    client.say("hello again\n");
    client.await_printed(": hello again\n");
    client.end_input();
    assert_eq!(client.wait().code, Some(0));
    server.stop().assert_clean();
}
