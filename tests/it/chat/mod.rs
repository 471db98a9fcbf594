//! The chat service over real sockets: each line reaches each member once, in one order.

mod hub;
mod lines;
mod raw;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{Server, client, reset, scaled};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

/// A client of the room, and its name there.
struct Member {
    stream: BufReader<TcpStream>,
    name: String,
}

impl Member {
    /// Connects and reads the greeting: later arrivals are announced to this member.
    fn join(addr: SocketAddr) -> Self {
        Self::greeted(client(addr))
    }

    fn greeted(stream: TcpStream) -> Self {
        let mut member = Self { name: stream.local_addr().unwrap().to_string(), stream: BufReader::new(stream) };
        assert_eq!(member.line(), format!("You are {}", member.name));
        member
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write");
    }

    /// Reads the next line, without its end; empty at the end of file.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("read");
        let line = String::from_utf8(line).expect("UTF-8");
        line.strip_suffix('\n').unwrap_or(&line).to_owned()
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line, "{}", self.name);
    }

    /// Asserts that only the end of file is left.
    fn expect_end(&mut self) {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).expect("read to the end");
        assert_eq!(rest, "", "{}", self.name);
    }
}

/// Connects `count` members, each of which has read the arrivals of all later ones.
fn members(server: &Server, count: usize) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..count {
        let newcomer = Member::join(server.addr("chat"));
        for member in &mut members {
            member.expect(&format!("{} has arrived", newcomer.name));
        }
        members.push(newcomer);
    }
    members
}

#[test]
fn a_hundred_members_receive_a_hundred_lines_of_each_in_one_order() {
    const MEMBERS: usize = 100;
    const LINES: usize = 100;
    // All lines for a member fit into its queue: the subject is order, and not slow readers.
    let server = Server::start(&["--high-water", "1MiB", "echo=0", "chat=0"]);
    let members = members(&server, MEMBERS);
    let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
    let mut writers: Vec<_> = members.iter().map(|member| member.stream.get_ref().try_clone().unwrap()).collect();
    let readers: Vec<_> = members
        .into_iter()
        .map(|mut member| thread::spawn(move || (0..MEMBERS * LINES).map(|_| member.line()).collect::<Vec<_>>()))
        .collect();
    for number in 0..LINES {
        for writer in &mut writers {
            writer.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
    }
    let mut received = readers.into_iter().map(|reader| reader.join().unwrap());
    let first = received.next().unwrap();
    for name in &names {
        let prefix = format!("{name}: ");
        let sent: Vec<_> = first.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(sent, (0..LINES).map(|number| format!("line {number}")).collect::<Vec<_>>(), "{name}");
    }
    for other in received {
        assert!(other == first, "two members received different orders");
    }
    drop(writers);
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 0);
}

#[test]
fn a_thousand_arrivals_and_departures_are_announced_once_each() {
    const JOINS: usize = 1000;
    let server = Server::start(&["echo=0", "chat=0"]);
    let before = server.descriptors();
    let mut observer = Member::join(server.addr("chat"));
    let observing = thread::spawn(move || {
        let mut present: HashMap<String, bool> = HashMap::new();
        let (mut arrivals, mut departures) = (0, 0);
        while departures < JOINS {
            let line = observer.line();
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
                assert!(!news.contains(&format!("{} has left", member.name)), "a member receives its own departure");
            }
            1 => reset(member.stream.into_inner()),
            // The kernel sends RST if lines are unread, and FIN otherwise.
            _ => drop(member),
        }
    }
    drop(observing.join().unwrap());
    server.assert_serves();
    server.assert_descriptors(before);
    server.stop().assert_clean();
}

