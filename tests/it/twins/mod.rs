//! The examples: each conversation has the same transcript with the blocking twin, with the one on the reactor, and with
//! the service of `reactor serve`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use std::{iter, thread};

use crate::harness::conversation::{
    Part, all_receive, close, end, expected, open, receive, receive_within, reset_by, run, send, sent, shut, silence,
    steps,
};
use crate::harness::{PATIENCE, Server, client, eventually, fill_up, pattern};
use reactor::limits::{GRACE, OVERFLOW};
use reactor::services;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

type Conversation = (&'static str, Part);

/// The services that have twins.
const TWINS: [&str; 8] = ["echo", "echo-udp", "time", "idle", "chat", "chat-raw", "chat-hub", "http"];

/// The longest line of a chat.
const MAX_LINE: usize = 64 * 1024;

/// The programs that offer `service`; the first is `reactor serve`.
fn programs(service: &str) -> Vec<String> {
    let stem = service.replace('-', "_");
    let mut programs = vec!["reactor serve".to_owned(), format!("{stem}_blocking"), format!("{stem}_reactor")];
    if service == "echo" {
        programs.extend(["bare_mio".to_owned()]);
        programs.extend(cfg!(target_os = "linux").then(|| "raw_syscalls".to_owned()));
    }
    programs
}

fn start(program: &str, service: &str) -> Server {
    match program {
        "reactor serve" => Server::start(&[&format!("{service}=0")]),
        example => Server::example(example, "127.0.0.1:0", 1),
    }
}

/// Plays each conversation with each program, which has the room for itself.
fn assert_alike(service: &str, conversations: Vec<Conversation>) {
    let play_all = |program: &str| {
        for (name, steps) in &conversations {
            let mut server = start(program, service);
            let holds = |server: &Server| (server.descriptors(), server.threads());
            let before = holds(&server);
            let heard = run(&server, service, steps);
            // The first step that differs: a transcript may be long.
            let expected = expected(steps);
            let differs = heard.iter().zip(&expected).position(|(heard, expected)| heard != expected);
            if let Some(n) = differs {
                panic!("{program}: {name}: step {n}: {:?} and not {:?}; {}", heard[n], expected[n], server.log());
            }
            assert_eq!(heard.len(), expected.len(), "{program}: {name}");
            // Nobody is connected now, whatever has happened, and nothing may be left of them.
            assert!(eventually(PATIENCE, || holds(&server) == before), "{program}: {name}: {:?}", holds(&server));
            assert!(server.is_running(), "{program}: {name}: {}", server.log());
            assert!(!server.log().contains("panicked"), "{program}: {name}: {}", server.log());
        }
    };
    let programs = programs(service);
    thread::scope(|scope| {
        for program in &programs {
            scope.spawn(move || play_all(program));
        }
    });
}

#[test]
fn echo() {
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
                // The kernels keep it for the one side or the other, and the last of it is answered after the FIN.
                "one who listens only when all is said",
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
                "one who goes in the middle",
                steps([open(0), open(1), send(0, pattern(1 << 20)), reset_by(0), send(1, "1"), receive(1, "1")]),
            ),
            (
                "one who is gone before the answer",
                steps([open(0), send(0, "hello"), close(0), open(1), send(1, "1"), receive(1, "1")]),
            ),
        ],
    );
}

#[test]
fn echo_udp() {
    let longest = pattern(65_507);
    assert_alike(
        "echo-udp",
        vec![
            ("one", steps([open(0), send(0, "hello"), receive(0, "hello")])),
            ("of no bytes", steps([open(0), send(0, ""), receive(0, ""), send(0, "x"), receive(0, "x")])),
            ("of one byte and the longest", steps([open(0), send(0, &longest), receive(0, &longest)])),
            (
                "none is merged or split",
                steps([
                    steps([open(0), send(0, "a"), send(0, ""), send(0, "bcd"), send(0, &longest[..2000])]),
                    steps([receive(0, "a"), receive(0, ""), receive(0, "bcd"), receive(0, &longest[..2000])]),
                ]),
            ),
            (
                "to each its own",
                steps([open(0), open(1), send(0, "0"), send(1, "1"), receive(1, "1"), receive(0, "0")]),
            ),
            (
                "the sender is gone before the answer",
                steps([open(0), send(0, "0"), close(0), open(1), send(1, "1"), receive(1, "1")]),
            ),
        ],
    );
}

