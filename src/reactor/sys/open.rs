//! The system calls that make sockets: socket, setsockopt, bind, listen, connect. Those of Unix sockets are in
//! [`unix`].
//!
//! Owns: the set-up of a listener, a datagram socket and a dialing socket. Must not know: their use.
//!
//! Every socket is made nonblocking and close-on-exec, as in Go's `sysSocket`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::stream::{ListenSocket, StreamSocket};
use super::unix;
use crate::addr::Addr;
use crate::limits::{KEEPALIVE, Policy};
use crate::service::ListenOptions;

/// Returns a socket of this type for the family of `addr`.
fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if addr.ip() == IpAddr::from([0u16; 8]) {
        // One socket for every interface and both families, like Go's ":PORT".
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Sets the options on `socket`.
pub(super) fn apply(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.recv_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(())
}

/// Sets keepalive, `TCP_NODELAY`, and the bounds of the unsent and the unacknowledged bytes in the kernel. The loop writes whole answers, so a
/// delay would not make a small write larger (Nagle's algorithm, RFC 896).
fn set_stream_options(socket: &Socket, policy: &Policy) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        if let Some(bytes) = policy.max_unsent {
            socket.set_tcp_notsent_lowat(bytes)?;
        }
        if let Some(time) = policy.max_unacknowledged {
            // Zero stands for the system's own time, and the kernel takes a positive `int` of milliseconds.
            let time = time.clamp(Duration::from_millis(1), Duration::from_millis(i32::MAX as u64));
            socket.set_tcp_user_timeout(Some(time))?;
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = policy;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// Returns a new listener.
///
/// # Errors
/// Those of socket(2), setsockopt(2), bind(2) and listen(2): EADDRINUSE, EADDRNOTAVAIL, EACCES among them.
pub fn listen(addr: &Addr, options: &ListenOptions, policy: &Policy) -> io::Result<ListenSocket> {
    match addr {
        Addr::Ip(addr) => listen_tcp(*addr, options, policy),
        Addr::Unix(addr) => unix::listen(addr, options),
    }
}

fn listen_tcp(addr: SocketAddr, options: &ListenOptions, policy: &Policy) -> io::Result<ListenSocket> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    // A restarted server must not wait for its old connections in TIME_WAIT (socket(7)).
    socket.set_reuse_address(true)?;
    apply(&socket, options)?;
    // Accepted sockets inherit these options on Linux, which saves a system call for each.
    set_stream_options(&socket, policy)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(backlog(options))?;
    Ok(std::net::TcpListener::from(socket).into())
}

/// Returns the backlog as listen(2) takes it.
pub(super) fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// Returns a listening socket that the program has made, of either kind. Makes the socket nonblocking, and sets the options
/// that [`listen`] sets for streams of TCP.
///
/// # Errors
/// Those of fcntl(2) and getsockopt(2). `InvalidInput` for a socket that does not listen for streams.
pub fn listen_on(fd: OwnedFd, policy: &Policy) -> io::Result<ListenSocket> {
    let socket = Socket::from(fd);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen for connections"));
    }
    socket.set_nonblocking(true)?;
    let is_unix = socket.local_addr()?.is_unix();
    if !is_unix {
        set_stream_options(&socket, policy)?;
    }
    let fd = OwnedFd::from(socket);
    // The file of a Unix socket belongs to its maker.
    Ok(if is_unix { ListenSocket::unix(UnixListener::from(fd), None) } else { std::net::TcpListener::from(fd).into() })
}

/// Returns the stream on a connected socket that the program has made, and the address of its peer. Makes the socket
/// nonblocking.
///
/// # Errors
/// Those of fcntl(2) and getpeername(2) (ENOTCONN).
pub fn adopt(fd: OwnedFd) -> io::Result<(StreamSocket, Addr)> {
    let socket = Socket::from(fd);
    socket.set_nonblocking(true)?;
    let stream = StreamSocket::new(socket);
    let peer_addr = stream.peer_addr()?;
    Ok((stream, peer_addr))
}

/// Sets the options that an accepted socket does not inherit from its listener on this system.
pub fn prepare_accepted(stream: &StreamSocket, peer_addr: &Addr) {
    if cfg!(not(any(target_os = "linux", target_os = "android"))) && !peer_addr.is_unix() {
        // A failure only delays answers. If the socket is broken, the next read reports the error.
        let _ = socket2::SockRef::from(stream).set_tcp_nodelay(true);
    }
}

