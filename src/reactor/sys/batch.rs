//! The system calls on datagram sockets, many datagrams per call: recvmmsg(2) and sendmmsg(2).
//!
//! Owns: [`Batch`], the receive memory that all datagram sockets of a reactor share, and [`MessageHeaders`], the
//! headers of the calls for one socket. Must not know: services, queues.
//!
//! Invariants:
//! 1. A slot of the batch holds the longest datagram that IP can carry, so the kernel truncates none.
//! 2. The source address of an answer is the destination address of the request (`IP_PKTINFO`, `IPV6_PKTINFO`; ip(7),
//!    ipv6(7)). On a socket bound to every interface, the kernel would otherwise choose the address that the route
//!    prefers. A connected peer drops answers from any address except the destination of its requests. The kernel chooses
//!    only where that destination cannot be a source, such as a broadcast address.
//! 3. A batch with fewer than [`DATAGRAMS`] datagrams means that the socket is empty. recvmmsg stops at EAGAIN or at an
//!    error. The kernel keeps the error for the next call, and an event announces the error.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt,
    sockopt,
};

use super::outcome::{Observer, Outcome, retry};
use crate::id::SourceId;
use crate::limits::{DATAGRAM, DATAGRAMS};
use crate::service::Errno;

/// The distance of two slots, in bytes: one cache line more than a datagram.
///
/// A small datagram uses only the start of its slot. At a distance of a power of two, the starts of all slots would
/// share one set of the processor's cache.
const STRIDE: usize = DATAGRAM + 64;

/// The local address of a datagram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Local {
    /// The address that the socket is bound to.
    Bound,
    /// An address of an IPv4 socket bound to every interface.
    V4(libc::in_pktinfo),
    /// An address of an IPv6 socket bound to every interface. Its IPv4 peers have mapped addresses.
    V6(libc::in6_pktinfo),
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug)]
struct Received {
    len: usize,
    /// `None` for an address that is neither IPv4 nor IPv6.
    sender: Option<SocketAddr>,
    local: Local,
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The destination; `None` for the peer of a connected socket.
    pub to: Option<SocketAddr>,
    /// The source address.
    pub local: Local,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Received datagrams.
#[derive(Debug, Default)]
pub struct Batch {
    area: Vec<u8>,
    received: Vec<Received>,
}

/// The headers of the calls for one socket.
///
/// Sockets must not share headers. The kernel shortens the lengths in a header to those that the first call needs, and
/// only the datagrams of one socket need equal lengths.
#[derive(Debug)]
pub struct MessageHeaders {
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    /// Headers with space for a source address, if the socket is bound to every interface.
    addressed: Option<MultiHeaders<SockaddrStorage>>,
}

impl MessageHeaders {
    /// Returns the headers for `socket`. If the socket is bound to every interface, the kernel then reports the local
    /// address of each datagram.
    ///
    /// # Errors
    /// Those of getsockname(2) and setsockopt(2).
    pub fn new(socket: &UdpSocket) -> std::io::Result<Self> {
        let local = socket.local_addr()?;
        let space = match local.ip() {
            ip if !ip.is_unspecified() => None,
            IpAddr::V4(_) => {
                setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
                Some(nix::cmsg_space!(libc::in_pktinfo))
            }
            IpAddr::V6(_) => {
                setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                Some(nix::cmsg_space!(libc::in6_pktinfo))
            }
        };
        Ok(Self {
            addressed: space.clone().map(|space| MultiHeaders::preallocate(DATAGRAMS, Some(space))),
            incoming: MultiHeaders::preallocate(DATAGRAMS, space),
            outgoing: MultiHeaders::preallocate(DATAGRAMS, None),
        })
    }
}

impl Batch {
    /// Receives up to [`DATAGRAMS`] datagrams. The outcome is their number.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        headers: &mut MessageHeaders,
        id: SourceId,
        observer: &mut impl Observer,
    ) -> Outcome {
        // A zeroed page uses no memory until a datagram is written to it.
        self.area.resize(DATAGRAMS * STRIDE, 0);
        let Self { area, received } = self;
        let outcome = retry(observer, || {
            received.clear();
            let mut slots = area.chunks_exact_mut(STRIDE);
            let mut buffers: [[IoSliceMut<'_>; 1]; DATAGRAMS] =
                array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
            let messages =
                recvmmsg(socket.as_raw_fd(), &mut headers.incoming, &mut buffers, MsgFlags::MSG_DONTWAIT, None)
                    .map_err(number)?;
            received.extend(messages.map(|message| Received {
                len: message.bytes,
                sender: message.address.as_ref().and_then(to_std),
                local: local_of(&message),
            }));
            Ok(received.len())
        });
        observer.received(id, DATAGRAMS, outcome);
        outcome
    }

    /// Returns the number of received datagrams.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns the bytes of the datagram number `n`.
    pub fn payload(&self, n: usize) -> &[u8] {
        &self.area[n * STRIDE..][..self.received[n].len]
    }

    /// Returns the sender of the datagram number `n`; `None` for an address that is neither IPv4 nor IPv6.
    pub fn sender(&self, n: usize) -> Option<SocketAddr> {
        self.received[n].sender
    }

    /// Returns an answer to the datagram number `n`.
    pub fn answer<'a>(&self, n: usize, payload: &'a [u8]) -> Transmit<'a> {
        let Received { sender, local, .. } = self.received[n];
        Transmit { to: sender, local, payload }
    }
}

