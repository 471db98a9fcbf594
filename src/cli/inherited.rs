//! Sockets that a supervisor has opened and passed on (systemd socket activation, sd_listen_fds(3)).
//!
//! Owns: [`Inherited`], taking the sockets from the environment, and the choice of a service for each. Must not know: the
//! loop.
//!
//! Invariants:
//! 1. The variables count only if `LISTEN_PID` is this process: they may be those of a parent.
//! 2. Each socket belongs to exactly one service. None is closed, and none is bound again.

use std::env;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process;

use listenfd::ListenFd;
use log::debug;
use reactor::addr::Addr;

use super::{Failure, cause};

/// The first inherited descriptor (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// The maximum of inherited sockets: a larger number is a mistake, and would take memory.
const MOST: usize = 1024;

/// An inherited socket.
#[derive(Debug)]
pub(super) struct Inherited {
    /// The number of the descriptor, for messages.
    pub descriptor: usize,
    /// The local address.
    pub addr: Addr,
    /// The socket.
    pub socket: Socket,
}

#[derive(Debug)]
pub(super) enum Socket {
    /// A listener of TCP, or a listening Unix socket.
    Stream(OwnedFd),
    /// A socket of UDP.
    Datagram(UdpSocket),
}

/// The socket that a service needs.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The service goes over UDP.
    pub is_datagram: bool,
    /// The possible addresses.
    pub addrs: &'a [Addr],
    /// The user has given the address.
    pub is_given: bool,
}

/// Takes the sockets of this process, and removes the variables for its children. Call this before any descriptor is
/// opened: an inherited number must not be that of another file by then.
pub(super) fn take() -> Result<Vec<Inherited>, Failure> {
    let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(Vec::new()) };
    if env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(process::id()) {
        debug!("LISTEN_FDS is not for this process: LISTEN_PID is another");
        return Ok(Vec::new());
    }
    // `ListenFd` makes a list of this length before it looks at a descriptor.
    if count.to_str().and_then(|count| count.parse().ok()).is_none_or(|count: usize| count > MOST) {
        return Err(Failure::Usage(format!("LISTEN_FDS is not a number from 0 to {MOST}: {}", count.display())));
    }
    let mut sockets = ListenFd::from_env();
    (0..sockets.len()).map(|index| one(&mut sockets, index)).collect()
}

/// Takes one socket, whatever its kind.
fn one(sockets: &mut ListenFd, index: usize) -> Result<Inherited, Failure> {
    let descriptor = FIRST + index;
    let unusable = |why: &str| Failure::Runtime(format!("cannot use the inherited descriptor {descriptor}: {why}"));
    let (addr, socket) = if let Ok(Some(socket)) = sockets.take_tcp_listener(index) {
        (socket.local_addr().map(Addr::from), Socket::Stream(socket.into()))
    } else if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
        (socket.local_addr().map(Addr::from), Socket::Stream(socket.into()))
    } else if let Ok(Some(socket)) = sockets.take_udp_socket(index) {
        (socket.local_addr().map(Addr::from), Socket::Datagram(socket))
    } else {
        return Err(unusable("it is no socket of TCP, of UDP or for Unix streams"));
    };
    let addr = addr.map_err(|error| unusable(&cause(&error)))?;
    Ok(Inherited { descriptor, addr, socket })
}

