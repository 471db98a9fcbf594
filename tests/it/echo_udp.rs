//! The echo service over UDP: one datagram in, the same datagram out, to its sender.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use crate::harness::{PATIENCE, Server, eventually, pattern, process};

/// The longest payload of UDP over IPv4: 65,535 less the two headers.
const LONGEST: usize = 65_507;

fn socket(local: &str) -> UdpSocket {
    let socket = UdpSocket::bind(local).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let n = socket.recv(&mut buffer).expect("an answer");
    buffer.truncate(n);
    buffer
}

fn exchange(socket: &UdpSocket, payload: &[u8]) {
    assert_eq!(socket.send(payload).expect("send"), payload.len());
    assert!(receive(socket) == payload, "the answer to {} bytes differs", payload.len());
}

/// The kernel's figures of a UDP socket (`Documentation/networking/proc_net_tcp.rst` has the columns).
struct Row {
    received: u64,
    drops: u64,
}

/// Returns the row of the socket bound to `port` at 127.0.0.1.
fn row(port: u16) -> Row {
    let address = format!("{:08X}:{port:04X}", u32::from_ne_bytes([127, 0, 0, 1]));
    let mut found = None;
    // While other processes open and close sockets, a reader of the table can miss a row.
    let seen = eventually(PATIENCE, || {
        let table = fs::read_to_string("/proc/net/udp").expect("procfs");
        let mut rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        found = rows.find(|columns| columns[1] == address).map(|row| {
            let (_, queued) = row[4].split_once(':').expect("tx_queue:rx_queue");
            Row { received: u64::from_str_radix(queued, 16).unwrap(), drops: row[12].parse().unwrap() }
        });
        found.is_some()
    });
    assert!(seen, "no socket has port {port}");
    found.unwrap()
}

/// Returns the number of packets that this machine has dropped before they reached a socket.
fn dropped_on_the_way() -> u64 {
    let table = fs::read_to_string("/proc/net/softnet_stat").expect("procfs");
    let dropped = table.lines().map(|line| line.split_whitespace().nth(1).expect("dropped"));
    dropped.map(|count| u64::from_str_radix(count, 16).unwrap()).sum()
}

#[test]
fn an_empty_datagram_is_answered_with_an_empty_datagram() {
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    exchange(&peer, b"");
    // Several at once: an empty datagram ends no batch.
    for payload in [&b"a"[..], b"", b"", b"b", b""] {
        peer.send(payload).unwrap();
    }
    let answers: Vec<_> = (0..5).map(|_| receive(&peer)).collect();
    assert_eq!(answers, [&b"a"[..], b"", b"", b"b", b""]);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("datagrams_in"), exit.count("datagrams_out")), (6, 6));
}

#[test]
fn the_longest_datagram_comes_back_whole() {
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    for len in [LONGEST, 1, LONGEST - 1, 1472, 1473, 4096, LONGEST] {
        exchange(&peer, &pattern(len));
    }
    // Three in one batch.
    let longest: Vec<_> = (0..3).map(|n| pattern(LONGEST + n)[n..].to_vec()).collect();
    server.freeze();
    for payload in &longest {
        peer.send(payload).unwrap();
    }
    server.thaw();
    for payload in &longest {
        assert!(receive(&peer) == *payload, "a datagram of the batch differs");
    }
    server.stop().assert_clean();
}

#[test]
fn datagrams_are_neither_merged_nor_split() {
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    // Small enough for all to fit into the peer's receive buffer at once, with sizes in no order.
    let sizes: Vec<usize> = (0..200).map(|n| n * 37 % 200).collect();
    let bytes = pattern(400);
    for (n, &size) in sizes.iter().enumerate() {
        peer.send(&bytes[n..n + size]).unwrap();
    }
    for (n, &size) in sizes.iter().enumerate() {
        let answer = receive(&peer);
        assert_eq!(answer.len(), size, "datagram {n}");
        assert!(answer == bytes[n..n + size], "datagram {n} differs");
    }
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!((exit.count("datagrams_in"), exit.count("datagrams_out")), (200, 200));
}

#[test]
fn a_vanished_client_does_not_cost_the_next_client_its_answer() {
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    for round in 0..50 {
        // The client sends and leaves while the server is suspended: the answer meets a closed port.
        server.freeze();
        let gone = server.connect_udp("echo-udp");
        gone.send(b"is anybody there?").unwrap();
        drop(gone);
        peer.send(&[round]).unwrap();
        server.thaw();
        assert_eq!(receive(&peer), [round]);
    }
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("datagrams_in"), 100);
    assert_eq!(exit.count("datagrams_out") + exit.count("datagrams_dropped"), 100);
}

