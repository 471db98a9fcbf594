//! The system calls on a stream or a listener.
//!
//! Owns: [`Stream`], [`StreamSocket`], [`ListenSocket`] and the calls on them, accept(2), and the sorting of its errors into those of a connection and those
//! of the listener. Must not know: connections, services.
//!
//! The calls that make sockets are in [`open`](super::open), the calls on datagram sockets in [`batch`](super::batch).

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::net::{TcpListener, UnixListener};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockAddr, SockRef};

use super::outcome::{Accepted, Fault, Observer, Outcome, after_error, retry};
use super::unix::SocketFile;
use crate::addr::{Addr, Credentials, UnixAddr};
use crate::id::SourceId;
use crate::service::{CloseReason, Errno};

/// A socket that carries bytes in both directions. In tests, a script implements the trait.
pub trait Stream {
    /// Calls recv(2). Returns the number of bytes read; 0 at the end of file.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// Calls send(2), without SIGPIPE. Returns the number of bytes that the kernel took.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
    /// Sends FIN (shutdown(2), `SHUT_WR`).
    fn shutdown_write(&self) -> Result<(), Errno>;
    /// Returns the pending error of the socket and clears it (`SO_ERROR`, socket(7)).
    fn take_error(&self) -> Option<Errno>;
}

/// The flags of each send: a closed connection is the error EPIPE and not the signal SIGPIPE.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::empty();

/// A nonblocking stream socket over TCP or a Unix socket. The calls of a connection are the same for both, so the hot
/// path has no branch for the kind.
#[derive(Debug)]
pub struct StreamSocket(OwnedFd);

impl StreamSocket {
    /// Returns the stream on `socket`, which must be nonblocking.
    pub fn new(socket: impl Into<OwnedFd>) -> Self {
        Self(socket.into())
    }

    /// Returns the local address (getsockname(2)).
    pub fn local_addr(&self) -> io::Result<Addr> {
        to_addr(&SockRef::from(self).local_addr()?)
    }

    /// Returns the address of the peer (getpeername(2)).
    pub fn peer_addr(&self) -> io::Result<Addr> {
        to_addr(&SockRef::from(self).peer_addr()?)
    }

    /// Returns the credentials of the peer of a Unix socket (`SO_PEERCRED`).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        let found = nix::sys::socket::getsockopt(self, nix::sys::socket::sockopt::PeerCredentials).ok()?;
        Some(Credentials {
            pid: u32::try_from(found.pid()).ok().filter(|&pid| pid != 0),
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    /// Returns `None`: this system has no `SO_PEERCRED`.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        None
    }
}

impl AsFd for StreamSocket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl event::Source for StreamSocket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// Returns an address of the kernel as ours.
fn to_addr(addr: &SockAddr) -> io::Result<Addr> {
    if let Some(addr) = addr.as_socket() {
        return Ok(addr.into());
    }
    if !addr.is_unix() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is neither of TCP nor a Unix socket"));
    }
    let path = addr.as_pathname().map(UnixAddr::new);
    let name = || addr.as_abstract_namespace().map(UnixAddr::new_abstract);
    Ok(path.or_else(name).unwrap_or_else(UnixAddr::unnamed).into())
}

impl Stream for StreamSocket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match rustix::net::recv(&*self, buffer, RecvFlags::empty()) {
            Ok((n, _)) => Ok(n),
            Err(error) => Err(Errno(error.raw_os_error())),
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match rustix::net::send(&*self, bytes, SEND) {
            Ok(n) => Ok(n),
            Err(error) => Err(Errno(error.raw_os_error())),
        }
    }

    fn shutdown_write(&self) -> Result<(), Errno> {
        SockRef::from(self).shutdown(Shutdown::Write).map_err(Errno::from)
    }

    fn take_error(&self) -> Option<Errno> {
        match SockRef::from(self).take_error() {
            Ok(error) => error.map(Errno::from),
            Err(error) => Some(Errno::from(error)),
        }
    }
}

/// A nonblocking listening socket.
#[derive(Debug)]
pub enum ListenSocket {
    /// A listener of TCP.
    Tcp(TcpListener),
    /// A listening Unix socket. The file comes first: it is removed before the socket is closed, so no peer dials a socket
    /// that is closed.
    Unix {
        /// The file, if the reactor has made it.
        file: Option<SocketFile>,
        /// The socket.
        socket: UnixListener,
    },
}

impl ListenSocket {
    /// Returns the listener on `socket`, which must be nonblocking, with the file that ends with it.
    pub fn unix(socket: std::os::unix::net::UnixListener, file: Option<SocketFile>) -> Self {
        ListenSocket::Unix { file, socket: UnixListener::from_std(socket) }
    }

    /// Removes the file of a Unix socket: no further peer can dial it.
    pub fn remove_file(&mut self) {
        if let ListenSocket::Unix { file, .. } = self {
            *file = None;
        }
    }

    /// Returns the local address (getsockname(2)).
    pub fn local_addr(&self) -> io::Result<Addr> {
        match self {
            ListenSocket::Tcp(socket) => socket.local_addr().map(Addr::from),
            ListenSocket::Unix { socket, .. } => socket.local_addr().map(Addr::from),
        }
    }