/// Returns the sockets of each service: those at its address, or the first of the others if the user has given no address.
/// `overlap` returns true if two listeners need the same address.
pub(super) fn assign(
    sockets: Vec<Inherited>,
    services: &[Wanted<'_>],
    overlap: impl Fn(&Addr, &Addr) -> bool,
) -> Result<Vec<Vec<Inherited>>, Failure> {
    let mut assigned: Vec<Vec<Inherited>> = services.iter().map(|_| Vec::new()).collect();
    let mut others = Vec::new();
    for socket in sockets {
        let is_at =
            |wanted: &Wanted<'_>| socket.fits(wanted) && wanted.addrs.iter().any(|addr| overlap(addr, &socket.addr));
        match services.iter().position(is_at) {
            Some(index) => assigned[index].push(socket),
            None => others.push(socket),
        }
    }
    for socket in others {
        let mut free = services.iter().zip(&mut assigned);
        match free.find(|(wanted, taken)| taken.is_empty() && !wanted.is_given && socket.fits(wanted)) {
            Some((_, taken)) => taken.push(socket),
            None => {
                let Inherited { descriptor, addr, .. } = &socket;
                return Err(Failure::Usage(format!(
                    "the inherited socket {descriptor} belongs to no service; name its address: SERVICE={addr}"
                )));
            }
        }
    }
    Ok(assigned)
}

impl Inherited {
    /// Returns true if the socket is of the transport of the service.
    fn fits(&self, wanted: &Wanted<'_>) -> bool {
        matches!(self.socket, Socket::Datagram(_)) == wanted.is_datagram
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn stream(descriptor: usize, addr: &str) -> Inherited {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Inherited { descriptor, addr: addr.parse().unwrap(), socket: Socket::Stream(socket.into()) }
    }

    fn datagram(descriptor: usize, addr: &str) -> Inherited {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Inherited { descriptor, addr: addr.parse().unwrap(), socket: Socket::Datagram(socket) }
    }

    /// Returns the descriptors of each service. A service is `udp` or `tcp`, with an address that the user has given, or
    /// with a default address in brackets.
    fn assigned(sockets: Vec<Inherited>, services: &[(&str, &str)]) -> Result<Vec<Vec<usize>>, String> {
        let addr = |text: &str| [text.trim_matches(['(', ')']).parse().unwrap()];
        let addrs: Vec<[Addr; 1]> = services.iter().map(|(_, text)| addr(text)).collect();
        let wanted = |((transport, text), addrs): (&(&str, &str), _)| Wanted {
            is_datagram: *transport == "udp",
            addrs,
            is_given: !text.starts_with('('),
        };
        let services: Vec<_> = services.iter().zip(addrs.iter().map(|addrs| &addrs[..])).map(wanted).collect();
        let assigned = assign(sockets, &services, |a, b| a == b).map_err(|failure| failure.to_string())?;
        Ok(assigned.iter().map(|sockets| sockets.iter().map(|socket| socket.descriptor).collect()).collect())
    }

    #[test]
    fn a_socket_belongs_to_the_service_at_its_address() {
        let sockets =
            vec![stream(3, "1.1.1.1:1"), stream(4, "unix:/x"), datagram(5, "1.1.1.1:1"), stream(6, "unix:/x")];
        let services = [("tcp", "unix:/x"), ("udp", "1.1.1.1:1"), ("tcp", "(1.1.1.1:1)"), ("tcp", "1.1.1.1:2")];
        assert_eq!(assigned(sockets, &services), Ok(vec![vec![4, 6], vec![5], vec![3], vec![]]));
    }

    #[test]
    fn other_sockets_belong_to_the_services_without_an_address_in_order() {
        let sockets = vec![stream(3, "1.1.1.1:9"), stream(4, "1.1.1.1:2"), stream(5, "1.1.1.1:8")];
        let services = [("udp", "(1.1.1.1:9)"), ("tcp", "1.1.1.1:1"), ("tcp", "(1.1.1.1:2)")];
        let error = assigned(sockets, &services).unwrap_err();
        assert!(error.starts_with("the inherited socket 3 belongs to no service; name its address: SERVICE=1.1.1.1:9"));
        let sockets = vec![stream(3, "1.1.1.1:9"), stream(4, "1.1.1.1:2"), stream(5, "1.1.1.1:8")];
        let services = [("tcp", "(1.1.1.1:2)"), ("tcp", "(1.1.1.1:3)"), ("udp", "(1.1.1.1:9)"), ("tcp", "(1.1.1.1:4)")];
        assert_eq!(assigned(sockets, &services), Ok(vec![vec![4], vec![3], vec![], vec![5]]));
    }
}
