//! The chats: of lines, of bytes, and of chunks.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::{iter, thread};

use super::{Conversation, assert_alike, line_of, programs, start};
use crate::harness::conversation::{Part, all_receive, close, end, open, receive, reset_by, send, sent, shut, steps};
use crate::harness::{PATIENCE, client, eventually, pattern};
use reactor::limits::OVERFLOW;
use socket2::{Domain, Socket, Type};

/// The longest line of a chat.
const MAX_LINE: usize = 64 * 1024;

/// Returns a flood of client 0 in pieces of `sent` bytes, which client 0 and then client 1 receive as `received`.
///
/// A piece is more than a speaker may have queued for itself, and less than the bound at which a listener is dropped. No
/// program may drop a client, however busy the machine is and however much the kernel buffers.
fn flood<'a>(pieces: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Part {
    pieces.flat_map(|(sent, received)| steps([send(0, sent), all_receive([0, 1], received)])).collect()
}

/// Opens the clients 0, 1, … of a chat, each of which receives the arrivals of all later ones.
pub fn room(members: usize) -> Part {
    let join = |n| {
        let (greeting, news) = (format!("You are {{{n}}}\n"), format!("{{{n}}} has arrived\n"));
        steps([open(n), receive(n, greeting), all_receive(0..n, news)])
    };
    (0..members).flat_map(join).collect()
}

