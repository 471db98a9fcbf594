//! The services without state: echo, time, idle.

use std::thread;
use std::time::Duration;

use super::assert_alike;
use crate::harness::conversation::{
    close, end, open, receive, receive_within, reset_by, send, sent, shut, silence, steps,
};
use crate::harness::pattern;

#[test]
fn echo_twins_answer_alike() {
    let all: Vec<u8> = (0..=255).collect();
    let (much, more) = (pattern(1 << 20), pattern(4 << 20));
    assert_alike(
        "echo",
        vec![
            ("one line", steps([open(0), send(0, "hello\n"), receive(0, "hello\n")])),
            ("every value of a byte", steps([open(0), send(0, &all), receive(0, &all)])),
            (
                "in pieces",
                steps([open(0), send(0, "a"), receive(0, "a"), send(0, "bc"), receive(0, "bc"), shut(0), end(0)]),
            ),
            ("a half-close after a word", steps([open(0), send(0, "bye"), shut(0), receive(0, "bye"), end(0)])),
            ("a half-close without a word", steps([open(0), shut(0), end(0)])),
            (
                // The kernels buffer it on either side, and the server answers the last bytes after the FIN.
                "a client that reads after its last send",
                steps([open(0), send(0, &much), shut(0), sent(0), receive(0, &much), end(0)]),
            ),
            (
                "more than any buffer holds",
                steps([open(0), send(0, &more), shut(0), receive(0, &more), end(0), sent(0)]),
            ),
            (
                "two at a time",
                steps([
                    open(0),
                    open(1),
                    send(1, "1"),
                    send(0, "0"),
                    receive(0, "0"),
                    receive(1, "1"),
                    shut(0),
                    end(0),
                ]),
            ),
            (
                "a reset in the middle",
                steps([open(0), open(1), send(0, pattern(1 << 20)), reset_by(0), send(1, "1"), receive(1, "1")]),
            ),
            (
                "a close before the answer",
                steps([open(0), send(0, "hello"), close(0), open(1), send(1, "1"), receive(1, "1")]),
            ),
        ],
    );
}

#[test]
fn echo_udp_twins_answer_alike() {
    let longest = pattern(65_507);
    assert_alike(
        "echo-udp",
        vec![
            ("one", steps([open(0), send(0, "hello"), receive(0, "hello")])),
            ("an empty datagram", steps([open(0), send(0, ""), receive(0, ""), send(0, "x"), receive(0, "x")])),
            ("the longest", steps([open(0), send(0, &longest), receive(0, &longest)])),
            (
                "none is merged or split",
                steps([
                    steps([open(0), send(0, "a"), send(0, ""), send(0, "bcd"), send(0, &longest[..2000])]),
                    steps([receive(0, "a"), receive(0, ""), receive(0, "bcd"), receive(0, &longest[..2000])]),
                ]),
            ),
            ("two clients", steps([open(0), open(1), send(0, "0"), send(1, "1"), receive(1, "1"), receive(0, "0")])),
            (
                "a sender that closes before the answer",
                steps([open(0), send(0, "0"), close(0), open(1), send(1, "1"), receive(1, "1")]),
            ),
        ],
    );
}

#[test]
fn time_twins_answer_alike() {
    assert_alike(
        "time",
        vec![
            ("the time and the end", steps([open(0), receive(0, "{time}\n"), end(0)])),
            (
                "two at a time",
                steps([open(0), open(1), receive(1, "{time}\n"), receive(0, "{time}\n"), end(0), end(1)]),
            ),
            ("to a client that has half-closed", steps([open(0), shut(0), receive(0, "{time}\n"), end(0)])),
            (
                // Unread bytes must not turn the close into a reset, which could discard the line.
                "to a client that sends all the while",
                steps([open(0), send(0, pattern(16 << 20)), shut(0), receive(0, "{time}\n"), end(0), sent(0)]),
            ),
        ],
    );
}

/// The timeout of the service `idle` is three seconds.
#[test]
fn idle_twins_answer_alike() {
    let soon = Duration::from_secs(4);
    let goodbye = || steps([receive_within(soon, 0, "goodbye\n"), end(0)]);
    let conversations = [
        ("silence", steps([open(0), silence(0, Duration::from_millis(2_500)), goodbye()])),
        (
            "every byte renews the timeout",
            steps([
                steps([open(0), silence(0, Duration::from_millis(1_600)), send(0, "a")]),
                // Past the end of the first three seconds, and almost to the end of the next.
                steps([silence(0, Duration::from_millis(2_500)), goodbye()]),
            ]),
        ),
        (
            "bytes after the goodbye",
            steps([
                open(0),
                silence(0, Duration::from_millis(2_500)),
                receive_within(soon, 0, "goodbye\n"),
                send(0, pattern(16 << 20)),
                sent(0),
                end(0),
            ]),
        ),
        ("the peer closes first", steps([open(0), send(0, "goodbye"), shut(0), end(0)])),
    ];
    thread::scope(|scope| {
        for conversation in conversations {
            scope.spawn(move || assert_alike("idle", vec![conversation]));
        }
    });
}
