//! Lost connections and what follows: many losses in the library with short waits, and a few in `reactor connect
//! --reconnect --heartbeat`.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::millis;
use crate::harness::addresses::Vacant;
use crate::harness::client::{Client, accept, await_text, file, listener, tcp};
use crate::harness::{PATIENCE, Server, eventually, read_all, reset};
use reactor::clients::{Backoff, Console, ConsoleEvent, LocalAddr, Outcome, Route, Settings, StreamClient};
use reactor::reactor::{Ledger, Poster, Reactor};
use reactor::service::CloseReason;
use rustix::process::Signal;

/// Listens at a vacant address, possibly once more: a process that another test has forked, and that has not called exec
/// yet, may hold a copy of the old socket.
fn listen(addr: SocketAddr) -> TcpListener {
    let mut listener = None;
    let bound = eventually(PATIENCE, || {
        listener = TcpListener::bind(addr).ok();
        listener.is_some()
    });
    assert!(bound, "cannot bind {addr} again");
    listener.expect("bound")
}

/// A console that sends its output to the test; the test posts its input to the loop.
struct TestConsole {
    output: Sender<Vec<u8>>,
    poster: Poster<ConsoleEvent>,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

impl Console for TestConsole {
    fn resolve(&mut self) {
        panic!("the address is known");
    }

    fn request_input(&mut self) {}

    fn finish_input(&mut self) {}

    fn write_output(&mut self, bytes: &[u8]) -> bool {
        self.output.send(bytes.to_vec()).is_ok()
    }

    fn write_notice(&mut self, line: String) -> bool {
        panic!("streams have no notes: {line}");
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.poster.post(ConsoleEvent::Flushed).expect("the loop goes on");
    }
}

/// A client in a thread.
struct TestClient {
    poster: Poster<ConsoleEvent>,
    output: Receiver<Vec<u8>>,
    thread: JoinHandle<(Outcome, Ledger)>,
}

impl TestClient {
    fn start(addr: SocketAddr, from: Option<LocalAddr>, backoff: Backoff) -> Self {
        let (sender, output) = channel();
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let outcome = Rc::new(RefCell::new(None));
            let route = Route { addrs: Some(vec![addr.into()]), from, dial_timeout: Duration::from_secs(5) };
            let settings = Settings { reconnect: Some(backoff), ..Settings::new(format!("tcp://{addr}")) };
            reactor.add_service_with("client", |poster| {
                let console = TestConsole { output: sender, poster: poster.clone(), outcome: Rc::clone(&outcome) };
                started.send(poster).unwrap();
                StreamClient::new(settings, route, Box::new(console))
            });
            reactor.run().unwrap();
            let outcome = outcome.borrow_mut().take().expect("an outcome");
            (outcome, reactor.ledger().clone())
        });
        Self { poster: start.recv_timeout(PATIENCE).unwrap(), output, thread }
    }

    fn post(&self, event: ConsoleEvent) {
        self.poster.post(event).unwrap();
    }
}

#[test]
fn a_hundred_restarts_of_the_server_are_a_hundred_connections() {
    let vacant = Vacant::new();
    let mut listener = listen(vacant.addr);
    let backoff = Backoff::new(fastrand::Rng::with_seed(1)).between(millis(1), millis(8));
    let client = TestClient::start(vacant.addr, None, backoff);
    for round in 0..100 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let word = format!("word {round}\n");
        stream.write_all(word.as_bytes()).unwrap();
        assert_eq!(client.output.recv_timeout(PATIENCE).unwrap(), word.as_bytes());
        let input = format!("input {round}\n");
        client.post(ConsoleEvent::Input(input.clone().into_bytes()));
        let mut arrived = vec![0; input.len()];
        stream.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, input.as_bytes());
        drop(listener);
        // The server closes in order, or resets as a killed server with unread input does.
        if round % 2 == 1 {
            reset(stream);
        } else {
            drop(stream);
        }
        listener = listen(vacant.addr);
    }
    // The end of input belongs to this connection. After a loss the client could not send it any more.
    let (mut stream, _) = listener.accept().unwrap();
    client.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(read_all(&mut stream), b"");
    drop(stream);
    let (outcome, ledger) = client.thread.join().unwrap();
    assert_eq!(outcome, Ok(()));
    // A forked copy of an old listener may have completed a connection that no server accepts.
    assert!(ledger.closed_by(CloseReason::Finished) + ledger.closed_by(CloseReason::Reset) >= 101);
}

#[test]
fn a_thousand_attempts_at_a_port_without_a_listener_never_meet_themselves() {
    let vacant = Vacant::new();
    let backoff = Backoff::new(fastrand::Rng::with_seed(1)).between(Duration::ZERO, Duration::ZERO).at_most(1_000);
    // From the same address: the kernel may choose the port that is dialed.
    let client = TestClient::start(vacant.addr, Some(LocalAddr::Addr(vacant.any_port())), backoff);
    let (outcome, ledger) = client.thread.join().unwrap();
    let failure = outcome.expect_err("connected to a port without a listener");
    assert_eq!(failure.attempts(), Some(1000), "{failure}");
    assert_eq!(ledger.dials, 1_001);
    assert_eq!(client.output.try_iter().count(), 0);
}

