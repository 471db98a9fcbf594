//! The contract between the machinery and the services.
//!
//! Owns: the traits [`Service`] (byte streams) and [`DatagramService`], and the types of both sides: [`Context`],
//! [`Command`], [`CloseReason`]. Must not know: sockets, mio, any clock, any protocol.
//!
//! A callback gets an event and *records* commands; the reactor applies them when the callback has returned. So a callback
//! never runs inside another one, never closes the connection under its own feet, and never waits.
//!
//! ```text
//!     reactor                                      service
//!     ───────                                      ───────
//!     accept, register   ── on_open ─────────────▶
//!     fill               ── on_data(input) ──────▶ returns the bytes consumed
//!                        ◀─ send, finish, … ─────  recorded in the outbox
//!     apply, flush
//!     fill met FIN       ── on_eof(rest) ────────▶ default: finish
//!     reap               ── on_close(reason) ────▶ exactly once
//! ```

mod command;
mod context;
mod conversation;
mod datagram;
mod dial;
mod directory;
mod listen;
mod outbox;
mod probe;
mod ready;
mod reason;
mod receive;

use std::any::Any;

pub use command::{Command, Span};
pub use context::{Context, DatagramContext, ServiceContext, SocketContext};
pub use conversation::{Conversation, PerConnection};
pub use datagram::{Connect, DatagramService, Payload, Recipient, Transmit, Transmits};
pub use dial::Dial;
pub use directory::{ConnectionFacts, Directory, SocketFacts};
pub use listen::{Bind, Listen, ListenOptions};
pub use outbox::Outbox;
pub use probe::{Probe, SentDatagram};
pub use ready::Ready;
pub use reason::{CloseReason, Errno};
pub use receive::Receive;

use crate::addr::Addr;
use crate::id::{DescriptorId, ListenerId};
use crate::timer::Deadline;

/// The name that a service gives to a timer of its own; see [`ServiceContext::set_timer`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerName(pub u64);