#[test]
fn chat_twins_answer_alike() {
    let longest = "x".repeat(MAX_LINE);
    let farewell = format!("Your line is too long: the limit is {MAX_LINE} bytes\n");
    let line = "x".repeat(5_000);
    let talk = format!("{line}\n").repeat(160).into_bytes();
    let echoed = format!("{{0}}: {line}\n").repeat(160).into_bytes();
    let dismissed = || steps([receive(0, &farewell), end(0), receive(1, "{0} has left\n")]);
    assert_alike(
        "chat",
        vec![
            ("arrivals", room(4)),
            (
                "three speakers",
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
                "a last line without an end",
                steps([
                    steps([
                        room(2),
                        send(0, "one\nno line end"),
                        shut(0),
                        receive(0, "{0}: one\n{0}: no line end\n"),
                        end(0),
                    ]),
                    receive(1, "{0}: one\n{0}: no line end\n{0} has left\n"),
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
            ("a half-close without a byte", steps([room(2), shut(0), end(0), receive(1, "{0} has left\n")])),
            (
                "a close with unread lines",
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
                // The client still sends when the farewell comes, and must be able to read it.
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
                // Each byte comes back as eighteen: the server suspends reading the speaker, and loses nothing.
                "a flood of empty lines",
                steps([room(1), send(0, vec![b'\n'; 30_000]), receive(0, "{0}: \n".repeat(30_000))]),
            ),
            ("a flood with a listener", steps([room(2), flood(iter::repeat_n((&*talk, &*echoed), 5))])),
        ],
    );
}

/// Opens the clients 0, 1, … of a byte chat. A member has joined when its own byte has come back.
fn byte_room(members: usize) -> Part {
    (0..members).flat_map(|n| steps([open(n), send(n, "!"), all_receive(0..=n, "!")])).collect()
}

fn byte_chats() -> Vec<Conversation> {
    let all: Vec<u8> = (0..=255).collect();
    let much = pattern(4 << 20);
    let pieces = || much.chunks(900_000).map(|piece| (piece, piece));
    vec![
        ("a flood with a listener", steps([byte_room(2), flood(pieces())])),
        ("every value of a byte", steps([byte_room(3), send(1, &all), all_receive(0..3, &all)])),
        (
            "no line has to end",
            steps([byte_room(2), send(0, "hel"), all_receive(0..2, "hel"), send(1, "lo"), all_receive(0..2, "lo")]),
        ),
        (
            "bytes before a half-close",
            steps([
                byte_room(2),
                send(0, "bye"),
                shut(0),
                all_receive(0..2, "bye"),
                end(0),
                send(1, "alone"),
                receive(1, "alone"),
            ]),
        ),
        ("a half-close without a byte", steps([byte_room(2), shut(0), end(0), send(1, "alone"), receive(1, "alone")])),
        (
            "a close with unread lines",
            steps([
                byte_room(2),
                send(1, "listen"),
                receive(1, "listen"),
                close(0),
                send(1, "alone"),
                receive(1, "alone"),
            ]),
        ),
        ("reset", steps([byte_room(3), reset_by(0), send(1, "who else?"), all_receive(1..3, "who else?")])),
    ]
}

#[test]
fn chat_raw_twins_answer_alike() {
    let mut conversations = byte_chats();
    // More than the queue holds: the server suspends reading the sender until it reads, and loses nothing.
    let much = pattern(2 << 20);
    conversations.push(("a flood", steps([byte_room(1), send(0, &much), shut(0), receive(0, &much), end(0)])));
    assert_alike("chat-raw", conversations);
}

#[test]
fn chat_hub_twins_answer_alike() {
    let mut conversations = byte_chats();
    let piece = pattern(4096);
    conversations.push(("a piece", steps([byte_room(3), send(2, &piece), all_receive(0..3, &piece)])));
    assert_alike("chat-hub", conversations);
}

/// More than the kernel (`net.ipv4.tcp_wmem`, 4 MiB) and a writing thread hold of the unread bytes of a peer.
const KERNEL: usize = 8 << 20;

/// Asserts that a member that has stopped reading is dropped, and that two others lose nothing meanwhile.
fn assert_drops_a_stuck_member(program: &str, service: &str) {
    let server = start(program, service);
    let chat = service == "chat";
    let addr = server.addr(service);
    let mut members: Vec<BufReader<TcpStream>> = Vec::new();
    for n in 0..2 {
        let mut member = BufReader::new(client(addr));
        let name = member.get_ref().local_addr().unwrap();
        let (greeting, announcement) = if chat {
            (format!("You are {name}\n"), format!("{name} has arrived\n"))
        } else {
            // A member of a byte chat has joined when its own bytes have come back.
            let own = format!("{n}\n");
            member.get_mut().write_all(own.as_bytes()).unwrap();
            (own.clone(), own)
        };
        assert_eq!(line_of(&mut member), greeting, "{program}");
        members.iter_mut().for_each(|other| assert_eq!(line_of(other), announcement, "{program}"));
        members.push(member);
    }
    let before = server.descriptors();
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&addr.into()).unwrap();
    assert!(eventually(PATIENCE, || server.descriptors() == before + 1), "{program}: no accept");
    let name = stuck.local_addr().unwrap().as_socket().unwrap();
    if chat {
        members.iter_mut().for_each(|member| assert_eq!(line_of(member), format!("{name} has arrived\n")));
    }
    let speaker = members[0].get_ref().local_addr().unwrap();
    let (mut departures, mut rounds_after) = (0, 0);
    let mut total = 0;
    for round in 0.. {
        let sent = format!("{round} {}\n", "x".repeat(30_000));
        total += sent.len();
        assert!(total < OVERFLOW + KERNEL, "{program}: the stuck member was not dropped");
        members[0].get_mut().write_all(sent.as_bytes()).unwrap();
        let expected = if chat { format!("{speaker}: {sent}") } else { sent };
        for member in &mut members {
            let mut line = line_of(member);
            if line == format!("{name} has left\n") {
                departures += 1;
                line = line_of(member);
            }
            assert!(line == expected, "{program}: {line:.60} and not {expected:.60}");
        }
        rounds_after += usize::from(server.descriptors() == before);
        if rounds_after > 2 {
            break;
        }
    }
    assert!(total >= OVERFLOW, "{program}: the stuck member was dropped after {total} bytes");
    assert_eq!(departures, if chat { 2 } else { 0 }, "{program}");
}

#[test]
fn a_member_that_does_not_read_is_dropped_without_delay_for_the_others() {
    thread::scope(|scope| {
        for service in ["chat", "chat-raw", "chat-hub"] {
            for program in programs(service) {
                scope.spawn(move || assert_drops_a_stuck_member(&program, service));
            }
        }
    });
}
