//! The chat service over real sockets: every line, in one order, once.

mod hub;
mod raw;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::harness::{PATIENCE, Server, client, eventually, reset};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

/// Somebody in the room.
struct Member {
    stream: BufReader<TcpStream>,
    name: String,
}

impl Member {
    /// Comes in and takes the greeting: whoever connects afterwards is announced to this member.
    fn join(addr: SocketAddr) -> Self {
        Self::greeted(client(addr))
    }

    fn greeted(stream: TcpStream) -> Self {
        let mut member = Self { name: stream.local_addr().unwrap().to_string(), stream: BufReader::new(stream) };
        assert_eq!(member.hear(), format!("You are {}", member.name));
        member
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write");
    }

    /// The next line, without its end; empty at the end of file.
    fn hear(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("read");
        let line = String::from_utf8(line).expect("UTF-8");
        line.strip_suffix('\n').unwrap_or(&line).to_owned()
    }

    fn hears(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "{}", self.name);
    }

    /// Nothing but the end of file is left.
    fn hears_the_end(&mut self) {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).expect("read to the end");
        assert_eq!(rest, "", "{}", self.name);
    }
}

/// So many members, each of whom has heard of the arrival of all that came later.
fn members(server: &Server, count: usize) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..count {
        let newcomer = Member::join(server.addr("chat"));
        for member in &mut members {
            member.hears(&format!("{} has arrived", newcomer.name));
        }
        members.push(newcomer);
    }
    members
}

#[test]
fn a_hundred_members_hear_a_hundred_lines_of_each_in_one_order() {
    const MEMBERS: usize = 100;
    const LINES: usize = 100;
    // All that a member is sent fits: this is about order, not about slow readers.
    let server = Server::start(&["--high-water", "1MiB", "echo=0", "chat=0"]);
    let members = members(&server, MEMBERS);
    let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
    let mut writers: Vec<_> = members.iter().map(|member| member.stream.get_ref().try_clone().unwrap()).collect();
    let readers: Vec<_> = members
        .into_iter()
        .map(|mut member| thread::spawn(move || (0..MEMBERS * LINES).map(|_| member.hear()).collect::<Vec<_>>()))
        .collect();
    for number in 0..LINES {
        for writer in &mut writers {
            writer.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
    }
    let mut heard = readers.into_iter().map(|reader| reader.join().unwrap());
    let first = heard.next().unwrap();
    for name in &names {
        let prefix = format!("{name}: ");
        let said: Vec<_> = first.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(said, (0..LINES).map(|number| format!("line {number}")).collect::<Vec<_>>(), "{name}");
    }
    for other in heard {
        assert!(other == first, "two members heard different orders");
    }
    drop(writers);
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 0);
}

#[test]
fn a_thousand_come_and_go_and_each_is_told_of_once() {
    const JOINS: usize = 1000;
    let server = Server::start(&["echo=0", "chat=0"]);
    let before = server.descriptors();
    let mut observer = Member::join(server.addr("chat"));
    let observing = thread::spawn(move || {
        let mut present: HashMap<String, bool> = HashMap::new();
        let (mut arrivals, mut departures) = (0, 0);
        while departures < JOINS {
            let line = observer.hear();
            if let Some(name) = line.strip_suffix(" has arrived") {
                assert!(!present.insert(name.to_owned(), true).unwrap_or(false), "{name} arrived twice");
                arrivals += 1;
            } else if let Some(name) = line.strip_suffix(" has left") {
                assert!(present.insert(name.to_owned(), false).unwrap_or(false), "{name} left without having been in");
                departures += 1;
            } else {
                panic!("unexpected: {line:?}");
            }
        }
        assert_eq!(arrivals, JOINS);
        observer
    });
    let mut seed = 1u32;
    let mut present = Vec::new();
    let mut joined = 0;
    while joined < JOINS || !present.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let dice = (seed >> 16) as usize;
        if joined < JOINS && (present.len() < 5 || (present.len() < 50 && dice.is_multiple_of(2))) {
            present.push(Member::join(server.addr("chat")));
            joined += 1;
            continue;
        }
        let mut member = present.swap_remove(dice / 8 % present.len());
        match dice % 3 {
            0 => {
                member.stream.get_ref().shutdown(Shutdown::Write).unwrap();
                let mut news = String::new();
                member.stream.read_to_string(&mut news).unwrap();
                assert!(!news.contains(&format!("{} has left", member.name)), "told of its own departure");
            }
            1 => reset(member.stream.into_inner()),
            // With unread news the kernel makes this a reset, and a FIN otherwise.
            _ => drop(member),
        }
    }
    drop(observing.join().unwrap());
    server.assert_serves();
    server.assert_descriptors(before);
    server.stop().assert_clean();
}