/// Asserts that a connected and an unconnected client that send to `asked` are answered from there.
fn assert_answers_from(server: &Server, asked: IpAddr, local: &str) {
    let asked = SocketAddr::new(asked, server.addr("echo-udp").port());
    let connected = socket(local);
    connected.connect(asked).unwrap();
    exchange(&connected, b"connected");
    let unconnected = socket(local);
    unconnected.send_to(b"unconnected", asked).unwrap();
    let mut buffer = [0; 64];
    let (n, from) = unconnected.recv_from(&mut buffer).expect("an answer");
    assert_eq!((&buffer[..n], from), (&b"unconnected"[..], asked));
}

const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
#[cfg_attr(any(portable, not(target_os = "linux")), ignore = "needs the local address of a datagram (IP_PKTINFO)")]
fn the_answer_comes_from_the_address_of_the_request() {
    let server = Server::start(&["echo-udp=0.0.0.0:0"]);
    for asked in [SECOND, FIRST, IpAddr::from([127, 1, 2, 3])] {
        assert_answers_from(&server, asked, "127.0.0.1:0");
    }
    // One batch with several addresses: each datagram keeps its own.
    let port = server.addr("echo-udp").port();
    let peers: Vec<_> = (1..=20u8)
        .map(|n| {
            let peer = socket("127.0.0.1:0");
            peer.connect((Ipv4Addr::new(127, 0, 0, 1 + n % 3), port)).unwrap();
            peer
        })
        .collect();
    server.freeze();
    for (n, peer) in (0..).zip(&peers) {
        peer.send(&[n]).unwrap();
    }
    server.thaw();
    for (n, peer) in (0..).zip(&peers) {
        assert_eq!(receive(peer), [n]);
    }
    server.stop().assert_clean();
}

