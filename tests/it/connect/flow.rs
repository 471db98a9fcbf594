//! From standard input to the peer and from the peer to standard output, to the end of both.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::thread;

use super::millis;
use crate::harness::client::{Client, accept, file, listener, tcp, terminal, udp};
use crate::harness::{PATIENCE, Server, eventually, hold, pattern, process, read_all, reset, scaled};

#[test]
fn a_half_close_does_not_end_the_client() {
    let (listener, peer) = listener();
    let mut client = Client::start(&[&peer]);
    let mut stream = accept(&listener);
    client.input("question");
    client.end_input();
    assert_eq!(read_all(&mut stream), b"question");
    stream.write_all(b"answer\n").unwrap();
    client.await_printed("answer\n");
    stream.write_all(b"and more\n").unwrap();
    drop(stream);
    client.wait().assert(0, "answer\nand more\n");
}

#[test]
fn the_peers_end_ends_the_client_before_its_input_ends() {
    let server = Server::start(&["time=0"]);
    // The test holds the other end of its input.
    let client = Client::start(&[&tcp(server.addr("time"))]);
    let end = client.wait();
    assert_eq!((end.code, end.stdout.len(), &*end.stderr), (Some(0), 20, ""));
    server.stop().assert_clean();
}

#[test]
fn standard_input_may_be_a_file_a_device_or_a_pipe() {
    let server = Server::start(&["echo=0"]);
    let peer = tcp(server.addr("echo"));
    Client::with_input(&[&peer], file(b"from a file\n")).wait().assert(0, "from a file\n");
    Client::with_input(&[&peer], Stdio::null()).wait().assert(0, "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    Client::with_input(&[&peer], reader).wait().assert(0, "");
    server.stop().assert_clean();
}

#[test]
fn input_that_cannot_be_read_is_a_failure() {
    let (_listener, peer) = listener();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for peer in [peer, udp(socket.local_addr().unwrap())] {
        let end = Client::with_input(&[&peer], File::open(".").unwrap()).wait();
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
        let client =
            if pipe { Client::with_input(&[&peer], reader) } else { Client::with_input(&[&peer], file(&input)) };
        let mut stream = accept(&listener);
        // The input flows when the peer's end arrives. Afterwards the pipe stays open without a writer's bytes.
        let writing = pipe.then(|| {
            thread::spawn(move || {
                writer.write_all(&input).unwrap();
                writer
            })
        });
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut stream) == pattern(SIZE), "other bytes have arrived");
        client.wait().assert(0, "");
        drop(writing);
    }
}

#[test]
fn input_that_the_peer_does_not_take_after_its_end_is_a_failure() {
    let (listener, peer) = listener();
    let client = Client::with_input(&[&peer, "--log", "trace"], file(&pattern(32 << 20)));
    let mut stream = accept(&listener);
    stream.write_all(b"enough\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The client has read the end, which a reset would discard, and has more input than the socket takes.
    client.await_log("read(131072) = 0\n");
    client.await_log("= blocked\n");
    reset(stream);
    let failure = format!("error: write {peer}: Connection reset by peer: not all input was sent");
    assert_eq!(client.wait().failure(), failure);
}

#[test]
fn the_peers_end_ends_a_client_at_a_terminal() {
    let (listener, peer) = listener();
    let (_user, process) = terminal();
    let client = Client::with_input(&[&peer], process);
    drop(accept(&listener));
    client.wait().assert(0, "");
}

#[test]
fn a_terminal_gives_lines_and_its_control_d_ends_them() {
    let server = Server::start(&["echo=0"]);
    let (user, process) = terminal();
    let mut user = File::from(user);
    let client = Client::with_input(&[&tcp(server.addr("echo"))], process);
    user.write_all(b"typed\n").unwrap();
    client.await_printed("typed\n");
    user.write_all(b"unfinished\x7f\x7f, more\n\x04").unwrap();
    client.wait().assert(0, "typed\nunfinish, more\n");
    server.stop().assert_clean();
}

#[test]
fn an_echo_longer_than_all_buffers_comes_back_whole() {
    let server = Server::start(&["echo=0"]);
    let sent = pattern(48 << 20);
    let end = Client::with_input(&[&tcp(server.addr("echo"))], file(&sent)).wait();
    assert_eq!((end.code, &*end.stderr), (Some(0), ""));
    assert!(end.stdout == sent, "{} of {} bytes, or others", end.stdout.len(), sent.len());
    server.stop().assert_clean();
}

#[test]
fn input_is_not_read_ahead_of_a_peer_that_does_not_read() {
    const SIZE: usize = 64 << 20;
    let (listener, peer) = listener();
    let client = Client::with_input(&[&peer], file(&pattern(SIZE)));
    let mut stream = accept(&listener);
    let position = || {
        let fdinfo = fs::read_to_string(format!("/proc/{}/fdinfo/0", client.pid())).unwrap();
        fdinfo.lines().find_map(|line| line.strip_prefix("pos:")).unwrap().trim().parse::<usize>().unwrap()
    };
    let (mut last, mut since) = (0, client.stopwatch());
    let settled = eventually(PATIENCE, || {
        if position() != last {
            (last, since) = (position(), client.stopwatch());
        }
        last > 0 && since.granted() > millis(300)
    });
    // The kernel's buffers hold up to about 10 MB.
    assert!(settled && last < 16 << 20, "the client has read {last} bytes ahead");
    assert!(read_all(&mut stream) == pattern(SIZE), "other bytes have arrived");
    drop(stream);
    client.wait().assert(0, "");
}

#[test]
fn a_reader_that_pauses_holds_back_the_peer_and_loses_nothing() {
    const SIZE: usize = 64 << 20;
    scaled(|scale| {
        let heartbeat = millis(100) * scale;
        let (listener, peer) = listener();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let args = [&*peer, "--heartbeat", &format!("{}ms", heartbeat.as_millis())];
        let client = Client::with_streams(&args, Stdio::null(), writer.into());
        let clock = client.stopwatch();
        let mut stream = accept(&listener);
        let mut sender = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let sent = sender.write_all(&pattern(SIZE));
            sent.and_then(|()| sender.shutdown(Shutdown::Write))
        });
        // A full pipe has suspended reading. The peer must not count as dead after three more heartbeats.
        let mut all = vec![0; 1];
        reader.read_exact(&mut all).unwrap();
        hold(heartbeat * 6);
        assert!(!sending.is_finished(), "the client took all bytes without a reader");
        let resident = process::resident(client.pid()) / 1024;
        assert!(resident < 24 * 1024, "{resident} KiB are resident");
        reader.read_to_end(&mut all).unwrap();
        let (sent, end) = (sending.join().unwrap(), client.stopwatch());
        if all.len() < SIZE && clock.withheld() > heartbeat {
            return None;
        }
        assert!(all == pattern(SIZE), "other bytes have arrived, {} of {SIZE}, in {:?}", all.len(), end.elapsed());
        sent.expect("all is sent");
        assert_eq!(read_all(&mut stream), b"");
        client.wait().assert(0, "");
        Some(())
    });
}

