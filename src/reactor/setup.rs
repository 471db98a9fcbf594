//! Sources come into a reactor: listen, bind, dial, adopt. Settings, and the handles of other threads.
//!
//! Owns: the public methods of [`Reactor`] that add or set something. Must not know: the turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mio::event::Source as _;
use mio::net::UdpSocket;
use mio::{Registry, Token, event};

use super::handle::Handle;
use super::source::connection::Connection;
use super::source::datagram::DatagramSocket;
use super::source::descriptor::{Descriptor, Interest};
use super::source::listener::Listener;
use super::source::readiness::Readiness;
use super::source::sources::Source;
use super::sys::batch::MessageHeaders;
use super::sys::open;
use super::sys::signals::Signals;
use super::sys::stream::ListenSocket;
use super::{Reactor, ScheduledCall};
use crate::addr::Addr;
use crate::id::{Addressee, ConnId, DescriptorId, ListenerId, ServiceId, SocketId, SourceId};
use crate::limits::Policy;
use crate::service::{ConnectionFacts, DatagramService, Dial, ListenOptions};
use crate::timer::Time;

/// Registers a source for everything, once for its whole life (epoll_ctl(2), edge-triggered).
pub(super) fn register(registry: &Registry, source: &mut impl event::Source, id: SourceId) -> io::Result<()> {
    registry.register(source, Token(id.to_word()), Readiness::interest())
}

impl Reactor {
    /// Listens at `addr` for `service`. Returns the id of the listener and its real address (port 0 lets the kernel choose
    /// the port).
    ///
    /// A Unix socket makes a file, and replaces the file of a server that is gone. The file is removed when the listener
    /// closes, unless another process has replaced it. A file that is no socket is an error (`AlreadyExists`).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), listen(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2).
    /// `InvalidInput` for a service of another reactor. A stopping reactor refuses.
    pub fn listen(
        &mut self,
        service: ServiceId,
        addr: impl Into<Addr>,
        options: &ListenOptions,
        policy: Policy,
    ) -> io::Result<(ListenerId, Addr)> {
        self.check_service(service)?;
        let (id, local) = self.add_listener(service, open::listen(&addr.into(), options, &policy)?, policy)?;
        if let Some(listener) = self.sources.listener(id) {
            listener.local = Some(local.clone()).filter(|local| !local.is_unspecified());
        }
        Ok((id, local))
    }

    /// Accepts from a listening socket that the program has made or inherited (socket activation, options of its own): a
    /// [`TcpListener`](std::net::TcpListener), a [`UnixListener`](std::os::unix::net::UnixListener), or a descriptor of
    /// either kind. The reactor makes the socket nonblocking. Returns the id of the listener and its address.
    ///
    /// # Errors
    /// Those of fcntl(2), getsockopt(2), getsockname(2) and epoll_ctl(2). `InvalidInput` for a socket that does not listen,
    /// and for a service of another reactor. A stopping reactor refuses.
    pub fn listen_on(
        &mut self,
        service: ServiceId,
        listener: impl Into<OwnedFd>,
        policy: Policy,
    ) -> io::Result<(ListenerId, Addr)> {
        self.check_service(service)?;
        self.add_listener(service, open::listen_on(listener.into())?, policy)
    }

    fn add_listener(
        &mut self,
        service: ServiceId,
        mut socket: ListenSocket,
        policy: Policy,
    ) -> io::Result<(ListenerId, Addr)> {
        self.refuse_while_stopping()?;
        let local = socket.local_addr()?;
        let id = self.register_new(&mut socket)?;
        let name = self.services[service.index()].0;
        let listener = Listener::new(socket, service, name, policy.clamped());
        self.sources.insert(id, Source::Listener(Box::new(listener)));
        Ok((ListenerId::of(id), local))
    }

    /// Serves a connection that the program has made, accepted or inherited: a [`TcpStream`](std::net::TcpStream), a
    /// [`UnixStream`](std::os::unix::net::UnixStream), or a descriptor of either kind. The reactor makes the socket
    /// nonblocking, and calls `on_open` in the next turn. The connection does not count towards
    /// [`set_max_connections`](Self::set_max_connections).
    ///
    /// # Errors
    /// Those of fcntl(2), getpeername(2) (ENOTCONN) and epoll_ctl(2). `InvalidInput` for a service of another reactor. A
    /// stopping reactor refuses.
    pub fn adopt(&mut self, service: ServiceId, stream: impl Into<OwnedFd>, policy: Policy) -> io::Result<ConnId> {
        self.check_service(service)?;
        self.refuse_while_stopping()?;
        let (mut stream, peer) = open::adopt(stream.into())?;
        let (local, policy) = (stream.local_addr()?, policy.clamped());
        let facts = ConnectionFacts::new(peer, local, policy.high_water);
        let id = self.register_connection(&mut stream, facts)?;
        let adopted = Connection::accepted(stream, id, service, policy.into(), self.clock());
        self.sources.insert(id.into(), Source::Connection(adopted));
        self.adopted.push(id);
        Ok(id)
    }

