//! Peers that do not answer: nobody at a dead port, and a backlog that is full.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port of the ephemeral range at which nobody listens.
pub fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener whose backlog is full: what dials it is neither accepted nor refused. The streams keep it full.
pub struct BlackHole {
    pub addr: SocketAddr,
    _listener: Socket,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fill = Vec::new();
        // The kernel may take one more than it was told to.
        let full = loop {
            match TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
                Ok(stream) => fill.push(stream),
                Err(error) => break error,
            }
            assert!(fill.len() < 100, "the backlog has no end");
        };
        assert_eq!(full.kind(), ErrorKind::TimedOut);
        Self { addr, _listener: listener, _fill: fill }
    }
}
