//! Lines: their ends, their limit, floods of them.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use super::{Member, members};
use crate::harness::{PATIENCE, Server, eventually};

#[test]
fn lines_are_whole_whatever_their_pieces() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let [mut one, mut two] = members(&server, 2).try_into().ok().unwrap();
    let (name, other) = (one.name.clone(), two.name.clone());
    let both_expect = |one: &mut Member, two: &mut Member, text: &str| {
        one.expect(&format!("{name}: {text}"));
        two.expect(&format!("{name}: {text}"));
    };
    // The server has read the first half when a later line of another member has come back.
    one.write(b"hel");
    two.write(b"in between\n");
    for member in [&mut one, &mut two] {
        member.expect(&format!("{other}: in between"));
    }
    one.write(b"lo\n");
    both_expect(&mut one, &mut two, "hello");
    for (bytes, texts) in [
        (&b"a\nb\n"[..], &["a", "b"][..]),
        (b"with CRLF\r\n", &["with CRLF"]),
        (b"\n\r\n", &["", ""]),
        (b"caf\xe9 \xff\xfe\n", &["caf\u{fffd} \u{fffd}\u{fffd}"]),
        ("grüß\tdich 🙂\n".as_bytes(), &["grüß\tdich 🙂"]),
        (b"\x1b[2Jclear\x07\x00\x7f\n", &["[2Jclear"]),
        (b"in\rside\r\r\n", &["inside"]),
    ] {
        one.write(bytes);
        for text in texts {
            both_expect(&mut one, &mut two, text);
        }
    }
    one.write(b"no line end");
    one.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    both_expect(&mut one, &mut two, "no line end");
    one.expect_end();
    two.expect(&format!("{name} has left"));
    drop((one, two));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn ten_megabytes_without_a_line_end_cost_the_memory_of_one_line() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let [mut one, mut two] = members(&server, 2).try_into().ok().unwrap();
    // The longest permitted line, then a line without an end.
    one.write(&[b'x'; 65_536]);
    one.write(b"\r\n");
    assert_eq!(one.line().len(), two.line().len());
    let memory = server.resident();
    for _ in 0..160 {
        one.write(&[b'x'; 65_536]);
    }
    one.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    one.expect("Your line is too long: the limit is 65536 bytes");
    one.expect_end();
    two.expect(&format!("{} has left", one.name));
    two.write(b"who else?\n");
    two.expect(&format!("{}: who else?", two.name));
    drop((one, two));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn max_line_limits_the_length_of_a_line() {
    let server = Server::start(&["--max-line", "5", "echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    one.write(b"12345\n");
    one.expect(&format!("{}: 12345", one.name));
    one.write(b"123456\n");
    one.expect("Your line is too long: the limit is 5 bytes");
    one.expect_end();
    drop(one);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_flood_of_short_lines_suspends_its_speaker_and_is_complete() {
    const LINES: usize = 100_000;
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    let memory = server.resident();
    let mut writer = one.stream.get_ref().try_clone().unwrap();
    // Each byte comes back as eighteen or more. The server suspends reading the speaker, and does not drop it.
    let writing = thread::spawn(move || writer.write_all(&[b'\n'; LINES]).unwrap());
    let empty = format!("{}: ", one.name);
    for _ in 0..LINES {
        one.expect(&empty);
    }
    writing.join().unwrap();
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 2 << 20, "grew by {grown} bytes");
    drop(one);
    server.assert_serves();
    let exit = server.stop();
    assert_eq!(exit.count("closed_overflow"), 0);
    assert!(exit.count("pauses") > 10, "the speaker was never suspended");
    exit.assert_clean();
}

#[test]
fn a_member_suspended_by_its_own_flood_still_receives_other_lines() {
    const LINES: usize = 50_000;
    const GREETINGS: usize = 100;
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let [mut flooder, mut other] = <[Member; 2]>::try_from(members(&server, 2)).ok().unwrap();
    let mut writer = flooder.stream.get_ref().try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&[b'\n'; LINES]).unwrap());
    assert!(eventually(PATIENCE, || server.counter("pauses") > 0), "the flooder is not suspended");
    other.write(&b"hello?\n".repeat(GREETINGS));
    let names = [flooder.name.clone(), other.name.clone()];
    let expected = |line: &String| [format!("{}: ", names[0]), format!("{}: hello?", names[1])].contains(line);
    let reading = thread::spawn(move || (0..LINES + GREETINGS).map(|_| other.line()).collect::<Vec<_>>());
    let received: Vec<_> = (0..LINES + GREETINGS).map(|_| flooder.line()).collect();
    writing.join().unwrap();
    assert!(received.iter().all(expected));
    assert!(received == reading.join().unwrap(), "two members received different orders");
    drop(flooder);
    let exit = server.stop();
    assert_eq!(exit.count("closed_overflow"), 0);
    exit.assert_clean();
}

#[test]
fn a_line_sent_byte_by_byte_is_one_line() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    let line = "0123456789".repeat(1000);
    for byte in line.bytes() {
        one.write(&[byte]);
    }
    one.write(b"\n");
    one.expect(&format!("{}: {line}", one.name));
    drop(one);
    server.stop().assert_clean();
}
