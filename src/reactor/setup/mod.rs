//! Sources come into a reactor and leave it: listen, bind, dial, adopt, close. Settings, and the handles of other threads.
//!
//! Owns: the public methods of [`Reactor`] that add, close or set something. Must not know: the turn.

mod datagrams;
mod requests;

pub(super) use self::requests::RequestOutcome;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mio::event::Source as _;
use mio::{Poll, Registry, Token, event};

use super::Reactor;
use super::source::connection::Connection;
use super::source::descriptor::{Descriptor, Interest};
use super::source::listener::Listener;
use super::source::readiness::Readiness;
use super::source::sources::{Source, StreamConnection};
use super::sys::open;
use super::sys::signals::Signals;
use super::sys::stream::ListenSocket;
use super::threads::handle::Handle;
use crate::addr::Addr;
use crate::id::{ConnId, DescriptorId, ListenerId, ServiceId, SourceId};
use crate::limits::Policy;
use crate::service::{ConnectionFacts, Dial, ListenOptions};
use crate::timer::Time;

/// Registers a source for everything, once for its whole life (epoll_ctl(2), edge-triggered).
pub(super) fn register(registry: &Registry, source: &mut impl event::Source, id: SourceId) -> io::Result<()> {
    registry.register(source, Token(id.to_word()), Readiness::interest())
}

/// Registers the stream of a connection for other events (epoll_ctl(2)).
pub(super) fn reregister(poll: &Poll, connection: &mut StreamConnection, interest: mio::Interest) -> io::Result<()> {
    let token = Token(SourceId::from(connection.id()).to_word());
    poll.registry().reregister(connection.stream_mut(), token, interest)
}

impl Reactor {
    /// Listens at `addr` for `service`. Returns the id of the listener and its real address (port 0 lets the kernel choose
    /// the port).
    ///
    /// A Unix socket makes a file, and replaces the file of a server that is gone. The file is removed when the listener
    /// closes, unless another process has replaced it. A file that is no socket is an error (`AlreadyExists`).
    ///
    /// ```
    /// use reactor::{Addr, ListenOptions, Policy, Reactor, services::Echo};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.add_service("echo", Box::new(Echo));
    /// let options = ListenOptions::default();
    /// let (_, addr) = reactor.listen(echo, ([127, 0, 0, 1], 0), &options, Policy::default())?;
    /// assert_ne!(addr, Addr::from(([127, 0, 0, 1], 0)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), listen(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2).
    /// `InvalidInput` for a service on datagrams or of another reactor. A stopping reactor refuses.
    pub fn listen(
        &mut self,
        service: ServiceId,
        addr: impl Into<Addr>,
        options: &ListenOptions,
        policy: Policy,
    ) -> io::Result<(ListenerId, Addr)> {
        self.check_stream(service)?;
        let id = self.context.directory_mut().insert_listener();
        let local = self.listen_at(service, id, &addr.into(), options, policy);
        self.id_or_error(id, local)
    }

    /// Listens at `addr` under the id `id`. Returns the real address.
    fn listen_at(
        &mut self,
        service: ServiceId,
        id: ListenerId,
        addr: &Addr,
        options: &ListenOptions,
        policy: Policy,
    ) -> io::Result<Addr> {
        self.refuse_while_stopping()?;
        let socket = open::listen(addr, options, &policy)?;
        let local = self.add_listener(service, id, socket, policy)?;
        if let Some(listener) = self.sources.listener(id) {
            listener.local = (!local.is_unspecified()).then(|| local.clone().into());
        }
        Ok(local)
    }