#[test]
fn time() {
    assert_alike(
        "time",
        vec![
            ("the time and the end", steps([open(0), receive(0, "{time}\n"), end(0)])),
            (
                "two at a time",
                steps([open(0), open(1), receive(1, "{time}\n"), receive(0, "{time}\n"), end(0), end(1)]),
            ),
            ("to one who has finished", steps([open(0), shut(0), receive(0, "{time}\n"), end(0)])),
            (
                // Unread bytes must not turn the end into a reset, which could take the line along.
                "to one who talks all the while",
                steps([open(0), send(0, pattern(16 << 20)), shut(0), receive(0, "{time}\n"), end(0), sent(0)]),
            ),
        ],
    );
}

/// The time of the service `idle` is three seconds.
#[test]
fn idle() {
    let soon = Duration::from_secs(2);
    let goodbye = || steps([receive_within(soon, 0, "goodbye\n"), end(0)]);
    let conversations = [
        ("silence", steps([open(0), silence(0, Duration::from_millis(2_500)), goodbye()])),
        (
            "every byte buys time",
            steps([
                steps([open(0), silence(0, Duration::from_millis(1_600)), send(0, "a")]),
                // Past the end of the first three seconds, and nearly to the end of the next.
                steps([silence(0, Duration::from_millis(2_500)), goodbye()]),
            ]),
        ),
        (
            "who still talks after the goodbye",
            steps([
                open(0),
                silence(0, Duration::from_millis(2_500)),
                receive_within(soon, 0, "goodbye\n"),
                send(0, pattern(16 << 20)),
                sent(0),
                end(0),
            ]),
        ),
        ("the peer is the first to go", steps([open(0), send(0, "so long"), shut(0), end(0)])),
    ];
    thread::scope(|scope| {
        for conversation in conversations {
            scope.spawn(move || assert_alike("idle", vec![conversation]));
        }
    });
}

/// A speaker and a listener who read all that is said, in this order, in pieces that come back as `heard`. Each piece is
/// more than a speaker may have queued for itself, and less than what makes a listener be dropped: so that must not happen,
/// however busy the machine is and however much the kernel takes.
fn flood<'a>(pieces: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Part {
    pieces.flat_map(|(said, heard)| steps([send(0, said), all_receive([0, 1], heard)])).collect()
}

/// The clients 0, 1, … of a chat, each of whom has heard of all who came later.
fn room(members: usize) -> Part {
    let join = |n| {
        let (greeting, news) = (format!("You are {{{n}}}\n"), format!("{{{n}}} has arrived\n"));
        steps([open(n), receive(n, greeting), all_receive(0..n, news)])
    };
    (0..members).flat_map(join).collect()
}

