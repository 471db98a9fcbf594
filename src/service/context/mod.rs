//! The facts and verbs of a callback. A verb records a command.
//!
//! Owns: [`ServiceContext`], and the view of each kind of source: [`Context`] of a connection, [`SocketContext`] of a
//! datagram socket. Must not know: the effects of commands.

mod connection;
mod socket;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

pub use connection::Context;
pub use socket::{DatagramContext, SocketContext};

use super::TimerName;
use super::command::Command;
use super::dial::Dial;
use super::directory::{Directory, SocketFacts};
use super::listen::{Bind, Listen, ListenOptions};
use super::outbox::Outbox;
use crate::addr::Addr;
use crate::id::{ConnId, ListenerId, SocketId, SourceId};
use crate::limits::Policy;
use crate::timer::Time;

/// The facts and verbs of every callback of a service, on streams or on datagrams. [`connection`](Self::connection) returns
/// the verbs of a connection, [`socket`](Self::socket) those of a datagram socket.
pub struct ServiceContext {
    now: Time,
    wall_clock: fn() -> SystemTime,
    is_stopping: bool,
    outbox: Outbox,
    directory: Directory,
}

impl ServiceContext {
    /// Returns a context at time zero, with `wall_clock` for the time of day. The reactor has one, and each
    /// [`Probe`](super::Probe).
    #[doc(hidden)]
    pub fn new(wall_clock: fn() -> SystemTime) -> Self {
        Self {
            now: Time::ZERO,
            wall_clock,
            is_stopping: false,
            outbox: Outbox::default(),
            directory: Directory::default(),
        }
    }

    /// Sets the present.
    #[doc(hidden)]
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Returns the recorded commands. For an adapter around another service.
    #[inline]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Returns the recorded commands, to be changed. For an adapter around another service, as `examples/tls.rs` has one.
    #[inline]
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Returns the ids and facts of all sources.
    #[doc(hidden)]
    #[inline]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the ids and facts of all sources, to be changed by the reactor.
    #[doc(hidden)]
    #[inline]
    pub fn directory_mut(&mut self) -> &mut Directory {
        &mut self.directory
    }

    /// Marks the reactor as stopping.
    #[doc(hidden)]
    pub fn set_stopping(&mut self) {
        self.is_stopping = true;
    }

    /// Returns true while the reactor is stopping.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Returns the present, read once per turn, before the callbacks of the turn. To measure a round trip, take
    /// [`Instant::now`](std::time::Instant::now).
    pub fn now(&self) -> Time {
        self.now
    }

    /// Returns the time of day. The system clock can be set, so no deadline must be computed from it.
    pub fn wall_clock(&self) -> SystemTime {
        (self.wall_clock)()
    }

