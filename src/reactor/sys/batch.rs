//! The system calls on datagram sockets, many datagrams at a time: recvmmsg(2) and sendmmsg(2).
//!
//! Owns: [`Batch`], the memory that datagrams are received into, shared by all datagram sockets of a reactor, and
//! [`MessageHeaders`], what the calls need per socket. Must not know: services, queues.
//!
//! Invariants:
//! 1. A slot of the batch holds the longest datagram that there is: nothing is truncated.
//! 2. An answer leaves from the address that was asked (`IP_PKTINFO`, `IPV6_PKTINFO`; ip(7), ipv6(7)): a socket that is
//!    bound to every interface would otherwise answer from the one that the route prefers, and the asker, if it is a
//!    connected socket, would not take it.
//! 3. Fewer datagrams than were asked for mean that the socket is empty: recvmmsg stops at EAGAIN or at an error, which
//!    the kernel keeps for the next call and announces with an event.

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

/// The distance of two slots. A power of two would put the start of every slot, all that a small datagram uses, into
/// the same set of the processor's cache; one line more spreads them.
const STRIDE: usize = DATAGRAM + 64;

/// The local address that a datagram was sent to, on a socket that is bound to every interface.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Local {
    /// The one that the socket is bound to.
    Bound,
    /// Of an IPv4 socket.
    V4(libc::in_pktinfo),
    /// Of an IPv6 socket; IPv4 peers of it have mapped addresses.
    V6(libc::in6_pktinfo),
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug)]
struct Received {
    len: usize,
    /// `None` for an address that is not of the internet.
    sender: Option<SocketAddr>,
    local: Local,
}

/// One datagram that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// To whom; `None` for the peer of a connected socket.
    pub to: Option<SocketAddr>,
    /// From which of our addresses.
    pub local: Local,
    /// What.
    pub payload: &'a [u8],
}

/// Received datagrams.
#[derive(Debug, Default)]
pub struct Batch {
    area: Vec<u8>,
    received: Vec<Received>,
}

/// The headers of the calls, of one socket. They must not be shared: the kernel shortens the lengths in them to what
/// the first call needed, which is the same only for datagrams of one socket.
#[derive(Debug)]
pub struct MessageHeaders {
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    /// Headers with room for our own address, if the socket is bound to every interface.
    addressed: Option<MultiHeaders<SockaddrStorage>>,
}

impl MessageHeaders {
    /// The headers for `socket`, and the option that makes the kernel tell the local address if that is not fixed.
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
    /// Receives what is there, at most [`DATAGRAMS`].
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        headers: &mut MessageHeaders,
        id: SourceId,
        observer: &mut impl Observer,
    ) -> Outcome {
        // Zeroed pages that no datagram has reached cost no memory.
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

    /// How many datagrams have been received.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// The bytes of the datagram number `n`.
    pub fn payload(&self, n: usize) -> &[u8] {
        &self.area[n * STRIDE..][..self.received[n].len]
    }

    /// Who sent the datagram number `n`; `None` for an address that is not of the internet.
    pub fn sender(&self, n: usize) -> Option<SocketAddr> {
        self.received[n].sender
    }

    /// An answer to the datagram number `n`.
    pub fn answer<'a>(&self, n: usize, payload: &'a [u8]) -> Transmit<'a> {
        let Received { sender, local, .. } = self.received[n];
        Transmit { to: sender, local, payload }
    }
}

/// An address as std has it: a fifth of the size of one that could be of any family.
fn to_std(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| SocketAddr::from(SocketAddrV4::from(*addr)));
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddr::from(SocketAddrV6::from(*addr))))
}

/// The number of an error of nix.
fn number(error: nix::errno::Errno) -> Errno {
    Errno(error as i32)
}

fn local_of<S>(message: &nix::sys::socket::RecvMsg<'_, '_, S>) -> Local {
    let Ok(mut messages) = message.cmsgs() else {
        return Local::Bound;
    };
    match messages.next() {
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            // `ipi_spec_dst` is the address that was asked, or that of ours which fits a broadcast (ip(7)); which way is the
            // routing table's business.
            info.ipi_ifindex = 0;
            Local::V4(info)
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(mut info)) => {
            let link_local = info.ipi6_addr.s6_addr[0] == 0xfe && info.ipi6_addr.s6_addr[1] & 0xc0 == 0x80;
            if !link_local {
                info.ipi6_ifindex = 0;
            }
            if info.ipi6_addr.s6_addr[0] == 0xff {
                // Nobody answers from a multicast address; any of ours that fits will do.
                info.ipi6_addr.s6_addr = [0; 16];
            }
            Local::V6(info)
        }
        _ => Local::Bound,
    }
}

/// Sends the datagrams of `transmits` that leave from the same local address as the first, at most [`DATAGRAMS`], in one
/// call. The outcome counts those that the kernel took; it stops at the first that it did not take.
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
    let transmits = &transmits[..alike];
    // Filled in place: arrays of this size that are made elsewhere are moved here byte by byte.
    let mut payloads = [[IoSlice::new(&[])]; DATAGRAMS];
    let mut addrs: [Option<SockaddrStorage>; DATAGRAMS] = [None; DATAGRAMS];
    for ((transmit, payload), addr) in transmits.iter().zip(&mut payloads).zip(&mut addrs) {
        *payload = [IoSlice::new(transmit.payload)];
        *addr = transmit.to.map(SockaddrStorage::from);
    }
    let (headers, local) = match (&first.local, &mut headers.addressed) {
        (Local::V4(info), Some(headers)) => (headers, Some(ControlMessage::Ipv4PacketInfo(info))),
        (Local::V6(info), Some(headers)) => (headers, Some(ControlMessage::Ipv6PacketInfo(info))),
        _ => (&mut headers.outgoing, None),
    };
    let outcome = retry(observer, || {
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(socket.as_raw_fd(), headers, &payloads[..alike], &addrs[..alike], local.as_slice(), flags)
            .map_err(number)?;
        Ok(sent.count())
    });
    observer.sent(id, alike, outcome);
    outcome
}