    /// Calls `on_open` for the connections that were adopted since the last turn.
    pub(super) fn open_adopted(&mut self) {
        for id in std::mem::take(&mut self.adopted) {
            self.call(id, &[], |service, ctx| service.on_open(ctx));
            self.after_event(id);
        }
    }

    /// Binds a datagram socket at `addr` for `service`. Returns its id and its real address.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2). A stopping reactor
    /// refuses.
    pub fn bind_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let socket = open::bind_datagram(addr, options)?;
        self.add_datagram(name, service, socket, None, options)
    }

    /// Serves a datagram socket that the program has made or inherited. The reactor makes the socket nonblocking. Returns
    /// its id and its local address.
    ///
    /// # Errors
    /// Those of fcntl(2), getsockname(2), setsockopt(2) and epoll_ctl(2). A stopping reactor refuses.
    pub fn bind_datagram_on(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        socket: std::net::UdpSocket,
    ) -> io::Result<(SocketId, SocketAddr)> {
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        self.add_datagram(name, service, UdpSocket::from_std(socket), peer, &ListenOptions::default())
    }

    /// Adds a datagram service whose socket has neither address nor peer until the service calls
    /// [`SocketContext::connect`](crate::service::SocketContext::connect). Returns its id.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and epoll_ctl(2). A stopping reactor refuses.
    pub fn open_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        options: &ListenOptions,
    ) -> io::Result<SocketId> {
        let socket = open::unbound_datagram(options)?;
        self.add_datagram(name, service, socket, None, options).map(|(id, _)| id)
    }

    /// Opens a datagram socket for `service` whose only peer is `to` (connect(2)), from the local address `from` if given.
    /// Returns its id and its local address. The kernel reports the fate of its datagrams
    /// ([`DatagramService::on_error`]).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), connect(2) (ENETUNREACH) and epoll_ctl(2).
    pub fn connect_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        to: SocketAddr,
        from: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let socket = open::connect_datagram(to, from, options)?;
        self.add_datagram(name, service, socket, Some(to), options)
    }

    fn add_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        mut socket: UdpSocket,
        peer: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.refuse_while_stopping()?;
        let local = socket.local_addr()?;
        let headers = MessageHeaders::new(&socket)?;
        let source = self.register_new(&mut socket)?;
        let id = SocketId::of(source);
        let socket = DatagramSocket::new(socket, headers, id, name, service, peer).with_options(options);
        self.sources.insert(source, Source::Datagram(Box::new(socket)));
        self.scheduled.push((Addressee::Socket(id), ScheduledCall::Start));
        Ok((id, local))
    }

    /// Returns an error while the reactor is stopping: `on_stop` would never reach a new source.
    fn refuse_while_stopping(&self) -> io::Result<()> {
        if self.stop.is_draining() { Err(io::Error::other("the reactor is stopping")) } else { Ok(()) }
    }

    /// Reports the readiness of a descriptor of the program to [`Service::on_ready`](crate::service::Service::on_ready) of
    /// `service`: a pipe, a timerfd, an inotify queue, the output of a child. The reactor registers a duplicate and reads
    /// nothing. The descriptor should be nonblocking. [`close`](Self::close) ends the reports, and so does a stop.
    ///
    /// # Errors
    /// Those of fcntl(2) and epoll_ctl(2): EPERM for a regular file, which is always ready. `InvalidInput` for a service of
    /// another reactor. A stopping reactor refuses.
    pub fn add_source(&mut self, service: ServiceId, fd: &impl AsFd, interest: Interest) -> io::Result<DescriptorId> {
        self.check_service(service)?;
        self.refuse_while_stopping()?;
        let mut source = Descriptor::new(fd.as_fd(), service, self.services[service.index()].0)?;
        let directory = self.context.directory_mut();
        let id = directory.insert_source();
        let registered = source.register(self.poll.registry(), Token(id.to_word()), interest.into());
        registered.inspect_err(|_| directory.remove(id))?;
        self.sources.insert(id, Source::Descriptor(Box::new(source)));
        Ok(DescriptorId::of(id))
    }

    /// Dials for `service`: `on_dialed` or `on_dial_error` follows, with the id that is returned here.
    ///
    /// # Errors
    /// Those of a connect(2) that fails at once, of bind(2), and of epoll_ctl(2). No callback follows then. `InvalidInput`
    /// for a service of another reactor.
    pub fn dial(&mut self, service: ServiceId, dial: &Dial) -> io::Result<ConnId> {
        self.check_service(service)?;
        let id = self.context.directory_mut().insert_connection(dial.facts());
        // Between two turns, or before the first turn, `now` is out of date.
        let dialed = self.dial_at(service, id, dial, self.clock());
        if dialed.is_err() {
            self.context.directory_mut().remove(id.into());
        }
        dialed.map(|()| id)
    }

    /// Dials the connection `id` for `service` at the time `now`.
    pub(super) fn dial_at(&mut self, service: ServiceId, id: ConnId, dial: &Dial, now: Time) -> io::Result<()> {
        self.refuse_while_stopping()?;
        let mut stream = open::dial(&dial.to, dial.from, &dial.policy)?;
        self.recorder.ledger.dials += 1;
        let due = if dial.timeout.is_on() { now + dial.timeout } else { Time::NEVER };
        register(self.poll.registry(), &mut stream, id.into())?;
        let dialing = Connection::dialing(stream, id, service, dial.policy.clone().clamped().into(), due);
        self.sources.insert(id.into(), Source::Connection(dialing));
        self.after_event(id);
        Ok(())
    }

    /// Registers the socket of a new source that is no connection; returns its id. An error leaves no id behind.
    pub(super) fn register_new(&mut self, socket: &mut impl event::Source) -> io::Result<SourceId> {
        let directory = self.context.directory_mut();
        let id = directory.insert_source();
        register(self.poll.registry(), socket, id).inspect_err(|_| directory.remove(id))?;
        Ok(id)
    }

    /// Registers the socket of a new connection; returns its id. An error leaves no id behind.
    pub(super) fn register_connection(
        &mut self,
        socket: &mut impl event::Source,
        facts: ConnectionFacts,
    ) -> io::Result<ConnId> {
        let directory = self.context.directory_mut();
        let id = directory.insert_connection(facts);
        register(self.poll.registry(), socket, id.into()).inspect_err(|_| directory.remove(id.into()))?;
        Ok(id)
    }

    /// Removes a source that is no connection, with its id.
    pub(super) fn remove_source(&mut self, id: SourceId) {
        self.sources.remove(id);
        self.context.directory_mut().remove(id);
    }

    /// Limits the accepted connections to `most` at a time. A further connection is closed at once, and counted. Dialed
    /// connections do not count.
    pub fn set_max_connections(&mut self, most: usize) {
        self.max_connections = most;
    }

    /// Limits the open connections of one listener to `most`. A further connection is closed at once, and counted. Returns
    /// false if the listener is gone.
    pub fn set_max_connections_of(&mut self, listener: ListenerId, most: usize) -> bool {
        match self.sources.listener(listener) {
            Some(listener) => {
                listener.max_connections = most;
                true
            }
            None => false,
        }
    }

    /// Sets the time that connections have to finish after a stop has begun; zero for no limit. Connections that are still
    /// open then are reset. The default is [`GRACE`](crate::limits::GRACE).
    pub fn set_grace(&mut self, grace: Duration) {
        self.stop.grace = grace;
    }

    /// Reports `signal` to [`Service::on_signal`](crate::service::Service::on_signal) of `service`, in place of the default
    /// action of the process: SIGHUP for a reload, SIGUSR2 for a command of the program. A signal that is ignored when the
    /// program starts stays ignored (nohup(1)). [`handle_signals`](Self::handle_signals) handles SIGINT, SIGTERM and
    /// SIGUSR1 itself, unless they are given to a service here.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2): EINVAL for SIGKILL and SIGSTOP. `InvalidInput` for a service of another
    /// reactor.
    pub fn handle_signal(&mut self, service: ServiceId, signal: i32) -> io::Result<()> {
        self.check_service(service)?;
        self.signals_mut()?.add(signal)?;
        self.signal_services.retain(|(number, _)| *number != signal);
        self.signal_services.push((signal, service));
        Ok(())
    }

    /// Returns the signal source, which is made at the first call.
    fn signals_mut(&mut self) -> io::Result<&mut Signals> {
        if self.signals.is_none() {
            self.signals = Some(Signals::new(self.poll.registry())?);
        }
        self.signals.as_mut().ok_or_else(|| io::Error::other("no signal source"))
    }

    /// Handles the signals of the process. SIGINT and SIGTERM stop the reactor in an orderly way; the second one stops it
    /// at once. SIGUSR1 requests a report ([`report_to`](Self::report_to)). SIGHUP does nothing without
    /// [`stop_on_hangup`](Self::stop_on_hangup).
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn handle_signals(&mut self) -> io::Result<()> {
        self.signals_mut()?.add_all()
    }

    /// Gives the reports that SIGUSR1 requests to `sink`. Without a sink SIGUSR1 does nothing. The loop waits for the sink,
    /// so a sink must not block.
    pub fn report_to(&mut self, sink: impl FnMut(&str) + 'static) {
        self.report_sink = Some(Box::new(sink));
    }

    /// Lets SIGHUP stop the reactor as SIGTERM does: a command has no use after its terminal is closed.
    pub fn stop_on_hangup(&mut self) {
        self.stop.on_hangup = true;
    }

    /// Returns a handle for other threads.
    pub fn handle(&self) -> Handle {
        self.mailbox.handle()
    }
}