    /// Returns the view of a connection of this reactor: its facts and its verbs. `None` if the connection has ended.
    ///
    /// A command of this callback takes effect when the callback has returned, so a connection that it has reset is still
    /// found until then.
    ///
    /// ```
    /// use reactor::{ConnId, ServiceContext};
    ///
    /// /// Passes a message on. Returns false if the member has left.
    /// fn whisper(ctx: &mut ServiceContext, to: ConnId, message: &[u8]) -> bool {
    ///     let Some(mut member) = ctx.connection(to) else { return false };
    ///     member.send(message);
    ///     true
    /// }
    /// ```
    pub fn connection(&mut self, id: ConnId) -> Option<Context<'_>> {
        self.directory.is_live(id).then(|| Context::new(self, id))
    }

    /// Returns the view of a datagram socket of this reactor: its facts and its verbs. `None` if the socket is gone.
    pub fn socket(&mut self, id: SocketId) -> Option<SocketContext<'_>> {
        self.directory.socket(id).is_some().then(|| SocketContext::new(self, id))
    }

    /// Sends `bytes` to each of `to`, at the end of the turn together with further broadcasts until then. A connection with
    /// [`Policy::overflow`](crate::limits::Policy::overflow) bytes queued is dropped with
    /// [`CloseReason::Overflow`](super::CloseReason::Overflow): a slow reader cannot hold up a broadcast. The bytes are copied
    /// once into the outbox, and then into the queue of each connection. Ids of connections that have ended do nothing.
    ///
    /// ```
    /// use reactor::{ConnId, Context};
    ///
    /// /// Sends a line to all other members.
    /// fn relay(members: &[ConnId], ctx: &mut Context<'_>, line: &[u8]) {
    ///     let others: Vec<_> = members.iter().copied().filter(|&id| id != ctx.id()).collect();
    ///     ctx.broadcast(&others, line);
    /// }
    /// ```
    pub fn broadcast(&mut self, to: &[ConnId], bytes: &[u8]) {
        self.outbox.broadcast(to, bytes);
    }

    /// Requests [`Service::on_timer`](super::Service::on_timer) at `at`, and then each `every` (zero: once).
    ///
    /// A repeating timer that was held up for several periods fires once and keeps its phase. A timer of the same name
    /// is replaced. Timers belong to the service, and have ticks of a millisecond: a timer is never early.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Context, Service, ServiceContext, TimerName};
    ///
    /// const MINUTE: Duration = Duration::from_secs(60);
    ///
    /// struct Clock;
    ///
    /// impl Service for Clock {
    ///     fn on_start(&mut self, ctx: &mut ServiceContext) {
    ///         ctx.set_timer(TimerName(0), ctx.now() + MINUTE, MINUTE);
    ///     }
    ///
    ///     fn on_timer(&mut self, ctx: &mut ServiceContext, _: TimerName) {
    ///         println!("{:?}", ctx.wall_clock());
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         input.len()
    ///     }
    /// }
    /// ```
    pub fn set_timer(&mut self, name: TimerName, at: Time, every: Duration) {
        self.outbox.push(Command::SetTimer { name, at, every: every.into() });
    }

    /// Cancels the timer `name`, if it is set.
    pub fn cancel_timer(&mut self, name: TimerName) {
        self.outbox.push(Command::CancelTimer { name });
    }

    /// Requests [`Service::on_turn`](super::Service::on_turn) in the next turn, which then does not wait for events.
    ///
    /// For work that is cut into pieces, so that other connections are served in between, and for reactions within the
    /// millisecond of a timer. A request in every turn keeps the processor busy.
    pub fn request_turn(&mut self) {
        self.outbox.push(Command::Turn);
    }

    /// Dials a peer. Returns the id of the connection at once: output that is sent before the connection is established
    /// is queued, and a reset cancels the dial. [`on_dialed`](super::Service::on_dialed) or
    /// [`on_dial_error`](super::Service::on_dial_error) follows with this id. An unreachable address can fail in the same
    /// turn: wait before the next attempt ([`set_timer`](Self::set_timer)). While the reactor is stopping, every dial fails.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Addr, ConnId, Context, Dial};
    ///
    /// /// Dials a server, and sends a request before the connection is established.
    /// fn request(ctx: &mut Context<'_>, server: Addr) -> ConnId {
    ///     let id = ctx.dial(Dial::to(server).within(Duration::from_secs(3)));
    ///     if let Some(mut upstream) = ctx.connection(id) {
    ///         upstream.send(b"GET / HTTP/1.0\r\n\r\n");
    ///     }
    ///     id
    /// }
    /// ```
    ///
    /// Only a service on streams owns connections. The reactor logs a dial by a service on datagrams as an error, and drops
    /// it without a callback.
    pub fn dial(&mut self, dial: Dial) -> ConnId {
        let id = self.directory.insert_connection(dial.facts());
        self.outbox.dial(id, dial);
        id
    }

    /// Listens at `addr` for this service, as [`Reactor::listen`](crate::reactor::Reactor::listen). Returns the id of the
    /// listener at once. [`on_listening`](super::Service::on_listening) follows with the result.
    ///
    /// Only a service on streams accepts connections. The reactor logs the request of a service on datagrams as an error,
    /// and drops it without a callback.
    pub fn listen(&mut self, addr: impl Into<Addr>, options: ListenOptions, policy: Policy) -> ListenerId {
        let id = self.directory.insert_listener();
        self.outbox.listen(id, Listen { addr: addr.into(), options, policy });
        id
    }

    /// Binds a datagram socket at `addr` for this service. Returns its id at once: datagrams of this callback are sent when
    /// the socket is bound. [`on_open`](super::DatagramService::on_open) or
    /// [`on_open_error`](super::DatagramService::on_open_error) follows with this id.
    ///
    /// Only a service on datagrams owns sockets. The reactor logs the request of a service on streams as an error, and drops
    /// it without a callback.
    pub fn bind_datagram(&mut self, addr: SocketAddr, options: ListenOptions) -> SocketId {
        let id = self.directory.insert_socket(SocketFacts::new(addr));
        self.outbox.bind(id, Bind { addr, options });
        id
    }

    /// Closes a listener, a datagram socket or a descriptor of the program, when this callback has returned. No callback
    /// about the source follows.
    ///
    /// - The connections that a listener has accepted live on. The kernel resets those that still wait in its backlog, as
    ///   after `Listener.Close` in Go. (A stopping reactor accepts them first.)
    /// - The datagrams that this callback has sent by a socket before leave first. Datagrams that wait for the kernel are
    ///   dropped and counted.
    /// - The program's own descriptor stays open: the reports end.
    /// - A connection is finished ([`Context::finish`]).
    pub fn close(&mut self, id: impl Into<SourceId>) {
        let id = id.into();
        let connection = ConnId::of(id);
        if self.directory.get(connection).is_some() {
            self.outbox.push(Command::Finish { of: connection });
        } else {
            self.outbox.close(id);
        }
    }

    /// Stops the reactor in an orderly way.
    pub fn stop_reactor(&mut self) {
        self.outbox.push(Command::Stop);
    }
}

impl fmt::Debug for ServiceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceContext").field("now", &self.now).finish_non_exhaustive()
    }
}