    /// Accepts from a listening socket that the program has made or inherited (socket activation, options of its own): a
    /// [`TcpListener`](std::net::TcpListener), a [`UnixListener`](std::os::unix::net::UnixListener), or a descriptor of
    /// either kind. The reactor makes the socket nonblocking, and sets `TCP_NODELAY` and keepalive as for its own listeners.
    /// Returns the id of the listener and its address.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use reactor::{Policy, Reactor, services::Echo};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?; // or a socket that systemd has passed on
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.add_service("echo", Box::new(Echo));
    /// let (id, addr) = reactor.listen_on(echo, listener, Policy::default())?;
    /// # let _ = (id, addr);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of fcntl(2), getsockopt(2), getsockname(2) and epoll_ctl(2). `InvalidInput` for a socket that does not listen,
    /// and for a service on datagrams or of another reactor. A stopping reactor refuses.
    pub fn listen_on(
        &mut self,
        service: ServiceId,
        listener: impl Into<OwnedFd>,
        policy: Policy,
    ) -> io::Result<(ListenerId, Addr)> {
        self.check_stream(service)?;
        self.refuse_while_stopping()?;
        let socket = open::listen_on(listener.into(), &policy)?;
        let id = self.context.directory_mut().insert_listener();
        let local = self.add_listener(service, id, socket, policy);
        self.id_or_error(id, local)
    }

    fn add_listener(
        &mut self,
        service: ServiceId,
        id: ListenerId,
        mut socket: ListenSocket,
        policy: Policy,
    ) -> io::Result<Addr> {
        let local = socket.local_addr()?;
        register(self.poll.registry(), &mut socket, id.into())?;
        let name = self.services[service.index()].name;
        let listener = Listener::new(socket, service, name, policy.clamped());
        self.sources.insert(id.into(), Source::Listener(Box::new(listener)));
        Ok(local)
    }