    fn accept(&self) -> io::Result<(StreamSocket, Addr)> {
        match self {
            ListenSocket::Tcp(socket) => socket.accept().map(|(stream, peer)| (StreamSocket::new(stream), peer.into())),
            ListenSocket::Unix { socket, .. } => {
                socket.accept().map(|(stream, peer)| (StreamSocket::new(stream), peer.into()))
            }
        }
    }

    fn source(&mut self) -> &mut dyn event::Source {
        match self {
            ListenSocket::Tcp(socket) => socket,
            ListenSocket::Unix { socket, .. } => socket,
        }
    }
}

impl From<std::net::TcpListener> for ListenSocket {
    /// Returns the listener on `socket`, which must be nonblocking.
    fn from(socket: std::net::TcpListener) -> Self {
        ListenSocket::Tcp(TcpListener::from_std(socket))
    }
}

impl event::Source for ListenSocket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// Reads from the stream once. The successful read is inlined into the turn of a connection; errors are out of line.
#[inline(always)]
pub fn read(stream: &mut impl Stream, buffer: &mut [u8], id: SourceId, observer: &mut impl Observer) -> Outcome {
    match stream.read(buffer) {
        Ok(n) => {
            observer.read(id, buffer.len(), n);
            Outcome::Done(n)
        }
        Err(errno) => {
            let outcome = after_error(errno, observer, || stream.read(buffer));
            match outcome {
                Outcome::Done(n) => observer.read(id, buffer.len(), n),
                _ => observer.read_failed(id, buffer.len(), outcome),
            }
            outcome
        }
    }
}

/// Writes to the stream once, inlined like [`read`].
#[inline(always)]
pub fn write(stream: &mut impl Stream, bytes: &[u8], id: SourceId, observer: &mut impl Observer) -> Outcome {
    match stream.write(bytes) {
        Ok(n) => {
            observer.write(id, bytes.len(), n);
            Outcome::Done(n)
        }
        Err(errno) => {
            let outcome = after_error(errno, observer, || stream.write(bytes));
            match outcome {
                Outcome::Done(n) => observer.write(id, bytes.len(), n),
                _ => observer.write_failed(id, bytes.len(), outcome),
            }
            outcome
        }
    }
}

/// Sends FIN. The call fails after the peer has reset the connection.
pub fn shutdown(stream: &impl Stream, id: SourceId, observer: &mut impl Observer) -> Outcome {
    let outcome = retry(observer, || stream.shutdown_write().map(|()| 0));
    observer.call(id, "shutdown(SHUT_WR)", outcome);
    outcome
}

/// Returns the error that an event has announced, and clears the error. Returns `None` if another call has returned the
/// error before.
pub fn take_error(stream: &impl Stream, id: SourceId, observer: &mut impl Observer) -> Option<Errno> {
    let error = stream.take_error();
    observer.call(id, "getsockopt(SO_ERROR)", error.map_or(Outcome::Done(0), Outcome::Failed));
    error
}

/// Returns the result of a dial whose socket has become writable: the local address of the connection.
pub fn connect_outcome(stream: &StreamSocket, id: SourceId, observer: &mut impl Observer) -> Result<Addr, CloseReason> {
    if let Some(errno) = take_error(stream, id, observer) {
        return Err(CloseReason::Unreachable(errno));
    }
    match (stream.peer_addr(), stream.local_addr()) {
        // TCP's simultaneous open lets a socket that dials its own ephemeral port succeed (RFC 9293, section 3.5).
        (Ok(Addr::Ip(peer)), Ok(Addr::Ip(local))) if peer == local => Err(CloseReason::SelfConnect),
        (Ok(_), Ok(local)) => Ok(local),
        (Err(error), _) | (_, Err(error)) => Err(CloseReason::Unreachable(Errno::from(error))),
    }
}

/// Returns true if a dialed socket is connected (getpeername(2)).
pub fn is_established(stream: &StreamSocket) -> bool {
    stream.peer_addr().is_ok()
}

/// Calls accept4(2), and sorts its errors as accept(2) recommends.
pub fn accept(listener: &ListenSocket, id: SourceId, observer: &mut impl Observer) -> Accepted {
    let accepted = loop {
        match listener.accept().map_err(|error| (error.raw_os_error(), Fault::from(Errno::from(error)))) {
            Ok((stream, peer)) => break Accepted::Connection(stream, peer),
            Err((_, Fault::Blocked)) => break Accepted::Blocked,
            Err((_, Fault::Interrupted)) => observer.interrupted(),
            // mio could not decode the address of the peer: the connection had ended by then.
            Err((None, Fault::Failed(errno))) => break Accepted::Died(errno),
            Err((Some(_), Fault::Failed(errno))) if died_in_backlog(errno) => {
                break Accepted::Died(errno);
            }
            Err((Some(_), Fault::Failed(errno))) => break Accepted::Exhausted(errno),
        }
    };
    observer.accept(id, &accepted);
    accepted
}