#[test]
fn a_member_that_stops_reading_is_dropped_and_the_others_lose_nothing() {
    let server = Server::start(&["--send-buffer", "16KiB", "echo=0", "chat=0"]);
    let [mut speaker, mut listener] = members(&server, 2).try_into().ok().unwrap();
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(16 * 1024).unwrap();
    stuck.connect(&server.addr("chat").into()).unwrap();
    let name = stuck.local_addr().unwrap().as_socket().unwrap().to_string();
    for member in [&mut speaker, &mut listener] {
        member.expect(&format!("{name} has arrived"));
    }
    let memory = server.resident();
    let (mut number, mut left) = (0, 0);
    while left == 0 || number < 200 {
        assert!(number < 20_000, "the member that does not read was never dropped");
        let text = format!("{number} {}", "x".repeat(1000));
        speaker.write(format!("{text}\n").as_bytes());
        for member in [&mut speaker, &mut listener] {
            let mut line = member.line();
            if line == format!("{name} has left") {
                left += 1;
                line = member.line();
            }
            assert!(line.ends_with(&text), "received {line:.60}");
        }
        number += 1;
    }
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
    for member in [&mut speaker, &mut listener] {
        member.write(b"end\n");
    }
    for _ in 0..2 {
        let lines = [&mut speaker, &mut listener].map(|member| member.line());
        assert!(lines[0] == lines[1] && lines[0].ends_with(": end"), "{lines:?}");
    }
    assert_eq!(left, 2, "one announcement for each member");
    drop((speaker, listener));
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_overflow"), 1);
    assert_eq!(exit.stderr.matches("overflow: ").count(), 1, "{}", exit.stderr);
}

#[test]
fn a_member_reset_in_the_middle_of_a_broadcast_costs_the_others_nothing() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut members = members(&server, 20);
    for round in 0..50 {
        let victim = Member::join(server.addr("chat"));
        let name = victim.name;
        let speaker = &mut members[round % 20];
        let sent = format!("{}: round {round}", speaker.name);
        speaker.write(format!("round {round}\n").as_bytes());
        reset(victim.stream.into_inner());
        for member in &mut members {
            member.expect(&format!("{name} has arrived"));
            let mut lines = [member.line(), member.line()];
            lines.sort_unstable_by_key(|line| line.ends_with("has left"));
            assert_eq!(lines, [sent.clone(), format!("{name} has left")]);
        }
    }
    drop(members);
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn every_member_reads_the_end_of_file_when_the_server_stops() {
    let server = Server::start(&["echo=0", "chat=0"]);
    let mut members = members(&server, 100);
    for member in &mut members {
        member.write(b"half a line");
    }
    let (name, line) = (members[7].name.clone(), "a whole line");
    members[7].write(b" is not yet a line\n");
    for member in &mut members {
        member.expect(&format!("{name}: half a line is not yet a line"));
    }
    // A line sent before the signal is passed on before the end.
    members[7].write(format!("{line}\n").as_bytes());
    server.signal(Signal::TERM);
    for member in &mut members {
        member.expect(&format!("{name}: {line}"));
        member.expect_end();
    }
    drop(members);
    let exit = server.wait();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 100, "{}", exit.stderr);
}

#[test]
fn a_member_that_times_out_leaves_like_any_other() {
    scaled(|scale| {
        let timeout = Duration::from_millis(500) * scale;
        let server = Server::start(&["--read-timeout", &format!("{}ms", timeout.as_millis()), "echo=0", "chat=0"]);
        let [mut silent, mut talker] = members(&server, 2).try_into().ok().unwrap();
        let (name, departure) = (talker.name.clone(), format!("{} has left", silent.name));
        // Each line renews the talker's own timeout, and waits for the line before it to come back.
        let mut left = 0;
        for number in 0.. {
            let clock = server.stopwatch();
            let _ = talker.stream.get_mut().write_all(format!("{number}\n").as_bytes());
            let (mut line, was_alone) = (talker.line(), left > 0);
            if line == departure {
                left += 1;
                line = talker.line();
            }
            if line.is_empty() && clock.withheld() > timeout / 2 {
                return None;
            }
            assert_eq!(line, format!("{name}: {number}"));
            if was_alone {
                break;
            }
            silent.stream.get_ref().set_nonblocking(true).unwrap();
            let _ = silent.stream.get_mut().read(&mut [0; 4096]);
        }
        assert_eq!(left, 1);
        let exit = server.stop();
        exit.assert_clean();
        assert_eq!(exit.count("closed_read_deadline"), 1);
        Some(())
    });
}