#[test]
fn chat() {
    let longest = "x".repeat(MAX_LINE);
    let farewell = format!("Your line is too long: the limit is {MAX_LINE} bytes\n");
    let line = "x".repeat(5_000);
    let talk = format!("{line}\n").repeat(160).into_bytes();
    let talked = format!("{{0}}: {line}\n").repeat(160).into_bytes();
    let dismissed = || steps([receive(0, &farewell), end(0), receive(1, "{0} has left\n")]);
    assert_alike(
        "chat",
        vec![
            ("arrivals", room(4)),
            (
                "three talk",
                steps([
                    steps([room(3), send(0, "I\n"), all_receive(0..3, "{0}: I\n")]),
                    steps([
                        send(1, "you\n"),
                        all_receive(0..3, "{1}: you\n"),
                        send(2, "we\n"),
                        all_receive(0..3, "{2}: we\n"),
                    ]),
                ]),
            ),
            (
                "a line in two pieces, and another's line between them",
                steps([
                    steps([room(2), send(0, "hel"), send(1, "in between\n"), all_receive(0..2, "{1}: in between\n")]),
                    steps([send(0, "lo\n"), all_receive(0..2, "{0}: hello\n")]),
                ]),
            ),
            (
                "ends of lines",
                steps([
                    steps([room(2), send(0, "a\nb\r\n\n\r\nin\rside\r\r\n")]),
                    all_receive(0..2, "{0}: a\n{0}: b\n{0}: \n{0}: \n{0}: inside\n"),
                ]),
            ),
            (
                "bytes that are no text",
                steps([
                    steps([room(2), send(0, b"caf\xe9 \xff\xfe\n\x1b[2Jclear\x07\x00\x7f\n")]),
                    all_receive(0..2, "{0}: caf\u{fffd} \u{fffd}\u{fffd}\n{0}: [2Jclear\n"),
                    steps([send(1, "grüß\tdich 🙂\n"), all_receive(0..2, "{1}: grüß\tdich 🙂\n")]),
                ]),
            ),
            (
                "a last line without its end",
                steps([
                    steps([
                        room(2),
                        send(0, "one\nlast words"),
                        shut(0),
                        receive(0, "{0}: one\n{0}: last words\n"),
                        end(0),
                    ]),
                    receive(1, "{0}: one\n{0}: last words\n{0} has left\n"),
                    steps([send(1, "alone\n"), receive(1, "{1}: alone\n")]),
                ]),
            ),
            (
                "half of an end of a line",
                steps([
                    room(2),
                    send(0, "bye\r"),
                    shut(0),
                    receive(0, "{0}: bye\n"),
                    end(0),
                    receive(1, "{0}: bye\n{0} has left\n"),
                ]),
            ),
            ("gone without a word", steps([room(2), shut(0), end(0), receive(1, "{0} has left\n")])),
            (
                "gone with what it was told",
                steps([
                    room(2),
                    send(1, "listen\n"),
                    receive(1, "{1}: listen\n"),
                    close(0),
                    receive(1, "{0} has left\n"),
                ]),
            ),
            (
                "reset in the middle of a line",
                steps([
                    steps([room(3), send(0, "half a li"), reset_by(0), all_receive(1..3, "{0} has left\n")]),
                    steps([send(1, "who else?\n"), all_receive(1..3, "{1}: who else?\n")]),
                ]),
            ),
            (
                "the longest line",
                steps([room(2), send(0, format!("{longest}\r\n")), all_receive(0..2, format!("{{0}}: {longest}\n"))]),
            ),
            (
                "a line that is too long",
                steps([
                    room(2),
                    send(0, format!("short\n{longest}x\nlost\n")),
                    all_receive(0..2, "{0}: short\n"),
                    dismissed(),
                ]),
            ),
            (
                // It still sends when it is told, and must be able to hear it.
                "a line without an end",
                steps([
                    room(2),
                    send(0, vec![b'x'; 16 << 20]),
                    shut(0),
                    dismissed(),
                    sent(0),
                    send(1, "?\n"),
                    receive(1, "{1}: ?\n"),
                ]),
            ),
            (
                // Each byte comes back as eighteen: the speaker is held back, and nothing is lost.
                "a flood of empty lines",
                steps([room(1), send(0, vec![b'\n'; 30_000]), receive(0, "{0}: \n".repeat(30_000))]),
            ),
            ("a flood, and one who listens", steps([room(2), flood(iter::repeat_n((&*talk, &*talked), 5))])),
        ],
    );
}

/// The clients 0, 1, … of a chat of bytes. A member is in when its own byte has come back.
fn crowd(members: usize) -> Part {
    (0..members).flat_map(|n| steps([open(n), send(n, "!"), all_receive(0..=n, "!")])).collect()
}

fn chats_of_bytes() -> Vec<Conversation> {
    let all: Vec<u8> = (0..=255).collect();
    let much = pattern(4 << 20);
    let pieces = || much.chunks(900_000).map(|piece| (piece, piece));
    vec![
        ("a flood, and one who listens", steps([crowd(2), flood(pieces())])),
        ("every value of a byte", steps([crowd(3), send(1, &all), all_receive(0..3, &all)])),
        (
            "no line has to end",
            steps([crowd(2), send(0, "hel"), all_receive(0..2, "hel"), send(1, "lo"), all_receive(0..2, "lo")]),
        ),
        (
            "last words",
            steps([
                crowd(2),
                send(0, "bye"),
                shut(0),
                all_receive(0..2, "bye"),
                end(0),
                send(1, "alone"),
                receive(1, "alone"),
            ]),
        ),
        ("gone without a word", steps([crowd(2), shut(0), end(0), send(1, "alone"), receive(1, "alone")])),
        (
            "gone with what it was told",
            steps([crowd(2), send(1, "listen"), receive(1, "listen"), close(0), send(1, "alone"), receive(1, "alone")]),
        ),
        ("reset", steps([crowd(3), reset_by(0), send(1, "who else?"), all_receive(1..3, "who else?")])),
    ]
}

