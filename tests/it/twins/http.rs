//! HTTP.

use super::assert_alike;
use crate::harness::conversation::{end, open, receive, send, shut, steps};
use crate::harness::pattern;

/// Returns the head of a response.
fn head(status: &str, length: usize, rest: &str) -> String {
    let fields = "Content-Type: text/plain";
    format!("HTTP/1.1 {status}\r\nServer: reactor\r\n{{date}}\r\n{fields}\r\nContent-Length: {length}\r\n{rest}\r\n")
}

#[test]
fn http_twins_answer_alike() {
    let (plain, last) = ("", "Connection: close\r\n");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let ok = || format!("{}ok\n", head("200 OK", 3, plain));
    let body = "x".repeat(100_000);
    let echoed = |text: &str| format!("{}{text}", head("200 OK", text.len(), plain));
    let post = |with: &str| format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n{with}\r\n\r\n");
    assert_alike(
        "http",
        vec![
            (
                "the time",
                steps([open(0), send(0, get("/time")), receive(0, head("200 OK", 20, plain)), receive(0, "{time}\n")]),
            ),
            ("three at once", steps([open(0), send(0, get("/healthz").repeat(3)), receive(0, ok().repeat(3))])),
            (
                "in pieces",
                steps([
                    open(0),
                    send(0, "GET /healthz HT"),
                    send(0, "TP/1.1\r\nHost: a\r"),
                    send(0, "\n\r\n"),
                    receive(0, ok()),
                ]),
            ),
            (
                "a body, and another in chunks",
                steps([
                    steps([
                        open(0),
                        send(0, post("Content-Length: 100000")),
                        send(0, &body),
                        receive(0, echoed(&body)),
                    ]),
                    steps([send(0, post("Transfer-Encoding: chunked")), send(0, "3;a=b\r\nabc\r\n0\r\nT: t\r\n\r\n")]),
                    receive(0, echoed("abc")),
                ]),
            ),
            (
                "the last one",
                steps([
                    open(0),
                    send(0, "GET /healthz HTTP/1.0\r\n\r\n"),
                    receive(0, format!("{}ok\n", head("200 OK", 3, last))),
                    end(0),
                ]),
            ),
            (
                // Bytes that are no request are answered once, also to a client that still sends.
                "no request",
                steps([
                    open(0),
                    send(0, "GET / HTTP/9.9\r\n\r\n"),
                    send(0, pattern(16 << 20)),
                    receive(0, "HTTP/1.1 505 HTTP Version Not Supported\r\n"),
                ]),
            ),
            ("an end between requests", steps([open(0), send(0, get("/healthz")), receive(0, ok()), shut(0), end(0)])),
            (
                "an end within a request",
                steps([open(0), send(0, "GET /healthz"), shut(0), receive(0, "HTTP/1.1 400 Bad Request\r\n")]),
            ),
            ("an end without a request", steps([open(0), shut(0), end(0)])),
        ],
    );
}