#[test]
fn a_reader_that_pauses_does_not_time_out_the_peer() {
    let sent = pattern(32 << 20);
    scaled(|scale| {
        let timeout = millis(100) * scale;
        let server = Server::start(&["echo=0"]);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let peer = tcp(server.addr("echo"));
        let args = [&*peer, "--write-timeout", &format!("{}ms", timeout.as_millis())];
        let client = Client::with_streams(&args, file(&sent).into(), writer.into());
        let clocks = [client.stopwatch(), server.stopwatch()];
        let mut all = vec![0; 1];
        reader.read_exact(&mut all).unwrap();
        hold(timeout * 6);
        reader.read_to_end(&mut all).unwrap();
        // The echo itself is a peer that stands still while it has no processor.
        if all.len() < sent.len() && clocks.iter().any(|clock| clock.withheld() > timeout / 2) {
            return None;
        }
        assert!(all == sent, "other bytes have come back, {} of {}", all.len(), sent.len());
        client.wait().assert(0, "");
        server.stop().assert_clean();
        Some(())
    });
}

#[test]
fn output_that_cannot_be_written_is_a_failure_even_after_the_peers_end() {
    let server = Server::start(&["time=0"]);
    let peer = tcp(server.addr("time"));
    for _ in 0..20 {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let end = Client::with_streams(&[&peer], Stdio::null(), full.into()).wait();
        assert_eq!((end.code, &*end.stderr), (Some(1), "error: write standard output: No space left on device\n"));
    }
    server.stop().assert_clean();
}

#[test]
fn a_reader_that_closes_its_pipe_ends_the_client_quietly() {
    let (listener, peer) = listener();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (input, _open) = std::io::pipe().unwrap();
    let client = Client::with_streams(&[&peer, "--reconnect"], input.into(), writer.into());
    let mut stream = accept(&listener);
    stream.write_all(b"one\n").unwrap();
    reader.read_exact(&mut [0; 4]).unwrap();
    drop(reader);
    let gone = eventually(PATIENCE, || stream.write_all(b"another\n").is_err());
    assert!(gone, "the client goes on without a reader");
    client.wait().assert(0, "");
}

/// Returns the bytes that the socket at `local` has sent to `peer` and that are not acknowledged (proc_net_tcp.rst). `None`
/// if the kernel has no such socket any more.
fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let hexadecimal = |addr: SocketAddr| {
        let SocketAddr::V4(addr) = addr else { panic!("{addr} is not IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port())
    };
    let table = fs::read_to_string("/proc/net/tcp").expect("procfs");
    let row = format!(" {} {} ", hexadecimal(local), hexadecimal(peer));
    let (_, rest) = table.lines().find_map(|line| line.split_once(&*row))?;
    let (_, queues) = rest.split_once(' ')?;
    u64::from_str_radix(queues.split_once(':')?.0, 16).ok()
}

#[test]
fn bytes_before_a_reset_reach_a_reader_that_pauses() {
    const SIZE: usize = 400_000;
    let (listener, peer) = listener();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (input, mut keyboard) = std::io::pipe().unwrap();
    let client = Client::with_streams(&[&peer], input.into(), writer.into());
    let mut stream = accept(&listener);
    let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    stream.write_all(&pattern(SIZE)).unwrap();
    // Then all bytes are in the client or in its socket, and the full pipe has suspended reading.
    assert!(eventually(PATIENCE, || unacknowledged(ends.0, ends.1) == Some(0)), "bytes are under way");
    drop(stream);
    // One more line meets a closed socket, and the peer's kernel answers with RST.
    keyboard.write_all(b"one more line\n").unwrap();
    assert!(eventually(PATIENCE, || unacknowledged(ends.1, ends.0).is_none()), "no reset");
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all == pattern(SIZE), "{} of {SIZE} bytes", all.len());
    let failure = format!("error: write {peer}: Connection reset by peer: not all input was sent");
    assert_eq!(client.wait().failure(), failure);
}