#[test]
fn one_who_stops_reading_is_dropped_and_the_others_lose_nothing() {
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let [mut speaker, mut listener] = members(&server, 2).try_into().ok().unwrap();
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&server.addr("chat").into()).unwrap();
    let name = stuck.local_addr().unwrap().as_socket().unwrap().to_string();
    for member in [&mut speaker, &mut listener] {
        member.hears(&format!("{name} has arrived"));
    }
    let memory = server.resident();
    let (mut number, mut left) = (0, 0);
    while left == 0 || number < 200 {
        assert!(number < 20_000, "a member who does not read was never dropped");
        let text = format!("{number} {}", "x".repeat(1000));
        speaker.write(format!("{text}\n").as_bytes());
        for member in [&mut speaker, &mut listener] {
            let mut line = member.hear();
            if line == format!("{name} has left") {
                left += 1;
                line = member.hear();
            }
            assert!(line.ends_with(&text), "heard {line:.60}");
        }
        number += 1;
    }
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    for member in [&mut speaker, &mut listener] {
        member.write(b"end\n");
    }
    for _ in 0..2 {
        let heard = [&mut speaker, &mut listener].map(|member| member.hear());
        assert!(heard[0] == heard[1] && heard[0].ends_with(": end"), "{heard:?}");
    }
    assert_eq!(left, 2, "told once each");
    drop((speaker, listener));
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 1);
    assert_eq!(exit.stderr.matches("overflow: ").count(), 1, "{}", exit.stderr);
}

#[test]
fn one_who_is_reset_in_the_middle_of_a_broadcast_takes_nobody_along() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut members = members(&server, 20);
    for round in 0..50 {
        let victim = Member::join(server.addr("chat"));
        let name = victim.name;
        let speaker = &mut members[round % 20];
        let said = format!("{}: round {round}", speaker.name);
        speaker.write(format!("round {round}\n").as_bytes());
        reset(victim.stream.into_inner());
        for member in &mut members {
            member.hears(&format!("{name} has arrived"));
            let mut heard = [member.hear(), member.hear()];
            heard.sort_unstable_by_key(|line| line.ends_with("has left"));
            assert_eq!(heard, [said.clone(), format!("{name} has left")]);
        }
    }
    drop(members);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn lines_are_lines_however_they_are_sent() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let [mut one, mut two] = members(&server, 2).try_into().ok().unwrap();
    let (name, other) = (one.name.clone(), two.name.clone());
    let both_hear = |one: &mut Member, two: &mut Member, text: &str| {
        one.hears(&format!("{name}: {text}"));
        two.hears(&format!("{name}: {text}"));
    };
    // The server has taken the first half when somebody else's later line has come back.
    one.write(b"hel");
    two.write(b"in between\n");
    for member in [&mut one, &mut two] {
        member.hears(&format!("{other}: in between"));
    }
    one.write(b"lo\n");
    both_hear(&mut one, &mut two, "hello");
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
            both_hear(&mut one, &mut two, text);
        }
    }
    one.write(b"last words");
    one.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    both_hear(&mut one, &mut two, "last words");
    one.hears_the_end();
    two.hears(&format!("{name} has left"));
    drop((one, two));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn ten_megabytes_without_a_line_end_cost_one_line() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let [mut one, mut two] = members(&server, 2).try_into().ok().unwrap();
    // The longest line that is allowed, and one byte more than that.
    one.write(&[b'x'; 65_536]);
    one.write(b"\r\n");
    assert_eq!(one.hear().len(), two.hear().len());
    let memory = server.resident();
    for _ in 0..160 {
        one.write(&[b'x'; 65_536]);
    }
    one.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    one.hears("Your line is too long: the limit is 65536 bytes");
    one.hears_the_end();
    two.hears(&format!("{} has left", one.name));
    two.write(b"who else?\n");
    two.hears(&format!("{}: who else?", two.name));
    drop((one, two));
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn the_limit_of_a_line_is_an_option() {
    let server = Server::start(&["--max-line", "5", "echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    one.write(b"12345\n");
    one.hears(&format!("{}: 12345", one.name));
    one.write(b"123456\n");
    one.hears("Your line is too long: the limit is 5 bytes");
    one.hears_the_end();
    drop(one);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn a_flood_of_short_lines_waits_for_its_speaker_and_is_complete() {
    const LINES: usize = 100_000;
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    let memory = server.resident();
    let mut writer = one.stream.get_ref().try_clone().unwrap();
    // Each byte comes back as eighteen and more: the speaker is held back, and not dropped, for not keeping up.
    let writing = thread::spawn(move || writer.write_all(&[b'\n'; LINES]).unwrap());
    let empty = format!("{}: ", one.name);
    for _ in 0..LINES {
        one.hears(&empty);
    }
    writing.join().unwrap();
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 2 << 20, "grew by {grown} bytes");
    drop(one);
    server.assert_serves();
    let exit = server.stop();
    assert_eq!(exit.count("closed_overflow"), 0);
    assert!(exit.count("pauses") > 10, "it was never held back");
    exit.assert_clean();
}

#[test]
fn who_is_held_back_by_its_own_flood_still_hears_the_others() {
    const LINES: usize = 50_000;
    const GREETINGS: usize = 100;
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let [mut flooder, mut other] = <[Member; 2]>::try_from(members(&server, 2)).ok().unwrap();
    let mut writer = flooder.stream.get_ref().try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&[b'\n'; LINES]).unwrap());
    assert!(eventually(PATIENCE, || server.counter("pauses") > 0), "it is not held back");
    other.write(&b"hello?\n".repeat(GREETINGS));
    let names = [flooder.name.clone(), other.name.clone()];
    let expected = |line: &String| [format!("{}: ", names[0]), format!("{}: hello?", names[1])].contains(line);
    let reading = thread::spawn(move || (0..LINES + GREETINGS).map(|_| other.hear()).collect::<Vec<_>>());
    let heard: Vec<_> = (0..LINES + GREETINGS).map(|_| flooder.hear()).collect();
    writing.join().unwrap();
    assert!(heard.iter().all(expected));
    assert!(heard == reading.join().unwrap(), "two members heard different orders");
    drop(flooder);
    let exit = server.stop();
    assert_eq!(exit.count("closed_overflow"), 0);
    exit.assert_clean();
}