#[test]
fn an_ipv6_address_serves_ipv6() {
    let server = Server::start(&["echo-udp=[::1]:0"]);
    assert_eq!(server.addr("echo-udp").ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    assert_answers_from(&server, Ipv6Addr::LOCALHOST.into(), "[::1]:0");
    let peer = server.connect_udp("echo-udp");
    exchange(&peer, b"");
    exchange(&peer, &pattern(LONGEST));
    server.stop().assert_clean();
}

#[test]
#[cfg_attr(any(portable, not(target_os = "linux")), ignore = "needs the local address of a datagram (IP_PKTINFO)")]
fn the_unspecified_address_serves_both_families() {
    let server = Server::start(&["echo-udp=:0"]);
    assert_eq!(server.addr("echo-udp").ip(), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    assert_answers_from(&server, SECOND, "127.0.0.1:0");
    assert_answers_from(&server, FIRST, "127.0.0.1:0");
    assert_answers_from(&server, Ipv6Addr::LOCALHOST.into(), "[::1]:0");
    // Both families in one batch.
    let port = server.addr("echo-udp").port();
    let (four, six) = (socket("127.0.0.1:0"), socket("[::1]:0"));
    four.connect((SECOND, port)).unwrap();
    six.connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    server.freeze();
    for n in 0..10 {
        four.send(&[4, n]).unwrap();
        six.send(&[6, n]).unwrap();
    }
    server.thaw();
    for n in 0..10 {
        assert_eq!((receive(&four), receive(&six)), (vec![4, n], vec![6, n]));
    }
    server.stop().assert_clean();
}

#[test]
fn more_than_one_batch_is_answered_to_the_last_datagram() {
    let server = Server::start(&["echo-udp=0"]);
    let peer = server.connect_udp("echo-udp");
    // A lost edge shows at exact multiples of the batch size.
    for count in [64u16, 65, 128, 130, 200] {
        server.freeze();
        for n in 0..count {
            peer.send(&n.to_be_bytes()).unwrap();
        }
        server.thaw();
        for n in 0..count {
            assert_eq!(receive(&peer), n.to_be_bytes(), "of {count}");
        }
    }
    server.stop().assert_clean();
}

/// Reads the answers that have arrived. Returns their number.
fn drain(peer: &UdpSocket) -> u64 {
    peer.set_nonblocking(true).unwrap();
    let mut answers = 0;
    let error = loop {
        match peer.recv(&mut [0; 64]) {
            Ok(n) => assert_eq!(n, 8),
            Err(error) => break error,
        }
        answers += 1;
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    peer.set_nonblocking(false).unwrap();
    answers
}

/// Every datagram was answered and received, or is in one of the counters.
#[test]
fn a_flood_is_accounted_for_to_the_last_datagram() {
    let server = Server::start(&["echo-udp=0"]);
    let port = server.addr("echo-udp").port();
    let before = dropped_on_the_way();
    let peers: Vec<_> = (0..4).map(|_| server.connect_udp("echo-udp")).collect();
    // Small receive buffers lose answers. A server suspended for the first part loses questions.
    for peer in &peers {
        socket2::SockRef::from(peer).set_recv_buffer_size(16 * 1024).unwrap();
    }
    let flood = |rounds: u64| {
        let floods: Vec<_> = peers
            .iter()
            .map(|peer| {
                let peer = peer.try_clone().unwrap();
                thread::spawn(move || (0..rounds).filter(|n| peer.send(&n.to_be_bytes()).is_ok()).count() as u64)
            })
            .collect();
        floods.into_iter().map(|flood| flood.join().unwrap()).sum::<u64>()
    };
    server.freeze();
    let mut sent = flood(1_000);
    server.thaw();
    sent += flood(5_000);
    // The socket is empty and the server waits, so it has answered the last question.
    let served = || row(port).received == 0 && process::state(server.pid()) == 'S';
    assert!(eventually(PATIENCE, served), "the server does not empty its socket");
    let mut received: u64 = peers.iter().map(drain).sum();
    // These are asked and answered last: no other datagram is under way.
    for peer in &peers {
        peer.send(b"that is all").unwrap();
        sent += 1;
        while receive(peer) != b"that is all" {
            received += 1;
        }
        received += 1;
    }
    let lost_questions = row(port).drops;
    let lost_answers: u64 = peers.iter().map(|peer| row(peer.local_addr().unwrap().port()).drops).sum();
    let exit = server.stop();
    exit.assert_clean();

    let lost_on_the_way = dropped_on_the_way() - before;
    let [questions, answers, dropped] =
        ["datagrams_in", "datagrams_out", "datagrams_dropped"].map(|name| exit.count(name));
    assert!(lost_questions > 0 && lost_answers > 0, "this was no flood: {lost_questions}, {lost_answers}");
    assert_eq!(questions, answers + dropped, "questions = answers + dropped");
    let missing = sent - questions - lost_questions;
    let unseen = answers - received - lost_answers;
    assert!(
        missing + unseen <= lost_on_the_way,
        "of {sent} questions {questions} arrived and {lost_questions} were lost; of {answers} answers {received} \
         arrived and {lost_answers} were lost; the machine lost {lost_on_the_way} packets"
    );
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(portable, ignore = "answers leave from the bound address")]
fn datagrams_to_addresses_that_are_no_source_are_answered() {
    for (wildcard, family) in [("0.0.0.0:0", "IPv4"), ("[::]:0", "both families")] {
        let server = Server::start(&[&format!("echo-udp={wildcard}")]);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_broadcast(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        // The broadcast address of the loopback network, which only Linux has everywhere; no address; a group that every
        // host is in, whose datagrams the kernel does not give to sockets of both families.
        let odd = [[127, 255, 255, 255], [0, 0, 0, 0], [224, 0, 0, 1]];
        let odd = &odd[..if family == "IPv4" { 3 } else { 2 }];
        // An address of the server is the source of its answer, before and after the odd ones.
        for ip in [[127, 0, 0, 2]].into_iter().chain(odd.iter().copied()).chain([[127, 0, 0, 3]]) {
            let ip = Ipv4Addr::from(ip);
            let addr = SocketAddr::from((ip, server.addr("echo-udp").port()));
            if ip.is_multicast() {
                socket2::SockRef::from(&peer).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
            }
            peer.send_to(b"anybody?", addr).unwrap();
            let mut answer = [0; 16];
            let (n, sender) = peer.recv_from(&mut answer).unwrap_or_else(|error| panic!("{family}, {ip}: {error}"));
            let source = if ip.octets()[0] == 127 && ip.octets()[3] < 255 { ip } else { Ipv4Addr::LOCALHOST };
            assert_eq!((&answer[..n], sender.ip()), (&b"anybody?"[..], source.into()), "{family}, {ip}");
        }
        server.stop().assert_clean();
    }
}
