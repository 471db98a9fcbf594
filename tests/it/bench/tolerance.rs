//! Servers that are unusual, and not wrong: the load generator measures them as other clients do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::{assert_sound, count, figures, measure, serve, start};
use crate::harness::Server;

/// Starts a server that sends `response` for each request.
fn respond(response: &'static [u8]) -> SocketAddr {
    serve(move |mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).split(b'\n').map_while(Result::ok);
        while lines.by_ref().take_while(|line| line != b"\r").count() > 0 {
            if peer.write_all(response).is_err() {
                return;
            }
        }
    })
}

#[test]
fn responses_whose_end_is_certain_are_measured() {
    let responses: [&[u8]; 8] = [
        b"HTTP/1.1 200 OK\r\nServer: caf\xe9\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 302 D\xe9plac\xe9\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2 ;\xe9\r\nok\r\n0\r\n\r\n",
    ];
    for response in responses {
        assert_sound(&measure("http", respond(response), "--connections 2 --pipeline 3 --rate 500 --duration 100ms"));
    }
    let unknown = respond(b"HTTP/1.1 999 Request Denied\r\nContent-Length: 2\r\n\r\nok");
    let figures = measure("http", unknown, "--connections 2 --rate 500 --duration 100ms");
    let answered = count(&figures, "answered") + count(&figures, "answered_late");
    assert_eq!([answered, count(&figures["errors"], "status 999")], [50, count(&figures, "error_count")], "{figures}");
}

#[test]
fn idle_connections_that_the_server_closes_are_replaced_without_an_error() {
    let server = Server::start(&["http=0", "echo=0", "--keep-alive-timeout", "200ms", "--idle-timeout", "200ms"]);
    for kind in ["http", "echo"] {
        let before = server.counter("accepts");
        // The only request is due at the beginning: from then on all connections are idle.
        let figures = measure(kind, server.addr(kind), "--connections 5 --rate 1 --duration 1s");
        assert_eq!(["answered", "error_count", "unanswered"].map(|name| count(&figures, name)), [1, 0, 0], "{figures}");
        assert!(figures["gave_up_after"].is_null(), "{figures}");
        assert!(server.counter("accepts") >= before + 10, "the connections are not replaced");
    }
}

#[test]
fn an_announced_end_of_an_idle_connection_is_no_error() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        let mut answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned();
        if lines.by_ref().take_while(|line| !line.is_empty()).count() > 0 {
            // The second response has no request.
            answer += "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = peer.write_all(answer.as_bytes());
            let _ = peer.shutdown(Shutdown::Write);
            let _ = lines.count();
        }
    });
    let figures = measure("http", addr, "--connections 3 --rate 50 --duration 200ms");
    // The answer to the last request may come after the window.
    let answered = count(&figures, "answered") + count(&figures, "answered_late");
    let [errors, unanswered] = ["error_count", "unanswered"].map(|name| count(&figures, name));
    assert_eq!([answered, errors, unanswered], [10, 0, 0], "{figures}");
}

#[test]
fn deep_pipelines_are_answered() {
    // The server suspends reading while its answers are queued. A client that does the same never makes progress.
    let server = Server::start(&["http=0", "echo=0", "chat=0"]);
    let url = format!("http://{}/{}", server.addr("http"), "x".repeat(200));
    let output =
        start("http", &url, "--connections 1 --pipeline 20000 --duration 200ms --json").wait_with_output().unwrap();
    let figures = figures(&output);
    assert!(count(&figures, "answered") + count(&figures, "answered_late") > 0, "{figures}");
    assert_eq!(count(&figures["errors"], "status 404"), count(&figures, "error_count"), "{figures}");
}

#[test]
fn a_name_is_measured_at_the_first_address_that_answers() {
    for host in ["[::1]", "127.0.0.1"] {
        let services = ["echo", "echo-udp", "time", "chat", "http"];
        let arguments = services.map(|kind| format!("{kind}={host}:0"));
        let server = Server::start(&arguments.each_ref().map(String::as_str));
        for kind in services {
            let addr = server.addr(kind);
            let name = format!("localhost:{}", addr.port());
            let output = start(kind, &name, "--connections 2 --duration 100ms --json").wait_with_output().unwrap();
            let figures = figures(&output);
            assert_eq!(figures["address"], addr.to_string(), "{figures}");
            assert_eq!(count(&figures, "error_count"), 0, "{figures}");
        }
    }
}

#[test]
fn the_host_field_has_the_name_and_no_zone() {
    let (sender, requests) = std::sync::mpsc::channel();
    let addr = serve(move |mut peer| {
        let mut request = [0; 1024];
        let n = peer.read(&mut request).unwrap_or(0);
        let _ = sender.send(String::from_utf8_lossy(&request[..n]).into_owned());
        let _ = peer.write_all(b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n");
    });
    let name = format!("localhost:{}", addr.port());
    start("http", &name, "--connections 1 --duration 50ms --json").wait_with_output().unwrap();
    let request = requests.iter().find(|request| !request.is_empty()).unwrap();
    assert!(request.contains(&format!("\r\nHost: {name}\r\n")), "{request}");
}