#[test]
fn a_line_that_dribbles_in_is_still_one_line() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut one = Member::join(server.addr("chat"));
    let line = "0123456789".repeat(1000);
    for byte in line.bytes() {
        one.write(&[byte]);
    }
    one.write(b"\n");
    one.hears(&format!("{}: {line}", one.name));
    drop(one);
    server.stop().assert_clean();
}

#[test]
fn when_the_server_stops_everybody_sees_the_end() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut members = members(&server, 100);
    for member in &mut members {
        member.write(b"half a line");
    }
    let (name, said) = (members[7].name.clone(), "all of a line");
    members[7].write(b" is not yet a line\n");
    for member in &mut members {
        member.hears(&format!("{name}: half a line is not yet a line"));
    }
    // What has been sent when the signal comes is passed on before the end.
    members[7].write(format!("{said}\n").as_bytes());
    server.signal(Signal::TERM);
    for member in &mut members {
        member.hears(&format!("{name}: {said}"));
        member.hears_the_end();
    }
    drop(members);
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 100, "{}", exit.stderr);
}

#[test]
fn one_whose_time_is_up_leaves_like_any_other() {
    let server = Server::start(&["--read-timeout", "500ms", "echo=0", "chat=0"]);
    let [mut silent, mut talker] = members(&server, 2).try_into().ok().unwrap();
    let departure = format!("{} has left", silent.name);
    let mut told = 0;
    // The talker's own time is renewed by each line, and each waits for the one before it to come back.
    for number in 0.. {
        talker.write(format!("{number}\n").as_bytes());
        let mut line = talker.hear();
        if line == departure {
            told += 1;
            line = talker.hear();
        }
        assert_eq!(line, format!("{}: {number}", talker.name));
        silent.stream.get_ref().set_nonblocking(true).unwrap();
        let _ = silent.stream.get_mut().read(&mut [0; 4096]);
        if told > 0 {
            break;
        }
    }
    talker.write(b"alone\n");
    talker.hears(&format!("{}: alone", talker.name));
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_read_deadline"), 1);
}
