//! Datagram sockets come into a reactor: bound, adopted, opened, connected.
//!
//! Owns: the public methods of [`Reactor`] that add a datagram socket. Must not know: the turn.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::UdpSocket;

use super::register;
use crate::id::{ServiceId, SocketId};
use crate::reactor::source::datagram::DatagramSocket;
use crate::reactor::source::sources::Source;
use crate::reactor::sys::batch::MessageHeaders;
use crate::reactor::sys::open;
use crate::reactor::{Reactor, ScheduledCall};
use crate::service::{ListenOptions, SocketFacts};

/// The local address of a socket that has none.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Reactor {
    /// Binds a datagram socket at `addr` for `service`. Returns its id and its real address (port 0 lets the kernel choose
    /// the port).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2). `InvalidInput` for a
    /// service on streams or of another reactor. A stopping reactor refuses.
    pub fn bind_datagram(
        &mut self,
        service: ServiceId,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.check_datagram(service)?;
        let id = self.context.directory_mut().insert_socket(SocketFacts::new(addr));
        let local = self.bind_at(service, id, addr, options);
        self.id_or_error(id, local)
    }

    /// Binds a datagram socket at `addr` under the id `id`. Returns its real address.
    pub(super) fn bind_at(
        &mut self,
        service: ServiceId,
        id: SocketId,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        self.refuse_while_stopping()?;
        self.add_socket(service, id, open::bind_datagram(addr, options)?, None, options)
    }

    /// Serves a datagram socket that the program has made or inherited. The reactor makes the socket nonblocking. Returns
    /// its id and its local address.
    ///
    /// # Errors
    /// Those of fcntl(2), getsockname(2), setsockopt(2) and epoll_ctl(2). `InvalidInput` for a service on streams or of another
    /// reactor. A stopping reactor refuses.
    pub fn bind_datagram_on(
        &mut self,
        service: ServiceId,
        socket: std::net::UdpSocket,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.check_datagram(service)?;
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        self.add_new_socket(service, UdpSocket::from_std(socket), peer, &ListenOptions::default())
    }

    /// Opens a datagram socket for `service` that has neither address nor peer until the service calls
    /// [`SocketContext::connect`](crate::service::SocketContext::connect). Returns its id.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and epoll_ctl(2). `InvalidInput` for a service on streams or of another reactor. A
    /// stopping reactor refuses.
    pub fn open_datagram(&mut self, service: ServiceId, options: &ListenOptions) -> io::Result<SocketId> {
        self.check_datagram(service)?;
        self.add_new_socket(service, open::unbound_datagram(options)?, None, options).map(|(id, _)| id)
    }

    /// Opens a datagram socket for `service` whose only peer is `to` (connect(2)), from the local address `from` if given.
    /// Returns its id and its local address. The kernel reports the fate of its datagrams
    /// ([`DatagramService::on_error`](crate::service::DatagramService::on_error)).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), connect(2) (ENETUNREACH) and epoll_ctl(2). `InvalidInput` for a service on
    /// streams or of another reactor. A stopping reactor refuses.
    pub fn connect_datagram(
        &mut self,
        service: ServiceId,
        to: SocketAddr,
        from: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.check_datagram(service)?;
        self.add_new_socket(service, open::connect_datagram(to, from, options)?, Some(to), options)
    }

    fn add_new_socket(
        &mut self,
        service: ServiceId,
        socket: UdpSocket,
        peer: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.refuse_while_stopping()?;
        let id = self.context.directory_mut().insert_socket(SocketFacts::new(NOWHERE));
        let local = self.add_socket(service, id, socket, peer, options);
        self.id_or_error(id, local)
    }

    /// Makes a source of `socket` under the id `id`. Returns its local address.
    fn add_socket(
        &mut self,
        service: ServiceId,
        id: SocketId,
        mut socket: UdpSocket,
        peer: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let local = socket.local_addr()?;
        let headers = MessageHeaders::new(&socket)?;
        register(self.poll.registry(), &mut socket, id.into())?;
        let name = self.services[service.index()].name;
        let socket = DatagramSocket::new(socket, headers, id, service, name, peer).with_options(options);
        self.sources.insert(id.into(), Source::Datagram(Box::new(socket)));
        if let Some(facts) = self.context.directory_mut().socket_mut(id) {
            facts.local = local;
        }
        self.scheduled.push((service, ScheduledCall::Open(id)));
        Ok(local)
    }
}
