//! `reactor connect` as its users see it: what goes where, how it ends, and what it says when it cannot.

mod reconnecting;
mod udp;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::addresses::{BlackHole, dead_address};
use crate::harness::client::{Client, End, accept, await_text, file, listener, tcp, terminal, udp};
use crate::harness::{PATIENCE, Server, eventually, pattern, read_all, reset};
use rustix::process::Signal;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_half_close_is_no_end() {
    let (listener, peer) = listener();
    let mut client = Client::start(&[&peer]);
    let mut stream = accept(&listener);
    client.say("question");
    client.end_input();
    assert_eq!(read_all(&mut stream), b"question");
    stream.write_all(b"answer\n").unwrap();
    client.await_printed("answer\n");
    stream.write_all(b"and more\n").unwrap();
    drop(stream);
    client.wait().assert(0, "answer\nand more\n");
}

#[test]
fn the_peers_end_is_the_end_though_nobody_has_typed() {
    let server = Server::start(&["time=0"]);
    // Its input does not end before it does.
    let client = Client::start(&[&tcp(server.addr("time"))]);
    let End { code, stdout, stderr } = client.wait();
    assert_eq!((code, stdout.len(), &*stderr), (Some(0), 20, ""));
    server.stop().assert_clean();
}

#[test]
fn standard_input_may_be_anything() {
    let server = Server::start(&["echo=0"]);
    let peer = tcp(server.addr("echo"));
    Client::fed(&[&peer], file(b"from a file\n")).wait().assert(0, "from a file\n");
    Client::fed(&[&peer], Stdio::null()).wait().assert(0, "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    Client::fed(&[&peer], reader).wait().assert(0, "");
    server.stop().assert_clean();
}

#[test]
fn input_that_cannot_be_read_is_a_failure() {
    let (_listener, peer) = listener();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for peer in [peer, udp(socket.local_addr().unwrap())] {
        let end = Client::fed(&[&peer], File::open(".").unwrap()).wait();
        assert_eq!((end.code, &*end.stderr), (Some(1), "error: cannot read standard input: Is a directory\n"));
    }
}

#[test]
fn input_that_flows_goes_on_after_the_peers_end() {
    const SIZE: usize = 10 << 20;
    let (listener, peer) = listener();
    for pipe in [false, true] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let input = pattern(SIZE);
        let client = if pipe { Client::fed(&[&peer], reader) } else { Client::fed(&[&peer], file(&input)) };
        let mut stream = accept(&listener);
        // It flows already when the end comes, and does not wait for its pattern. Nobody writes any more, but the pipe stays
        // open.
        let writing = pipe.then(|| {
            thread::spawn(move || {
                writer.write_all(&input).unwrap();
                writer
            })
        });
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut stream) == pattern(SIZE), "something else has arrived");
        client.wait().assert(0, "");
        drop(writing);
    }
}

