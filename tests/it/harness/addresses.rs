//! Addresses that refuse, that never answer, or that only the test can bind.
//!
//! A port that a test has bound and given back is not free: any other test, or any outgoing connection of the machine,
//! may have it the next moment. Every address here stays reserved until the test drops it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Returns an address of the loopback network (RFC 1122, section 3.2.1.3) that no other test uses, in this process or in
/// another one.
pub fn own_ip() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < 1 << 7, "too many addresses of one process");
    // 127.64.0.0 to 127.127.255.255. Outgoing connections have 127.0.0.1.
    let [_, high, middle, low] = (((std::process::id() & 0x7FFF) << 7) | count).to_be_bytes();
    Ipv4Addr::new(127, 64 + high, middle, low)
}

/// An address of an [`own_ip`] at which nothing is bound, over TCP or UDP: the kernel refuses whatever arrives there.
///
/// Two sockets reserve the port at 127.0.0.1. They keep away sockets bound to every address, and keep the kernel from
/// choosing the port for an outgoing connection. The test can bind the address, give it back, and bind it again.
#[derive(Debug)]
pub struct Vacant {
    pub addr: SocketAddr,
    _stream: Socket,
    _datagram: UdpSocket,
}

impl Vacant {
    pub fn new() -> Self {
        for _ in 0..100 {
            let stream = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            stream.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
            let port = stream.local_addr().expect("an address").as_socket().expect("of IPv4").port();
            // A datagram socket of another test may have the number.
            if let Ok(datagram) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
                return Self { addr: (own_ip(), port).into(), _stream: stream, _datagram: datagram };
            }
        }
        panic!("every port of TCP is in use over UDP");
    }

    /// Returns the address at which a dial has to start so that the kernel could connect the socket to itself.
    pub fn any_port(&self) -> SocketAddr {
        (self.addr.ip(), 0).into()
    }
}

/// A listener whose backlog is full: the kernel neither accepts nor refuses a dial. The streams keep the backlog full.
#[derive(Debug)]
pub struct BlackHole {
    pub addr: SocketAddr,
    listener: TcpListener,
    fill: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fill = Vec::new();
        // The kernel may complete one connection more than `listen` asks for.
        let full = loop {
            match TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
                Ok(stream) => fill.push(stream),
                Err(error) => break error,
            }
            assert!(fill.len() < 100, "the backlog has no end");
        };
        assert_eq!(full.kind(), ErrorKind::TimedOut);
        Self { addr, listener: listener.into(), fill }
    }

    /// Empties the backlog, and returns the stream of the next dial that the kernel answers: it repeats the SYN of a dial
    /// that it has not answered (RFC 9293, section 3.8.1).
    pub fn answer(self) -> TcpStream {
        for _ in &self.fill {
            self.listener.accept().expect("a stream that fills the backlog");
        }
        self.listener.accept().expect("a dial").0
    }
}