/// Makes the close of a socket send RST instead of FIN, and drop its unsent bytes (socket(7): `SO_LINGER` of zero).
/// Without effect on a Unix socket, which has no RST.
pub fn reset_on_close(stream: &StreamSocket, id: SourceId, observer: &mut impl Observer) {
    let outcome = match SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)) {
        Ok(()) => Outcome::Done(0),
        // The caller closes the socket next in any case.
        Err(error) => Outcome::Failed(Errno::from(error)),
    };
    observer.call(id, "setsockopt(SO_LINGER)", outcome);
}

/// Closes a connection above a limit. Sends FIN first and reads the input that has arrived: a close over unread bytes
/// would send RST.
pub fn refuse(mut stream: StreamSocket, scratch: &mut [u8]) {
    // The socket is closed next, even if these calls fail.
    let _ = stream.shutdown_write();
    let _ = Stream::read(&mut stream, scratch);
}

/// Returns true if an error of accept(2) is an error of the connection and not of the listener.
fn died_in_backlog(errno: Errno) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if errno.0 == libc::ENONET {
        return true;
    }
    matches!(
        errno.0,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
    )
}

#[cfg(test)]
pub(crate) mod script {
    //! A stream whose calls return the steps of a script, without a kernel.

    use std::collections::VecDeque;

    use super::*;

    /// The result of the next call on a [`Script`].
    #[derive(Debug)]
    pub enum Step {
        /// A read returns these bytes.
        Bytes(&'static [u8]),
        /// A write takes at most this number of bytes.
        Short(usize),
        /// The call would block.
        Blocked,
        /// A signal interrupts the call.
        Interrupted,
        /// A read returns the end of file.
        Eof,
        /// The peer has reset the connection.
        Reset,
    }

    /// A list of steps for reads, and a list of steps for writes. After the last step, a read would block, and a write
    /// takes all bytes.
    #[derive(Debug, Default)]
    pub struct Script {
        pub reads: VecDeque<Step>,
        pub writes: VecDeque<Step>,
        pub written: Vec<u8>,
        pub fin: std::cell::Cell<bool>,
        /// The pending error, which [`Stream::take_error`] returns.
        pub error: std::cell::Cell<Option<Errno>>,
    }

    impl Script {
        pub fn reads(steps: impl IntoIterator<Item = Step>) -> Self {
            Self { reads: steps.into_iter().collect(), ..Self::default() }
        }

        pub fn writes(steps: impl IntoIterator<Item = Step>) -> Self {
            Self { writes: steps.into_iter().collect(), ..Self::default() }
        }
    }

    impl Stream for Script {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
            match self.reads.pop_front() {
                Some(Step::Bytes(bytes)) => {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                Some(Step::Eof) => Ok(0),
                Some(Step::Interrupted) => Err(Errno(libc::EINTR)),
                Some(Step::Reset) => Err(Errno(libc::ECONNRESET)),
                Some(Step::Short(_)) => unreachable!("a step of writes"),
                Some(Step::Blocked) | None => Err(Errno(libc::EAGAIN)),
            }
        }

        fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
            let n = match self.writes.pop_front() {
                Some(Step::Short(n)) => n.min(bytes.len()),
                Some(Step::Interrupted) => return Err(Errno(libc::EINTR)),
                Some(Step::Reset) => return Err(Errno(libc::EPIPE)),
                Some(Step::Blocked) => return Err(Errno(libc::EAGAIN)),
                Some(Step::Bytes(_) | Step::Eof) => unreachable!("a step of reads"),
                None => bytes.len(),
            };
            self.written.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn shutdown_write(&self) -> Result<(), Errno> {
            if self.error.get().is_some() {
                return Err(Errno(libc::ENOTCONN));
            }
            self.fin.set(true);
            Ok(())
        }

        fn take_error(&self) -> Option<Errno> {
            self.error.take()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::script::{Script, Step};
    use super::*;
    use crate::reactor::observe::recorder::Recorder;
    use crate::reactor::sys::outcome::close_reason;

    const ID: SourceId = SourceId::new(0, NonZeroU32::MIN);

    #[test]
    fn an_interrupted_call_is_repeated_and_eagain_is_a_value() {
        let mut recorder = Recorder::default();
        let mut script =
            Script::reads([Step::Interrupted, Step::Interrupted, Step::Bytes(b"hi"), Step::Blocked, Step::Reset]);
        let mut buffer = [0; 8];
        assert_eq!(read(&mut script, &mut buffer, ID, &mut recorder), Outcome::Done(2));
        assert_eq!(recorder.ledger.interrupted, 2);
        assert_eq!(recorder.ledger.short_reads, 1);
        assert_eq!(read(&mut script, &mut buffer, ID, &mut recorder), Outcome::Blocked);
        assert_eq!(read(&mut script, &mut buffer, ID, &mut recorder), Outcome::Failed(Errno(libc::ECONNRESET)));
        assert_eq!(close_reason(Errno(libc::ECONNRESET)), CloseReason::Reset);
    }

    #[test]
    fn errors_of_accept_belong_to_the_connection_or_to_the_listener() {
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::ENETDOWN] {
            assert!(died_in_backlog(Errno(errno)));
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
            assert!(!died_in_backlog(Errno(errno)));
        }
    }
}