#[test]
fn input_that_the_peer_does_not_take_after_its_end_is_told() {
    let (listener, peer) = listener();
    let client = Client::fed(&[&peer, "--log", "trace"], file(&pattern(32 << 20)));
    let mut stream = accept(&listener);
    stream.write_all(b"enough\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // It has heard the end, which a reset would take along, and has more to say than the socket takes.
    client.await_log("read(131072) = 0\n");
    client.await_log("= blocked\n");
    reset(stream);
    let failure = format!("error: write {peer}: Connection reset by peer: not all input was sent");
    assert_eq!(client.wait().failure(), failure);
}

#[test]
fn at_a_terminal_the_peers_end_is_the_end() {
    let (listener, peer) = listener();
    let (_seat, process) = terminal();
    let client = Client::fed(&[&peer], process);
    drop(accept(&listener));
    client.wait().assert(0, "");
}

#[test]
fn a_terminal_gives_lines_and_its_control_d_ends_them() {
    let server = Server::start(&["echo=0"]);
    let (seat, process) = terminal();
    let mut seat = File::from(seat);
    let client = Client::fed(&[&tcp(server.addr("echo"))], process);
    seat.write_all(b"typed\n").unwrap();
    client.await_printed("typed\n");
    seat.write_all(b"unfinished\x7f\x7f, more\n\x04").unwrap();
    client.wait().assert(0, "typed\nunfinish, more\n");
    server.stop().assert_clean();
}

#[test]
fn an_echo_longer_than_all_buffers_comes_back_whole() {
    let server = Server::start(&["echo=0"]);
    let sent = pattern(48 << 20);
    let end = Client::fed(&[&tcp(server.addr("echo"))], file(&sent)).wait();
    assert_eq!((end.code, &*end.stderr), (Some(0), ""));
    assert!(end.stdout == sent, "{} of {} bytes, or others", end.stdout.len(), sent.len());
    server.stop().assert_clean();
}

#[test]
fn input_is_not_read_ahead_of_a_peer_that_does_not_read() {
    const SIZE: usize = 64 << 20;
    let (listener, peer) = listener();
    let client = Client::fed(&[&peer], file(&pattern(SIZE)));
    let mut stream = accept(&listener);
    let position = || {
        let fdinfo = fs::read_to_string(format!("/proc/{}/fdinfo/0", client.pid())).unwrap();
        fdinfo.lines().find_map(|line| line.strip_prefix("pos:")).unwrap().trim().parse::<usize>().unwrap()
    };
    let (mut last, mut since) = (0, Instant::now());
    let settled = eventually(PATIENCE, || {
        if position() != last {
            (last, since) = (position(), Instant::now());
        }
        last > 0 && since.elapsed() > millis(300)
    });
    // The kernel's buffers hold up to about 10 MB.
    assert!(settled && last < 16 << 20, "it has read {last} bytes ahead");
    assert!(read_all(&mut stream) == pattern(SIZE), "something else has arrived");
    drop(stream);
    client.wait().assert(0, "");
}

#[test]
fn a_reader_that_pauses_holds_back_the_peer_and_loses_nothing() {
    const SIZE: usize = 64 << 20;
    let sent = pattern(SIZE);
    let (listener, peer) = listener();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let args = [&*peer, "--heartbeat", "100ms"];
    let client = Client::with(&args, Stdio::null(), writer.into());
    let mut stream = accept(&listener);
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    // It is paused when the peer is stuck; after three more heartbeats it has not taken the peer for dead.
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    let stuck = Instant::now();
    assert!(eventually(PATIENCE, || stuck.elapsed() > millis(600)));
    assert!(!sending.is_finished(), "nobody reads, and all of it has been taken");
    let status = fs::read_to_string(format!("/proc/{}/status", client.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: usize = resident.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(resident < 24 * 1024, "{resident} KiB are resident");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest[..] == pattern(SIZE)[1..], "something else has arrived");
    sending.join().unwrap();
    assert_eq!(read_all(&mut stream), b"");
    client.wait().assert(0, "");
}

#[test]
fn a_reader_that_pauses_is_not_the_peers_fault() {
    let server = Server::start(&["echo=0"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let peer = tcp(server.addr("echo"));
    let sent = pattern(32 << 20);
    let client = Client::with(&[&peer, "--write-timeout", "100ms"], file(&sent).into(), writer.into());
    reader.read_exact(&mut [0; 1]).unwrap();
    let stuck = Instant::now();
    assert!(eventually(PATIENCE, || stuck.elapsed() > millis(600)));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest[..] == sent[1..], "something else has come back");
    client.wait().assert(0, "");
    server.stop().assert_clean();
}

#[test]
fn output_that_cannot_be_written_is_a_failure_also_at_the_very_end() {
    let server = Server::start(&["time=0"]);
    let peer = tcp(server.addr("time"));
    for _ in 0..20 {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let end = Client::with(&[&peer], Stdio::null(), full.into()).wait();
        assert_eq!((end.code, &*end.stderr), (Some(1), "error: write standard output: No space left on device\n"));
    }
    server.stop().assert_clean();
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let (listener, peer) = listener();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (input, _typing) = std::io::pipe().unwrap();
    let client = Client::with(&[&peer, "--reconnect"], input.into(), writer.into());
    let mut stream = accept(&listener);
    stream.write_all(b"one\n").unwrap();
    reader.read_exact(&mut [0; 4]).unwrap();
    drop(reader);
    let gone = eventually(PATIENCE, || stream.write_all(b"another\n").is_err());
    assert!(gone, "it goes on without a reader");
    client.wait().assert(0, "");
}

#[test]
fn a_refusal_is_told_within_100_ms() {
    let peer = tcp(dead_address());
    let took = |()| {
        let start = Instant::now();
        let end = Client::fed(&[&peer], Stdio::null()).wait();
        assert_eq!(end.failure(), format!("error: dial {peer}: Connection refused"));
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
        start.elapsed()
    };
    // The machine may be busy: one of a few will do.
    let best = [(); 10].map(took).into_iter().min().unwrap();
    assert!(best < millis(100), "{best:?}");
}

#[test]
fn a_dial_timeout_is_kept_and_called_one() {
    let hole = BlackHole::new();
    let peer = tcp(hole.addr);
    let took = |()| {
        let start = Instant::now();
        let end = Client::fed(&[&peer, "--dial-timeout", "300ms"], Stdio::null()).wait();
        assert_eq!(end.failure(), format!("error: dial {peer}: i/o timeout after 300ms"));
        start.elapsed()
    };
    let times = [(); 4].map(took);
    assert!(times.iter().all(|time| *time >= millis(300)), "{times:?}");
    assert!(*times.iter().min().unwrap() < millis(400), "{times:?}");
}

#[test]
fn timeouts_of_reads_and_writes_say_that_they_are_timeouts() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--read-timeout", "200ms"]);
    let start = Instant::now();
    let _stream = accept(&listener);
    let end = client.wait();
    assert_eq!(end.failure(), format!("error: read {peer}: i/o timeout after 200ms"));
    assert!(start.elapsed() >= millis(200));

    let client = Client::fed(&[&peer, "--write-timeout", "200ms"], file(&pattern(32 << 20)));
    let _stream = accept(&listener);
    assert_eq!(client.wait().failure(), format!("error: write {peer}: i/o timeout after 200ms"));
}

#[test]
fn a_reset_is_a_failure() {
    let (listener, peer) = listener();
    let mut client = Client::start(&[&peer]);
    let mut stream = accept(&listener);
    client.say("hello");
    await_text(&mut stream, "hello");
    reset(stream);
    assert_eq!(client.wait().failure(), format!("error: read {peer}: Connection reset by peer"));
}

#[test]
fn control_c_cancels_at_every_stage() {
    let interrupt = |client: Client| {
        client.signal(Signal::INT);
        let end = client.wait();
        assert_eq!(end.code, Some(130), "{end:?}");
        end
    };
    // While a dial is under way, and while the next attempt is waited for.
    let hole = BlackHole::new();
    let client = Client::start(&[&tcp(hole.addr), "--log", "trace"]);
    client.await_log("command Dial");
    interrupt(client);
    let client = Client::start(&[&tcp(dead_address()), "--reconnect"]);
    client.await_log("(attempt 3)");
    interrupt(client);
    // During the conversation, after the end of input, and with a reader that does not read.
    let (listener, peer) = listener();
    for stdin in [true, false] {
        let mut client = Client::start(&[&peer]);
        let mut stream = accept(&listener);
        client.say("hello");
        await_text(&mut stream, "hello");
        if !stdin {
            client.end_input();
            assert_eq!(read_all(&mut stream), b"");
        }
        stream.write_all(b"kept").unwrap();
        client.await_printed("kept");
        assert_eq!(interrupt(client).stdout, b"kept");
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    let client = Client::with(&[&peer], Stdio::null(), writer.into());
    let mut stream = accept(&listener);
    stream.write_all(&pattern(200_000)).unwrap();
    let sockets = || {
        let links = fs::read_dir(format!("/proc/{}/fd", client.pid())).unwrap().flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let before = sockets();
    drop(stream);
    assert!(eventually(PATIENCE, || sockets() < before), "the connection is still there");
    interrupt(client);
    // A terminal that is closed and a polite request end it just so.
    for (signal, code) in [(Signal::HUP, 129), (Signal::TERM, 143)] {
        let client = Client::start(&[&peer]);
        let _stream = accept(&listener);
        client.signal(signal);
        assert_eq!(client.wait().code, Some(code));
    }
    // UDP.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = Client::start(&[&udp(socket.local_addr().unwrap())]);
    client.say("hello\n");
    client.await_log("packet-written: bytes=6\n");
    interrupt(client);
}

#[test]
fn a_name_is_resolved_off_the_loop() {
    let client = Client::start(&["tcp://no-such-host.invalid:9", "--reconnect", "--dial-timeout", "300ms"]);
    client.await_log("dial tcp://no-such-host.invalid:9: ");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code, Some(130));
    for peer in ["tcp://no-such-host.invalid:9", "udp://no-such-host.invalid:9"] {
        let end = Client::fed(&[peer, "--dial-timeout", "5s"], Stdio::null()).wait();
        let failure = end.failure();
        let expected = [format!("error: dial {peer}: cannot resolve no-such-host.invalid: "), "timeout".to_owned()];
        assert!(expected.iter().any(|text| failure.contains(text)), "{failure}");
    }
}

#[test]
fn localhost_falls_back_to_the_family_that_answers() {
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = format!("tcp://localhost:{}", four.local_addr().unwrap().port());
    let client = Client::start(&[&peer]);
    accept(&four).write_all(b"four\n").unwrap();
    client.wait().assert(0, "four\n");
    // A host without IPv6 has nothing to fall back from.
    if let Ok(six) = TcpListener::bind("[::1]:0") {
        let peer = format!("tcp://localhost:{}", six.local_addr().unwrap().port());
        let client = Client::start(&[&peer]);
        accept(&six).write_all(b"six\n").unwrap();
        client.wait().assert(0, "six\n");
    }
    let dead = format!("tcp://localhost:{}", dead_address().port());
    let end = Client::fed(&[&dead], Stdio::null()).wait();
    assert_eq!(end.failure(), format!("error: dial {dead}: Connection refused"));
}

#[test]
fn the_local_address_can_be_chosen() {
    let (listener, peer) = listener();
    for (bind, ip) in [("127.0.0.2", "127.0.0.2"), ("127.0.0.3:0", "127.0.0.3"), (":0", "127.0.0.1")] {
        let client = Client::fed(&[&peer, "--bind", bind], Stdio::null());
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), ip);
        drop(stream);
        client.wait().assert(0, "");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = Client::fed(&[&udp(socket.local_addr().unwrap()), "--bind", "127.0.0.2"], file(b"hello"));
    assert_eq!(socket.recv_from(&mut [0; 9]).unwrap().1.ip().to_string(), "127.0.0.2");
    assert_eq!(client.wait().code, Some(0));
    let end = Client::fed(&[&peer, "--bind", "203.0.113.1:0"], Stdio::null()).wait();
    assert_eq!(end.failure(), format!("error: dial {peer}: Cannot assign requested address"));
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    let wrong: [&[&str]; 13] = [
        &[],
        &["127.0.0.1:7007"],
        &["http://127.0.0.1:80"],
        &["tcp://"],
        &["tcp://host:port"],
        &["tcp://127.0.0.1:65536"],
        &["tcp://127.0.0.1:9", "--dial-timeout", "soon"],
        &["tcp://127.0.0.1:9", "--reconnect", "-1"],
        &["tcp://127.0.0.1:9", "--reconnect=+1"],
        &["tcp://127.0.0.1:9", "--reconnect", "often"],
        &["--reconnect", "http://x:1"],
        &["tcp://127.0.0.1:9", "--bind", "example.org:1"],
        &["tcp://127.0.0.1:9", "--bind", "]]127.0.0.1["],
    ];
    for args in wrong {
        let end = Client::fed(args, Stdio::null()).wait();
        assert_eq!((end.code, &*end.stdout), (Some(2), &b""[..]), "{args:?}: {end:?}");
        assert!(end.stderr.starts_with("error: ") && end.stderr.lines().count() == 1, "{args:?}: {end:?}");
    }
    for (peer, wanted) in [("tcp://", "has no address"), ("tcp://[::1]", "has no port")] {
        let end = Client::fed(&[peer], Stdio::null()).wait();
        assert!(end.code == Some(2) && end.stderr.contains(wanted), "{end:?}");
    }
    let help = Client::fed(&["--help"], Stdio::null()).wait();
    assert_eq!(help.code, Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for part in ["Examples:", "tcp://HOST:PORT", "--dial-timeout", "--reconnect [<MAX>]", "--heartbeat-text"] {
        assert!(text.contains(part), "{part} is missing from: {text}");
    }
}