/// Returns a bound datagram socket.
///
/// # Errors
/// Those of socket(2), setsockopt(2) and bind(2).
pub fn bind_datagram(addr: SocketAddr, options: &ListenOptions) -> io::Result<UdpSocket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    apply(&socket, options)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Returns a datagram socket without an address or a peer. The socket receives nothing. A socket of
/// [`connect_datagram`] replaces it.
///
/// # Errors
/// Those of socket(2) and setsockopt(2).
pub fn unbound_datagram(options: &ListenOptions) -> io::Result<UdpSocket> {
    let socket = socket(SocketAddr::from(([0, 0, 0, 0], 0)), Type::DGRAM, Protocol::UDP)?;
    apply(&socket, options)?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Returns a datagram socket whose only peer is `to`, from the local address `from` if given.
///
/// # Errors
/// Those of socket(2), setsockopt(2), bind(2) and connect(2).
pub fn connect_datagram(to: SocketAddr, from: Option<SocketAddr>, options: &ListenOptions) -> io::Result<UdpSocket> {
    let socket = socket(to, Type::DGRAM, Protocol::UDP)?;
    apply(&socket, options)?;
    if let Some(local) = from {
        socket.bind(&SockAddr::from(local))?;
    }
    socket.connect(&SockAddr::from(to))?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Starts to dial `addr`, from the local address `bind` if given. The socket becomes writable when the dial succeeds or
/// fails.
///
/// # Errors
/// Those of socket(2), setsockopt(2) and bind(2), and those of a connect(2) that fails at once.
pub fn dial(addr: &Addr, bind: Option<SocketAddr>, policy: &Policy) -> io::Result<StreamSocket> {
    match addr {
        Addr::Ip(addr) => dial_tcp(*addr, bind, policy),
        Addr::Unix(addr) => unix::dial(addr),
    }
}

fn dial_tcp(addr: SocketAddr, bind: Option<SocketAddr>, policy: &Policy) -> io::Result<StreamSocket> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    set_stream_options(&socket, policy)?;
    if let Some(local) = bind {
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(local))?;
    }
    match socket.connect(&SockAddr::from(addr)) {
        Ok(()) => {}
        // connect(2): the kernel goes on with the dial, also after a signal has interrupted the call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {}
        Err(error) => return Err(error),
    }
    Ok(StreamSocket::new(socket))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::*;
    use crate::limits::{KEEPALIVE, UNACKNOWLEDGED};

    #[test]
    fn accepted_and_dialed_sockets_bound_the_time_without_an_acknowledgement() {
        let second = Duration::from_secs(1);
        let cases = [
            (Policy::default(), Some(UNACKNOWLEDGED)),
            (Policy::relay(), Some(UNACKNOWLEDGED)),
            (Policy::default().with_max_unacknowledged(Some(second)), Some(second)),
            (
                Policy::default().with_max_unacknowledged(Some(Duration::MAX)),
                Some(Duration::from_millis(i32::MAX as u64)),
            ),
            (Policy::default().with_max_unacknowledged(Some(Duration::ZERO)), Some(Duration::from_millis(1))),
            (Policy::default().with_max_unacknowledged(None), None),
        ];
        for (policy, expected) in cases {
            let listener = Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
            // A listener that the program has made gets the options of one that the reactor makes.
            listen_on(listener.try_clone().unwrap().into(), &policy).unwrap();
            let addr = listener.local_addr().unwrap().as_socket().unwrap();
            let dialed = dial(&addr.into(), None, &policy).unwrap();
            let accepted = loop {
                match listener.accept() {
                    Ok((accepted, _)) => break accepted,
                    Err(_) => thread::yield_now(),
                }
            };
            assert_eq!(accepted.tcp_user_timeout().unwrap(), expected, "{policy:?}");
            assert_eq!(socket2::SockRef::from(&dialed).tcp_user_timeout().unwrap(), expected, "{policy:?}");
        }
        assert_eq!(UNACKNOWLEDGED, KEEPALIVE * 10);
    }

    #[test]
    fn sent_bytes_without_progress_end_a_connection() {
        let policy = Policy::default().with_max_unacknowledged(Some(Duration::from_millis(300)));
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dialed = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        set_stream_options(&dialed, &policy).unwrap();
        dialed.connect(&SockAddr::from(peer.local_addr().unwrap())).unwrap();
        // The peer reads nothing: its window closes.
        let mut error = None;
        while error.is_none() {
            error = dialed.send(&[0; 65_536]).err();
        }
        let mut dialed = std::net::TcpStream::from(dialed);
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::ETIMEDOUT));
        assert_eq!(dialed.read(&mut [0]).unwrap_or(0), 0);
    }
}