#[test]
fn a_client_reconnects_after_a_loss_and_sends_the_input_of_the_meantime() {
    let vacant = Vacant::new();
    let first = listen(vacant.addr);
    let peer = tcp(vacant.addr);
    let mut client = Client::start(&[&peer, "--reconnect"]);
    let mut stream = accept(&first);
    client.input("before\n");
    await_text(&mut stream, "before\n");
    drop(first);
    drop(stream);
    client.await_log(&format!("{peer}: closed by the peer; reconnecting in 1"));
    client.await_log(&format!("dial {peer}: Connection refused; reconnecting in "));
    client.input("meanwhile\n");
    let second = listen(vacant.addr);
    let mut stream = accept(&second);
    await_text(&mut stream, "meanwhile\n");
    stream.write_all(b"welcome back\n").unwrap();
    client.await_printed("welcome back\n");
    client.end_input();
    assert_eq!(read_all(&mut stream), b"");
    drop(stream);
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"welcome back\n"[..]), "{end:?}");
    assert!(end.stderr.contains(&format!("connected to {}", vacant.addr)), "{end:?}");
}

#[test]
fn attempts_end_at_their_limit() {
    let vacant = Vacant::new();
    let peer = tcp(vacant.addr);
    let given_up = format!("error: dial {peer}: Connection refused (given up; attempts to reconnect: 2)");
    for args in
        [[&*peer, "--reconnect", "2"], ["--reconnect", "2", &*peer], ["--dial-timeout=1s", "--reconnect=2", &*peer]]
    {
        let end = Client::with_input(&args, Stdio::null()).wait();
        assert_eq!(end.failure(), given_up);
        assert_eq!(end.stderr.lines().count(), 3, "{end:?}");
    }
    let end = Client::with_input(&["--reconnect", "0", &peer], Stdio::null()).wait();
    assert!(end.failure().contains("Connection refused (given up"), "{end:?}");
    // The option has no value here: the peer is not taken for one.
    let client = Client::start(&["--reconnect", &peer]);
    client.await_log("(attempt 3)");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code, Some(130));
}

#[test]
fn a_server_that_accepts_and_closes_uses_up_the_attempts() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--reconnect", "2"]);
    for _ in 0..3 {
        drop(accept(&listener));
    }
    assert_eq!(
        client.wait().failure(),
        format!("error: {peer}: closed by the peer (given up; attempts to reconnect: 2)")
    );
    // Input lost after its end cannot be sent again: a reset after that is a failure.
    let client = Client::with_input(&[&peer, "--reconnect"], file(b"hello"));
    let mut stream = accept(&listener);
    assert_eq!(read_all(&mut stream), b"hello");
    reset(stream);
    assert_eq!(client.wait().failure(), format!("error: read {peer}: Connection reset by peer"));
}

#[test]
fn a_suspended_server_is_dead_after_three_heartbeats() {
    let server = Server::start(&["chat=0"]);
    let peer = tcp(server.addr("chat"));
    let client = Client::start(&[&peer, "--heartbeat", "500ms", "--heartbeat-text", "still there?"]);
    client.await_printed(": still there?\n");
    server.freeze();
    let clock = client.stopwatch();
    let end = client.wait();
    let granted = clock.granted_to(end.withheld);
    assert_eq!(end.failure(), format!("error: read {peer}: no sign of life for 1.5s"));
    assert!(granted < millis(2_000), "late, after {granted:?}");
    server.thaw();
    server.stop();
}

#[test]
fn a_server_is_not_dead_before_three_heartbeats() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--heartbeat", "300ms"]);
    let mut stream = accept(&listener);
    let last_byte = Instant::now();
    stream.write_all(b"still here\n").unwrap();
    let end = client.wait();
    assert!(last_byte.elapsed() >= millis(900), "early, after {:?}", last_byte.elapsed());
    assert_eq!(end.failure(), format!("error: read {peer}: no sign of life for 900ms"));
}

#[test]
fn a_chat_goes_on_after_its_server_was_killed() {
    let Vacant { addr, .. } = &Vacant::new();
    let server = Server::start(&[&format!("chat={addr}")]);
    let mut client = Client::start(&[&tcp(*addr), "--reconnect", "--heartbeat", "1s"]);
    client.await_printed("You are ");
    server.signal(Signal::KILL);
    client.await_log("(attempt 1)");
    let server = Server::start(&[&format!("chat={addr}")]);
    client.await_log("connected to ");
    client.input("hello again\n");
    client.await_printed(": hello again\n");
    client.end_input();
    assert_eq!(client.wait().code, Some(0));
    server.stop().assert_clean();
}