    /// Serves a connection that the program has made, accepted or inherited: a [`TcpStream`](std::net::TcpStream), a
    /// [`UnixStream`](std::os::unix::net::UnixStream), or a descriptor of either kind. The reactor makes the socket
    /// nonblocking, and calls `on_open` in the next turn. The connection does not count towards
    /// [`set_max_connections`](Self::set_max_connections).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use reactor::{Policy, Reactor, services::Echo};
    ///
    /// let (_near, far) = UnixStream::pair()?;
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.add_service("echo", Box::new(Echo));
    /// let id = reactor.adopt(echo, far, Policy::default())?;
    /// # let _ = id;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of fcntl(2), getpeername(2) (ENOTCONN) and epoll_ctl(2). `InvalidInput` for a service on datagrams or of
    /// another reactor. A stopping reactor refuses.
    pub fn adopt(&mut self, service: ServiceId, stream: impl Into<OwnedFd>, policy: Policy) -> io::Result<ConnId> {
        self.check_stream(service)?;
        self.refuse_while_stopping()?;
        let (mut stream, peer) = open::adopt(stream.into())?;
        let (local, policy) = (stream.local_addr()?, policy.clamped());
        let is_unix = peer.is_unix();
        let credentials = if is_unix { stream.peer_credentials() } else { None };
        let mut facts = ConnectionFacts::new(peer, local, policy.high_water);
        facts.credentials = credentials.map(Box::new);
        let id = self.register_connection(&mut stream, facts)?;
        let mut adopted = Connection::accepted(stream, id, service, policy.into(), self.clock());
        if is_unix {
            adopted.unwatch_writes();
        }
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

    /// Returns an error while the reactor is stopping: `on_stop` would never reach a new source.
    fn refuse_while_stopping(&self) -> io::Result<()> {
        if self.stop.is_draining() { Err(io::Error::other("the reactor is stopping")) } else { Ok(()) }
    }

    /// Reports the readiness of a descriptor of the program to [`Service::on_ready`](crate::service::Service::on_ready) of
    /// `service`: a pipe, a timerfd, an inotify queue, the output of a child. The reactor registers a duplicate and reads
    /// nothing. The descriptor should be nonblocking. [`close`](Self::close) ends the reports, and so does a stop.
    /// [`Service::on_ready`](crate::service::Service::on_ready) has an example.
    ///
    /// # Errors
    /// Those of fcntl(2) and epoll_ctl(2): EPERM for a regular file, which is always ready. `InvalidInput` for a service of
    /// another reactor. A stopping reactor refuses.
    pub fn add_source(&mut self, service: ServiceId, fd: &impl AsFd, interest: Interest) -> io::Result<DescriptorId> {
        self.check_service(service)?;
        self.refuse_while_stopping()?;
        let mut source = Descriptor::new(fd.as_fd(), service, self.services[service.index()].name)?;
        let id = self.context.directory_mut().insert_descriptor();
        let registered = source.register(self.poll.registry(), Token(SourceId::from(id).to_word()), interest.into());
        let (id, ()) = self.id_or_error(id, registered)?;
        self.sources.insert(id.into(), Source::Descriptor(Box::new(source)));
        Ok(id)
    }

    /// Dials for `service`: `on_dialed` or `on_dial_error` follows, with the id that is returned here. A callback dials with
    /// [`ServiceContext::dial`](crate::service::ServiceContext::dial).
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Dial, Reactor, services::Discard};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let discard = reactor.add_service("discard", Box::new(Discard));
    /// let id = reactor.dial(discard, &Dial::to(([127, 0, 0, 1], 9)).within(Duration::from_secs(3)))?;
    /// # let _ = id;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of socket(2), bind(2), epoll_ctl(2), and of a connect(2) that fails at once. No callback follows then.
    /// `InvalidInput` for a service on datagrams or of another reactor. A stopping reactor refuses.
    pub fn dial(&mut self, service: ServiceId, dial: &Dial) -> io::Result<ConnId> {
        self.check_stream(service)?;
        let id = self.context.directory_mut().insert_connection(dial.facts());
        // Between two turns, or before the first turn, `now` is out of date.
        let dialed = self.dial_at(service, id, dial, self.clock());
        self.id_or_error(id, dialed).map(|(id, ())| id)
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

    /// Returns the id of a source with what was found out when the source was made. Frees the id after an error.
    fn id_or_error<I: Copy + Into<SourceId>, T>(&mut self, id: I, made: io::Result<T>) -> io::Result<(I, T)> {
        if made.is_err() {
            self.context.directory_mut().remove(id.into());
        }
        made.map(|made| (id, made))
    }

    /// Registers the socket of a new connection; returns its id. An error leaves no id behind. A Unix socket is registered
    /// for events of reads alone ([`Readiness`]).
    pub(super) fn register_connection(
        &mut self,
        socket: &mut impl event::Source,
        facts: ConnectionFacts,
    ) -> io::Result<ConnId> {
        let interest = if facts.peer.is_unix() { Readiness::read_interest() } else { Readiness::interest() };
        let directory = self.context.directory_mut();
        let id = directory.insert_connection(facts);
        let registered = self.poll.registry().register(socket, Token(SourceId::from(id).to_word()), interest);
        registered.inspect_err(|_| directory.remove(id.into()))?;
        Ok(id)
    }

    /// Closes a listener, a datagram socket, a descriptor or a connection, as
    /// [`ServiceContext::close`](crate::service::ServiceContext::close). Returns false if the source is gone.
    pub fn close(&mut self, id: impl Into<SourceId>) -> bool {
        let id = id.into();
        let connection = ConnId::of(id);
        if let Some(finished) = self.sources.connection(connection) {
            finished.finish(&mut self.recorder);
            self.after_event(connection);
            return true;
        }
        self.close_source(id)
    }

    /// Closes a source that is no connection, and frees its id. Returns false if the source is gone.
    pub(super) fn close_source(&mut self, id: SourceId) -> bool {
        let registry = self.poll.registry();
        match self.sources.get_mut(id) {
            // The descriptor is closed next. While the program or another process has a duplicate, though, the kernel goes on
            // to report events of a registered descriptor (epoll(7)).
            Some(Source::Listener(listener)) => drop(registry.deregister(&mut listener.socket)),
            Some(Source::Descriptor(descriptor)) => drop(registry.deregister(descriptor.as_mut())),
            Some(Source::Datagram(socket)) => {
                if socket.registered {
                    let _ = registry.deregister(&mut socket.socket);
                }
                let (datagrams, _) = socket.queued();
                self.recorder.ledger.datagrams_dropped += datagrams as u64;
            }
            Some(Source::Connection(_)) | None => return false,
        }
        self.sources.remove(id);
        self.context.directory_mut().remove(id);
        true
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
    /// [`Service::on_signal`](crate::service::Service::on_signal) has an example.
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
