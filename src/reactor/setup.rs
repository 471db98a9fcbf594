//! How sources come into a reactor: listen, bind, connect, and the handles of other threads.
//!
//! Owns: the public methods of [`Reactor`] that add something. Must not know: the turn.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Registry, Token, event};

use super::handle::Handle;
use super::source::connection::Connection;
use super::source::datagram::DatagramSocket;
use super::source::listener::Listener;
use super::source::readiness::Readiness;
use super::source::sources::Source;
use super::sys::open::{self, ListenOptions};
use super::sys::signals::Signals;
use super::{Reactor, ScheduledCall};
use crate::id::{Addressee, ConnId, ServiceId, SourceId};
use crate::limits::Policy;
use crate::service::{DatagramService, Dial, Service};
use crate::timer::Time;

/// Registers a source for everything, once for its whole life (epoll_ctl(2), edge-triggered).
pub(super) fn register(registry: &Registry, source: &mut impl event::Source, id: SourceId) -> io::Result<()> {
    registry.register(source, Token(id.to_word()), Readiness::interest())
}

impl Reactor {
    /// Adds a service, to be listened or dialed for; its name is for logs and reports.
    ///
    /// # Panics
    /// If there are 65,536 services already.
    pub fn add_service(&mut self, name: &'static str, service: Box<dyn Service>) -> ServiceId {
        let id = u16::try_from(self.services.len());
        self.services.push((name, service));
        // A program names its services in its source; that many are a mistake in it.
        let id = ServiceId(id.expect("at most 65,536 services"));
        self.scheduled.push((Addressee::Service(id), ScheduledCall::Start));
        id
    }

    /// Listens at `addr` on behalf of `service`; returns the real address (port 0 lets the kernel choose one).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), listen(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2); a reactor that is
    /// stopping refuses.
    pub fn listen(
        &mut self,
        service: ServiceId,
        addr: SocketAddr,
        options: &ListenOptions,
        policy: Policy,
    ) -> io::Result<SocketAddr> {
        self.refuse_while_stopping()?;
        let mut socket = open::listen(addr, options)?;
        let local = socket.local_addr()?;
        let registry = self.poll.registry();
        let name = self.services[usize::from(service.0)].0;
        self.sources.insert(|id| {
            register(registry, &mut socket, id)?;
            Ok::<_, io::Error>(Source::Listener(Box::new(Listener::new(socket, service, name, policy.clamped()))))
        })?;
        Ok(local)
    }

    /// Binds a datagram socket at `addr` for `service`; returns its id and its real address.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2) (EADDRINUSE, EADDRNOTAVAIL, EACCES) and epoll_ctl(2); a reactor that is
    /// stopping refuses.
    pub fn bind_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(SourceId, SocketAddr)> {
        let socket = open::bind_datagram(addr, options)?;
        self.add_datagram(name, service, socket, None, options)
    }

    /// Adds a datagram service whose socket has neither address nor peer until the service calls
    /// [`SocketContext::connect`](crate::service::SocketContext::connect); returns its id.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and epoll_ctl(2); a reactor that is stopping refuses.
    pub fn open_datagram(
        &mut self,
        name: &'static str,
        service: Box<dyn DatagramService>,
        options: &ListenOptions,
    ) -> io::Result<SourceId> {
        let socket = open::unbound_datagram(options)?;
        self.add_datagram(name, service, socket, None, options).map(|(id, _)| id)
    }

    /// Makes a datagram socket for `service` whose only peer is `to` (connect(2)), from the local address `from` if given;
    /// returns its id and its local address. The kernel tells it what becomes of its letters
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
    ) -> io::Result<(SourceId, SocketAddr)> {
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
    ) -> io::Result<(SourceId, SocketAddr)> {
        self.refuse_while_stopping()?;
        let local = socket.local_addr()?;
        let registry = self.poll.registry();
        let id = self.sources.insert(|id| {
            register(registry, &mut socket, id)?;
            let socket = DatagramSocket::new(socket, id, name, service, peer)?.with_options(options);
            Ok::<_, io::Error>(Source::Datagram(Box::new(socket)))
        })?;
        self.scheduled.push((Addressee::Socket(id), ScheduledCall::Start));
        Ok((id, local))
    }

    /// What came now would never be told to stop.
    fn refuse_while_stopping(&self) -> io::Result<()> {
        if self.stop.is_draining() { Err(io::Error::other("the reactor is stopping")) } else { Ok(()) }
    }

    /// Dials on behalf of `service`: `on_dialed` or `on_dial_error` will tell. The id is that of the connection.
    ///
    /// # Errors
    /// Those of a connect(2) that fails at once, of bind(2), and of the registration; no callback follows then.
    pub fn dial(&mut self, service: ServiceId, dial: &Dial) -> io::Result<ConnId> {
        // Between two turns, or before the first, `now` is long ago.
        self.dial_at(service, dial, self.clock())
    }

    /// The same when it is `now`.
    pub(super) fn dial_at(&mut self, service: ServiceId, dial: &Dial, now: Time) -> io::Result<ConnId> {
        self.refuse_while_stopping()?;
        let mut stream = open::dial(dial.to, dial.from)?;
        self.recorder.ledger.dials += 1;
        let due = if dial.timeout.is_on() { now + dial.timeout } else { Time::NEVER };
        let registry = self.poll.registry();
        let id = self.sources.insert(|id| {
            register(registry, &mut stream, id)?;
            let dialing = Connection::dialing(stream, id, dial.to, service, dial.policy.clone().clamped().into(), due);
            Ok::<_, io::Error>(Source::Connection(dialing))
        })?;
        self.dials.insert(id, dial.name);
        self.after_event(id);
        Ok(id)
    }

    /// Allows at most so many connections at a time; one more is closed at once, and counted.
    pub fn set_max_connections(&mut self, most: usize) {
        self.max_connections = most;
    }

    /// After a stop has begun, connections are aborted when so much time has passed; zero waits for ever. Without this call
    /// it is [`GRACE`](crate::limits::GRACE).
    pub fn set_grace(&mut self, grace: Duration) {
        self.stop.grace = grace;
    }

    /// Listens to the signals of the process: SIGINT and SIGTERM stop the reactor in an orderly way, and at once the
    /// second time; SIGUSR1 prints the ledger and the table of connections on standard error; SIGHUP does nothing,
    /// unless [`stop_on_hangup`](Self::stop_on_hangup) says otherwise.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn handle_signals(&mut self) -> io::Result<()> {
        self.signals = Some(Signals::new(self.poll.registry())?);
        Ok(())
    }

    /// Gives the reports that SIGUSR1 requests to `sink`. Without a sink SIGUSR1 does nothing. The loop waits for the sink,
    /// so a sink must not block.
    pub fn report_to(&mut self, sink: impl FnMut(&str) + 'static) {
        self.report_sink = Some(Box::new(sink));
    }

    /// Lets SIGHUP stop the reactor as SIGTERM does: for commands, which have no business without their terminal.
    pub fn stop_on_hangup(&mut self) {
        self.stop.on_hangup = true;
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.mailbox.handle()
    }
}