#[test]
fn chat_raw() {
    let mut conversations = chats_of_bytes();
    // More than its queue holds: the sender is held back by what it has not heard, and nothing is lost.
    let much = pattern(2 << 20);
    conversations.push(("a flood", steps([crowd(1), send(0, &much), shut(0), receive(0, &much), end(0)])));
    assert_alike("chat-raw", conversations);
}

#[test]
fn chat_hub() {
    let mut conversations = chats_of_bytes();
    let piece = pattern(4096);
    conversations.push(("a piece", steps([crowd(3), send(2, &piece), all_receive(0..3, &piece)])));
    assert_alike("chat-hub", conversations);
}

/// More than the kernel (`net.ipv4.tcp_wmem`, 4 MiB) and the thread that writes hold of what somebody has yet to read.
const KERNEL: usize = 8 << 20;

/// Two who talk while a third has stopped reading: they lose nothing, and it is dropped.
fn assert_drops_who_does_not_read(program: &str, service: &str) {
    let server = start(program, service);
    let chat = service == "chat";
    let addr = server.addr(service);
    let mut members: Vec<BufReader<TcpStream>> = Vec::new();
    for n in 0..2 {
        let mut member = BufReader::new(client(addr));
        let name = member.get_ref().local_addr().unwrap();
        let (greeting, news) = if chat {
            (format!("You are {name}\n"), format!("{name} has arrived\n"))
        } else {
            // A member of the others is in when its own bytes have come back.
            let own = format!("{n}\n");
            member.get_mut().write_all(own.as_bytes()).unwrap();
            (own.clone(), own)
        };
        assert_eq!(hear_line(&mut member), greeting, "{program}");
        members.iter_mut().for_each(|other| assert_eq!(hear_line(other), news, "{program}"));
        members.push(member);
    }
    let before = server.descriptors();
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&addr.into()).unwrap();
    assert!(eventually(PATIENCE, || server.descriptors() == before + 1), "{program}: it is not let in");
    let name = stuck.local_addr().unwrap().as_socket().unwrap();
    if chat {
        members.iter_mut().for_each(|member| assert_eq!(hear_line(member), format!("{name} has arrived\n")));
    }
    let said_by = members[0].get_ref().local_addr().unwrap();
    let (mut departures, mut rounds_after) = (0, 0);
    let mut told = 0;
    for round in 0.. {
        let said = format!("{round} {}\n", "x".repeat(30_000));
        told += said.len();
        assert!(told < OVERFLOW + KERNEL, "{program}: one who does not read was not dropped");
        members[0].get_mut().write_all(said.as_bytes()).unwrap();
        let expected = if chat { format!("{said_by}: {said}") } else { said };
        for member in &mut members {
            let mut heard = hear_line(member);
            if heard == format!("{name} has left\n") {
                departures += 1;
                heard = hear_line(member);
            }
            assert!(heard == expected, "{program}: heard {heard:.60} and not {expected:.60}");
        }
        rounds_after += usize::from(server.descriptors() == before);
        if rounds_after > 2 {
            break;
        }
    }
    assert!(told >= OVERFLOW, "{program}: it was dropped after {told} bytes");
    assert_eq!(departures, if chat { 2 } else { 0 }, "{program}");
}

fn hear_line(member: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    member.read_line(&mut line).expect("a line");
    line
}

#[test]
fn one_who_does_not_read_is_dropped_and_nobody_waits_for_it() {
    thread::scope(|scope| {
        for service in ["chat", "chat-raw", "chat-hub"] {
            for program in programs(service) {
                scope.spawn(move || assert_drops_who_does_not_read(&program, service));
            }
        }
    });
}

