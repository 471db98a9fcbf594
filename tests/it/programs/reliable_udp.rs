//! `reliable_udp`: over a relay that loses, repeats and reorders datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use crate::harness::{PATIENCE, Server, example};
use rustix::process::Signal;

/// A relay between one client and the server that spoils what it passes on. The random numbers are the same in each run.
struct Spoiler {
    socket: UdpSocket,
    client: Option<SocketAddr>,
    server: SocketAddr,
    random: u64,
    /// A datagram that a later one overtakes.
    held: Option<(Vec<u8>, SocketAddr)>,
    lost: u64,
}

impl Spoiler {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, client: None, server, random: 0x2545_F491_4F6C_DD1D, held: None, lost: 0 }
    }

    /// Returns a number below 100 (Marsaglia's xorshift).
    fn percent(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100
    }

    /// Passes datagrams on until an empty one arrives. Returns the number of lost datagrams.
    fn run(mut self) -> u64 {
        let mut buffer = [0; 2048];
        loop {
            let (n, sender) = self.socket.recv_from(&mut buffer).expect("a datagram");
            if n == 0 {
                return self.lost;
            }
            let to = if sender == self.server { self.client } else { Some(self.server) };
            if sender != self.server {
                self.client = Some(sender);
            }
            let Some(to) = to else { continue };
            let datagram = &buffer[..n];
            match self.percent() {
                0..20 => self.lost += 1,
                20..30 => {
                    let overtaken = self.held.replace((datagram.to_vec(), to));
                    overtaken.into_iter().for_each(|(datagram, to)| self.pass(&datagram, to));
                }
                30..40 => {
                    self.pass(datagram, to);
                    self.pass(datagram, to);
                }
                _ => {
                    self.pass(datagram, to);
                    self.held.take().into_iter().for_each(|(datagram, to)| self.pass(&datagram, to));
                }
            }
        }
    }

    fn pass(&self, datagram: &[u8], to: SocketAddr) {
        // ECONNREFUSED of an earlier datagram: the client has ended.
        let _ = self.socket.send_to(datagram, to);
    }
}

fn serve() -> Server {
    Server::example_with("reliable_udp", &["serve", "127.0.0.1:0"], 1)
}

#[test]
fn reliable_udp_delivers_each_datagram_once_over_a_lossy_link() {
    let server = serve();
    let spoiler = Spoiler::new(server.addr("reliable_udp"));
    let addr = spoiler.socket.local_addr().unwrap();
    let relay = thread::spawn(|| spoiler.run());
    let ping = example("reliable_udp", &["ping", &addr.to_string(), "100"]).output().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", addr).unwrap();
    assert!(relay.join().unwrap() > 10, "the relay loses too little");
    let report = String::from_utf8(ping.stdout).unwrap();
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stderr));
    let mut numbers: Vec<u64> = Vec::new();
    let mut retransmissions = 0;
    for line in report.lines() {
        let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).expect("a field");
        numbers.push(field("number=").parse().unwrap());
        retransmissions += field("transmissions=").parse::<u64>().unwrap() - 1;
        assert!(!field("rtt=").is_empty());
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..100), "{report}");
    assert!(retransmissions > 10, "{report}");
    server.signal(Signal::TERM);
    let exit = server.wait();
    exit.assert_clean();
    let counts = exit.stderr.split(' ').filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>();
    assert_eq!(counts[0], 100, "{}", exit.stderr);
    assert!(counts[1] > 0, "{}", exit.stderr);
}

#[test]
fn reliable_udp_ignores_other_datagrams() {
    let server = serve();
    let peer = server.connect_udp("reliable_udp");
    let mut datagram = b"D".to_vec();
    datagram.extend([[0; 8], [0; 8], [7; 8]].concat());
    let far = [&b"D"[..], &[0; 8], &[0xff; 8], &[7; 8]].concat();
    let long = [&datagram[..], b"!"].concat();
    for ignored in [&b""[..], b"D", &datagram[..24], &long, &b"A".repeat(25), &far] {
        peer.send(ignored).unwrap();
    }
    peer.send(&datagram).unwrap();
    let mut answer = [0; 64];
    assert_eq!(peer.recv(&mut answer).unwrap(), 25);
    assert_eq!(answer[..25], [b"A", &datagram[1..]].concat());
    server.signal(Signal::TERM);
    let exit = server.wait();
    assert!(exit.stderr.starts_with("1 delivered in order, 0 duplicates"), "{}", exit.stderr);
}

#[test]
fn reliable_udp_gives_up_on_a_silent_peer() {
    // The peer exists, so the kernel reports no error.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ping = example("reliable_udp", &["ping", &silent.local_addr().unwrap().to_string(), "1"]).output().unwrap();
    assert_eq!(ping.status.code(), Some(1));
    let error = String::from_utf8(ping.stderr).unwrap();
    assert!(error.starts_with("error: no acknowledgement of number 0 after "), "{error}");
}