/// Returns the address as a type of std, which has a fifth of the size of an address of any family.
fn to_std(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| SocketAddr::from(SocketAddrV4::from(*addr)));
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddr::from(SocketAddrV6::from(*addr))))
}

/// Returns the errno value of an error of nix.
fn number(error: nix::errno::Errno) -> Errno {
    Errno(error as i32)
}

/// Returns the local address for an answer to `message`.
fn local_of<S>(message: &nix::sys::socket::RecvMsg<'_, '_, S>) -> Local {
    let Ok(mut messages) = message.cmsgs() else {
        return Local::Bound;
    };
    match messages.next() {
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            // `ipi_spec_dst` is the destination of the datagram, or our unicast address on the network of a broadcast
            // (ip(7)). Index 0 leaves the choice of the interface to the routing table.
            info.ipi_ifindex = 0;
            Local::V4(info)
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(mut info)) => {
            let link_local = info.ipi6_addr.s6_addr[0] == 0xfe && info.ipi6_addr.s6_addr[1] & 0xc0 == 0x80;
            if !link_local {
                info.ipi6_ifindex = 0;
            }
            if info.ipi6_addr.s6_addr[0] == 0xff {
                // A multicast address cannot be a source address (RFC 4291, section 2.7): the kernel chooses ours.
                info.ipi6_addr.s6_addr = [0; 16];
            }
            Local::V6(info)
        }
        _ => Local::Bound,
    }
}

/// Sends the first datagrams of `transmits` that have the same local address, at most [`DATAGRAMS`], in one call.
///
/// The outcome is the number of datagrams that the kernel took. The kernel stops at the first datagram that fails.
pub fn send(
    socket: &UdpSocket,
    headers: &mut MessageHeaders,
    transmits: &[Transmit<'_>],
    id: SourceId,
    observer: &mut impl Observer,
) -> Outcome {
    let Some(first) = transmits.first() else {
        return Outcome::Done(0);
    };
    let alike = transmits.iter().take(DATAGRAMS).take_while(|transmit| transmit.local == first.local).count();
    let outcome = send_from(first.local, socket, headers, &transmits[..alike], observer);
    if let Outcome::Failed(Errno(errno)) = outcome
        && first.local != Local::Bound
        && NO_SOURCE.contains(&errno)
    {
        let outcome = send_from(Local::Bound, socket, headers, &transmits[..1], observer);
        observer.sent(id, 1, outcome);
        return outcome;
    }
    observer.sent(id, alike, outcome);
    outcome
}

/// The errors of a send from an address that is no source: of a broadcast or a group, or no longer ours. Versions of the
/// kernel differ.
///
/// A socket of both families cannot recognize an IPv4 broadcast before it sends: ipv6(7) reports the mapped destination,
/// where ip(7) reports our address on that network.
const NO_SOURCE: [i32; 3] = [libc::EINVAL, libc::ENETUNREACH, libc::EADDRNOTAVAIL];

/// Sends `transmits`, at most [`DATAGRAMS`], from one local address, in one call.
fn send_from(
    local: Local,
    socket: &UdpSocket,
    headers: &mut MessageHeaders,
    transmits: &[Transmit<'_>],
    observer: &mut impl Observer,
) -> Outcome {
    let alike = transmits.len();
    // The arrays are filled in place: arrays of this size, made elsewhere, would be copied to the stack byte by byte.
    let mut payloads = [[IoSlice::new(&[])]; DATAGRAMS];
    let mut addrs: [Option<SockaddrStorage>; DATAGRAMS] = [None; DATAGRAMS];
    for ((transmit, payload), addr) in transmits.iter().zip(&mut payloads).zip(&mut addrs) {
        *payload = [IoSlice::new(transmit.payload)];
        *addr = transmit.to.map(SockaddrStorage::from);
    }
    let (headers, local) = match (&local, &mut headers.addressed) {
        (Local::V4(info), Some(headers)) => (headers, Some(ControlMessage::Ipv4PacketInfo(info))),
        (Local::V6(info), Some(headers)) => (headers, Some(ControlMessage::Ipv6PacketInfo(info))),
        _ => (&mut headers.outgoing, None),
    };
    retry(observer, || {
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(socket.as_raw_fd(), headers, &payloads[..alike], &addrs[..alike], local.as_slice(), flags)
            .map_err(number)?;
        Ok(sent.count())
    })
}