/// Stops `program` with one client, who reads nothing of what it is sent if it is `deaf`. Returns how it has ended, and after
/// how long.
fn stop_with_a_client(program: &str, service: &str, deaf: bool) -> (ExitStatus, Duration) {
    let server = start(program, service);
    let before = server.descriptors();
    let mut client = server.connect(service);
    assert!(eventually(PATIENCE, || server.descriptors() > before), "{program}: nobody is let in");
    if deaf {
        fill_up(&server, &mut client);
    }
    let since = Instant::now();
    (server.stop().status, since.elapsed())
}

/// The one way in which the twins differ: the echo's headers tell.
#[test]
fn a_signal_ends_the_blocking_twin_at_once_and_the_other_in_order() {
    let stop_both = |service: &str, deaf: bool| {
        let stem = service.replace('-', "_");
        let (status, _) = stop_with_a_client(&format!("{stem}_blocking"), service, deaf);
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{service}");
        let (status, took) = stop_with_a_client(&format!("{stem}_reactor"), service, deaf);
        assert_eq!(status.code(), Some(0), "{service}");
        // Who is deaf cannot be served to the end.
        assert_eq!(took >= GRACE, deaf, "{service}: {took:?}");
        assert!(took < GRACE + Duration::from_secs(2), "{service}: {took:?}");
    };
    thread::scope(|scope| {
        for service in TWINS.into_iter().filter(|service| *service != "echo-udp") {
            scope.spawn(move || stop_both(service, false));
        }
        scope.spawn(|| stop_both("echo", true));
    });
}

/// The head of a response.
fn head(status: &str, length: usize, rest: &str) -> String {
    let fields = "Content-Type: text/plain";
    format!("HTTP/1.1 {status}\r\nServer: reactor\r\n{{date}}\r\n{fields}\r\nContent-Length: {length}\r\n{rest}\r\n")
}

#[test]
fn http() {
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
                // What is no request is answered once, and its sender may still be sending.
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

#[test]
fn five_services_on_one_reactor() {
    let server = Server::example("all_in_one", "0", 6);
    assert_eq!(server.threads(), 1);
    server.assert_serves();
    let conversations = [
        ("echo-udp", steps([open(0), send(0, "hello"), receive(0, "hello")])),
        ("time", steps([open(0), receive(0, "{time}\n"), end(0)])),
        ("idle", steps([open(0), send(0, "x"), receive(0, "goodbye\n"), end(0)])),
        ("chat", room(2)),
    ];
    for (service, steps) in &conversations {
        assert_eq!(run(&server, service, steps), expected(steps), "{service}");
    }
    // Two listeners, one room.
    let mut front = BufReader::new(server.connect("chat"));
    assert!(hear_line(&mut front).starts_with("You are "));
    let back = server.connect("chat-too");
    let name = back.local_addr().unwrap();
    let mut news = String::new();
    while news != format!("{name} has arrived\n") {
        // Those of the conversation before may be leaving.
        assert!(news.is_empty() || news.ends_with(" has left\n"), "{news}");
        news = hear_line(&mut front);
    }
    drop((front, back));
    server.stop().assert_clean();
}

#[cfg(target_os = "linux")]
#[test]
fn raw_syscalls_meets_eagain_and_prints_it() {
    let server = Server::example("raw_syscalls", "127.0.0.1:0", 1);
    let _silent = server.connect("echo");
    for line in ["recvfrom = EAGAIN: ", "accept4 = EAGAIN: "] {
        assert!(eventually(PATIENCE, || server.log().contains(line)), "{line}: {}", server.log());
    }
}

#[test]
fn every_service_has_twins_that_can_be_read_at_a_sitting() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for service in TWINS {
        let port = services::find(service).expect("a service").port;
        let stem = service.replace('-', "_");
        // Both run beside each other and beside `reactor serve`.
        for (name, twin, port) in [("blocking", "reactor", port + 10_000), ("reactor", "blocking", port + 20_000)] {
            let path = examples.join(format!("{stem}_{name}.rs"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let header = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
            assert!(text.lines().count() <= 100, "{} is too long", path.display());
            assert!(text.contains(&format!("127.0.0.1:{port}\"")), "{} has another default port", path.display());
            for word in ["**Run**", "**Try**", "**Notice**", &format!("`{stem}_{twin}.rs`")] {
                assert!(header.contains(word), "{} does not say {word}", path.display());
            }
        }
    }
}