/// A protocol on byte streams: one object per service, shared by all its connections.
///
/// The state of one connection lives in a [`ConnMap`](crate::id::ConnMap), keyed by [`Context::id`], or in a
/// [`Conversation`]. All callbacks run on the thread of the reactor, and must not block:
/// [`Poster::offload`](crate::reactor::Poster::offload) runs work that does. The chapter `docs/library.md` of the repository
/// describes the life of a connection.
pub trait Service: Any {
    /// The reactor has begun to turn, or the service was added since: the moment for the first dial or timer.
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// A connection is established: accepted or adopted; also dialed, unless the service overrides
    /// [`on_dialed`](Self::on_dialed).
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// A dial has succeeded. The default calls [`on_open`](Self::on_open): the connection is treated like any other.
    ///
    /// A service that dials in `on_open` must override this. Otherwise each dialed connection dials again.
    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        self.on_open(ctx);
    }

    /// A dial has failed: no further callback for this id follows, and commands for it do nothing. The reason is
    /// [`CloseReason::Unreachable`] (connect(2)), [`CloseReason::SelfConnect`], [`CloseReason::DialDeadline`], or the
    /// [`CloseReason::Deadline`] that the service has set. After a reset, and when the reactor stops, the reason is
    /// [`CloseReason::Aborted`].
    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let _ = (ctx, reason);
    }

    /// The result of [`ServiceContext::listen`]: the address of the listener (port 0 lets the kernel choose the port), or the
    /// error of socket(2), setsockopt(2), bind(2) or listen(2). While the reactor is stopping, the error is ECANCELED. After an
    /// error commands for this id do nothing. A listener that the service has closed meanwhile has no result.
    fn on_listening(&mut self, ctx: &mut ServiceContext, id: ListenerId, outcome: Result<Addr, Errno>) {
        let _ = (ctx, id, outcome);
    }

    /// Bytes have arrived. Returns the number of bytes of `input` that are consumed, from its front. To return more than
    /// `input` has closes the connection ([`CloseReason::ServiceFault`]).
    ///
    /// The rest is offered again with the bytes that follow it, when a connection that was congested has drained, and after
    /// [`Context::resume`]. If the callback has used up [`Context::room`] and the kernel takes everything, the rest is offered
    /// again in the next turn. A failed write offers the rest once more before the end. At the FIN of the peer
    /// [`on_eof`](Self::on_eof) gets the rest. Leave bytes for three reasons only: an item that is not complete yet,
    /// [`Context::is_congested`], or [`Context::pause`].
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize;

    /// The peer has sent FIN; `rest` is the input that [`on_data`](Self::on_data) has left. The peer may still read, so the
    /// default flushes queued output and then sends our FIN.
    ///
    /// A service whose answer is made elsewhere (by a thread, by another connection) must override this: the default
    /// finishes the connection before the answer comes. Send the answer and finish then. While the connection is paused,
    /// this callback waits for the resume.
    ///
    /// With [`WhileDraining::Listen`](crate::limits::WhileDraining::Listen) `rest` may have complete items, which the service
    /// has left because it was congested.
    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        let _ = rest;
        ctx.finish();
    }

    /// The peer has sent FIN while the input of the connection is paused: the peer may be gone, or may still read the
    /// answer. [`on_eof`](Self::on_eof) follows when the input is resumed and read. Linux only (EPOLLRDHUP,
    /// epoll_ctl(2)).
    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// The output of a congested connection has fallen to its low-water mark, or was there when
    /// [`Context::await_drain`] asked.
    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// A deadline or a timeout has passed. Until it is set anew, nothing is read after a `Read` deadline and nothing is
    /// written after a `Write` deadline. The default closes the connection: with FIN, or with RST where output is lost. After
    /// [`Context::finish`] the connection ends without this callback.
    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        ctx.abort_because(CloseReason::Deadline(which));
    }

    /// A timer of this service has fired.
    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let _ = (ctx, timer);
    }

    /// The turn has begun that [`ServiceContext::request_turn`] has requested.
    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// A descriptor of this service is ready ([`Reactor::add_source`](crate::reactor::Reactor::add_source)). Edges are
    /// reported once: read or write until EAGAIN.
    ///
    /// ```
    /// use std::os::unix::net::UnixDatagram;
    /// use reactor::{Context, DescriptorId, Interest, Reactor, Ready, Service, ServiceContext};
    ///
    /// /// Counts the messages of a log, which arrive as datagrams at a Unix socket.
    /// struct Log(UnixDatagram, usize);
    ///
    /// impl Service for Log {
    ///     fn on_ready(&mut self, _: &mut ServiceContext, _: DescriptorId, _: Ready) {
    ///         let mut message = [0; 8192];
    ///         while self.0.recv(&mut message).is_ok() {
    ///             self.1 += 1;
    ///         }
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         input.len()
    ///     }
    /// }
    ///
    /// let (near, far) = UnixDatagram::pair()?;
    /// near.set_nonblocking(true)?;
    /// let mut reactor = Reactor::new()?;
    /// let descriptor = near.try_clone()?;
    /// let log = reactor.add_service("log", Box::new(Log(near, 0)));
    /// reactor.add_source(log, &descriptor, Interest::Readable)?;
    /// far.send(b"hello")?;
    /// while reactor.service::<Log>(log).is_some_and(|log| log.1 == 0) {
    ///     reactor.turn()?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn on_ready(&mut self, ctx: &mut ServiceContext, id: DescriptorId, ready: Ready) {
        let _ = (ctx, id, ready);
    }

    /// The process has received `signal` ([`Reactor::handle_signal`](crate::reactor::Reactor::handle_signal)). Several
    /// signals of one number before the turn may be one call (signal(7)).
    ///
    /// ```
    /// use reactor::{Context, Reactor, Service, ServiceContext};
    ///
    /// const SIGHUP: i32 = 1;
    ///
    /// /// Loads its table again at SIGHUP.
    /// struct Table(Vec<u8>);
    ///
    /// impl Service for Table {
    ///     fn on_signal(&mut self, _: &mut ServiceContext, _signal: i32) {
    ///         self.0 = std::fs::read("/etc/services").unwrap_or_default();
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         input.len()
    ///     }
    /// }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let table = reactor.add_service("table", Box::new(Table(Vec::new())));
    /// reactor.handle_signal(table, SIGHUP)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn on_signal(&mut self, ctx: &mut ServiceContext, signal: i32) {
        let _ = (ctx, signal);
    }

    /// The reactor begins to stop. Once for each service, also for a service without connections, before
    /// [`on_stop`](Self::on_stop) of its connections. From now on [`ServiceContext::is_stopping`] returns true, listeners are
    /// closed and dials do nothing.
    fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// The reactor is stopping. The default serves the input that has already arrived and then finishes. A connection whose
    /// input is paused is not quiet: an answer may be under way. It goes on until the service resumes or finishes it, or the
    /// grace period ends.
    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.finish_when_quiet();
    }

    /// The connection is closed. Exactly once for each connection that was opened. No further callback for this id follows,
    /// and commands for it do nothing. Its addresses are known until this callback has returned, and other connections can
    /// be reached.
    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let _ = (ctx, reason);
    }
}
