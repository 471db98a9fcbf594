//! A server that stops: idle connections end at once, requests under way are answered, and that is the last answer.

use std::time::Duration;

use super::samples::post;
use super::serving::{Client, TIME};
use crate::harness::Server;

use rustix::process::Signal;

#[test]
fn idle_connections_end_at_once_and_running_requests_are_answered() {
    let server = Server::start(&["http=0", "--grace", "15s"]);
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let [mut idle, mut asking, mut sending, mut waiting] = [(); 4].map(|()| Client::new(&server));
    for client in [&mut idle, &mut asking, &mut sending] {
        assert_eq!(client.ask(health).body, b"ok\n");
    }
    asking.write(&health[..20]);
    sending.write(post("Content-Length: 10\r\n", "hello"));
    assert_eq!(waiting.ask(post("Content-Length: 5\r\nExpect: 100-continue\r\n", "")).status, 100);
    // The server has read these bytes before it answers a later request.
    assert_eq!(Client::new(&server).ask(TIME).status, 200);
    let ((), took) = server.time(|| {
        server.signal(Signal::TERM);
        idle.assert_end();
    });
    assert!(took < Duration::from_secs(2), "an idle connection was kept for {took:?}");
    for (mut client, rest, status, body) in [
        (asking, &health[20..], 503, &b"stopping\n"[..]),
        (sending, "world", 200, b"helloworld"),
        (waiting, "hello", 200, b"hello"),
    ] {
        let answer = client.ask(rest);
        assert_eq!((answer.status, &answer.body[..]), (status, body));
        assert!(answer.closes(), "{answer:?}");
        client.assert_end();
    }
    server.wait().assert_clean();
}

#[test]
fn a_head_that_never_ends_does_not_use_up_the_grace_period() {
    let server = Server::start(&["http=0"]);
    let mut slow = Client::new(&server);
    slow.write(&TIME[..20]);
    // The server has read these bytes before it answers a later request.
    assert_eq!(Client::new(&server).ask(TIME).status, 200);
    server.signal(Signal::TERM);
    assert_eq!(slow.answer().status, 408);
    slow.assert_end();
    server.wait().assert_clean();
}

#[test]
fn requests_that_have_arrived_are_answered_and_the_last_answer_closes() {
    let server = Server::start(&["http=0"]);
    let mut client = Client::new(&server);
    assert_eq!(client.ask(TIME).status, 200);
    server.freeze();
    client.write(TIME.repeat(1000));
    server.signal(Signal::TERM);
    server.thaw();
    for n in 1..=1000 {
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (200, n == 1000), "answer {n}");
    }
    client.assert_end();
    server.wait().assert_clean();
}
