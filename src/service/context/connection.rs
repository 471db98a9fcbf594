//! The view of one connection.
//!
//! Owns: [`Context`]. Must not know: the effects of commands.

use std::ops::{Deref, DerefMut};

use super::ServiceContext;
use crate::addr::{Addr, Credentials};
use crate::id::ConnId;
use crate::service::command::{Command, Span};
use crate::service::directory::ConnectionFacts;
use crate::service::reason::CloseReason;
use crate::timer::{Deadline, Time, Timeout};

/// The view of one connection: its facts and its verbs.
///
/// A callback about a connection has the view of that connection. [`ServiceContext::connection`] returns the view of any
/// other. Each verb records a command, which the reactor applies when the callback has returned. A command for a connection
/// that has ended meanwhile does nothing.
#[derive(Debug)]
pub struct Context<'a> {
    service: &'a mut ServiceContext,
    id: ConnId,
}

impl<'a> Context<'a> {
    /// Returns the view of the connection `id`.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, id: ConnId) -> Self {
        Self { service, id }
    }

    fn facts(&self) -> &ConnectionFacts {
        // A view is made of a row that exists, and no row goes while a callback runs.
        self.service.directory.get(self.id).expect("the row of a connection outlives its callbacks")
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Returns the address of the peer. An IPv4 peer of an IPv6 socket has its IPv4 address here; an IPv6 address keeps its
    /// zone. The peer on a Unix socket usually has no name.
    pub fn peer_addr(&self) -> Addr {
        self.facts().peer.to_canonical()
    }

    /// Returns the process, the user and the group of the peer on a Unix socket (`SO_PEERCRED`, unix(7)). `None` for every
    /// other connection, while the connection is being dialed, and on systems other than Linux.
    pub fn peer_credentials(&self) -> Option<Credentials> {
        self.facts().credentials.as_deref().copied()
    }

    /// Returns the local address of the connection (getsockname(2)), as [`peer_addr`](Self::peer_addr). It is unspecified
    /// (`0.0.0.0:0`) while the connection is being dialed.
    pub fn local_addr(&self) -> Addr {
        self.facts().local.to_canonical()
    }

    /// Returns true if the queued output and the output of this callback have reached the high-water mark: there is no
    /// [`room`](Self::room). A service that answers many requests in one callback leaves the rest of its input unconsumed
    /// then.
    pub fn is_congested(&self) -> bool {
        self.room() == 0
    }

    /// Returns the number of bytes that may be sent until the connection is congested. Every byte that this callback has
    /// sent counts, whatever its connection.
    pub fn room(&self) -> usize {
        self.facts().room().saturating_sub(self.service.outbox.byte_count())
    }

    /// Returns the number of bytes that wait for the kernel. The output of this callback does not count, nor a broadcast
    /// of this turn. While bytes are queued, a silent peer may not be idle: it may have more input, and wait until the
    /// connection is read again.
    pub fn queued(&self) -> usize {
        self.facts().queued
    }

    /// Sends `bytes`. They are written at once if nothing is queued and the kernel takes them, and queued otherwise: also
    /// while the connection is being dialed. Nothing drops the connection for it, so the service bounds the queue of
    /// another connection ([`await_drain`](Self::await_drain)).
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.service.outbox.send(self.id, bytes);
    }

    /// Sends the bytes that `encode` appends to the vector. The vector may have other bytes at its front.
    ///
    /// ```
    /// use std::io::Write;
    /// use reactor::Context;
    ///
    /// fn answer(ctx: &mut Context<'_>, number: u64) -> std::io::Result<()> {
    ///     ctx.send_with(|out| writeln!(out, "{number}"))
    /// }
    /// ```
    ///
    /// # Panics
    /// If `encode` makes the vector shorter.
    #[inline]
    pub fn send_with<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.service.outbox.send_with(self.id, encode)
    }

    /// Sends `part` of the input that this callback was given, without copying it first.
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.service.outbox.send_input(part);
    }

    /// Sends the part of the input that this callback was given to the connection `to`, without copying it first. The
    /// input of this connection is not read again until the output of `to` is at its low-water mark or `to` has ended. At
    /// most that mark and one read are ever queued. The reactor resumes the input by itself, apart from
    /// [`pause`](Self::pause) and [`resume`](Self::resume). With [`Policy::relay`](crate::limits::Policy::relay) on both
    /// connections that is a forwarder:
    ///
    /// ```
    /// use reactor::service::Span;
    /// use reactor::{ConnId, ConnMap, Context};
    ///
    /// fn on_data(peers: &ConnMap<ConnId>, ctx: &mut Context<'_>, input: &[u8]) -> usize {
    ///     if let Some(&peer) = peers.get(ctx.id()) {
    ///         ctx.forward(peer, Span::of(input));
    ///     }
    ///     input.len()
    /// }
    /// ```
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn forward(&mut self, to: ConnId, part: Span) {
        self.service.outbox.forward(self.id, to, part);
    }

    /// Hands all further input to the connection `to`, also the part of it that the service has left: `on_data` is not called
    /// any more. The reactor passes each piece on as [`forward`](Self::forward) does, and bulk through a pipe inside the
    /// kernel (splice(2), Linux). [`on_eof`](super::super::Service::on_eof) follows when the peer has sent FIN and its last
    /// byte has gone on.
    ///
    /// For a service that does not look at the bytes. If this connection ends by an error, bytes in the pipe are lost.
    pub fn splice(&mut self, to: ConnId) {
        self.service.outbox.push(Command::Splice { from: self.id, to });
    }

    /// Finishes the connection: queued output is flushed, FIN is sent, and further input is read and discarded until the FIN
    /// of the peer or the linger deadline. An earlier close would make the kernel answer unread bytes with RST, and the
    /// peer could lose the end of the output.
    pub fn finish(&mut self) {
        self.service.outbox.push(Command::Finish { of: self.id });
    }

    /// Finishes the output and goes on delivering input: queued output is flushed and FIN is sent (Go's `CloseWrite`). The
    /// connection ends with the FIN of the peer. A read deadline can set a bound for that.
    pub fn half_close(&mut self) {
        self.service.outbox.push(Command::HalfClose { of: self.id });
    }

    /// Serves the input that has arrived, and finishes as soon as nothing is left to read or to write.
    pub fn finish_when_quiet(&mut self) {
        self.service.outbox.push(Command::FinishWhenQuiet { of: self.id });
    }

    /// Closes the connection with RST, so that the peer cannot take the end for an orderly one. Queued output is lost. A
    /// Unix socket has no RST: its peer reads the end of file.
    pub fn reset(&mut self) {
        self.service.outbox.push(Command::Reset { of: self.id });
    }

    /// Closes the connection now. If queued output is lost, the peer sees RST.
    pub fn abort(&mut self) {
        self.abort_because(CloseReason::Aborted);
    }

    /// Closes the connection now, for `reason`.
    pub fn abort_because(&mut self, reason: CloseReason) {
        self.service.outbox.push(Command::Abort { of: self.id, reason });
    }

    /// Pauses the input until [`resume`](Self::resume): the buffers of the kernel fill up, and the window of the peer closes.
    /// Input that `on_data` leaves waits as well, and so does the FIN of the peer
    /// ([`on_peer_closed`](crate::service::Service::on_peer_closed) announces it). Output and deadlines go on, except for
    /// [`Deadline::Read`]. A stop waits for the resume, within the grace period. [`Poster::offload`] has an example.
    ///
    /// [`Poster::offload`]: crate::reactor::Poster::offload
    pub fn pause(&mut self) {
        self.service.outbox.push(Command::Pause { of: self.id });
    }

    /// Requests [`Service::on_drain`](crate::service::Service::on_drain) as soon as the output is at its low-water mark, which may be
    /// at once. When forwarding data from another source, call this after each piece: at most the low-water mark plus one
    /// piece is then queued. The request has no other effect.
    pub fn await_drain(&mut self) {
        self.service.outbox.push(Command::AwaitDrain { of: self.id });
    }

    /// Resumes the input after [`pause`](Self::pause). Unread input is offered again first, also if this callback has paused
    /// the connection itself. Without a pause this verb does nothing.
    pub fn resume(&mut self) {
        self.service.outbox.push(Command::Resume { of: self.id });
    }

    /// Sets one deadline: absolute, independent of the others, in force until it is set anew, as in Go. Bytes do not renew
    /// it, and a timeout of the policy does not replace it. [`Time::NEVER`] means no deadline. A deadline in the past acts
    /// as soon as this callback has returned, before any input that is ready.
    pub fn set_deadline(&mut self, which: Deadline, due: Time) {
        self.service.outbox.push(Command::SetDeadline { of: self.id, which, due });
    }

    /// Sets the timeout of this connection for one deadline, in place of the policy's: the deadline is due `timeout` from
    /// now, and bytes renew it. Zero switches it off.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Context, Deadline};
    ///
    /// fn on_login(ctx: &mut Context<'_>) {
    ///     // Ten seconds before the login, five minutes of silence after it.
    ///     ctx.set_timeout(Deadline::Read, Duration::from_secs(300));
    /// }
    /// ```
    pub fn set_timeout(&mut self, which: Deadline, timeout: impl Into<Timeout>) {
        self.service.outbox.push(Command::SetTimeout { of: self.id, which, timeout: timeout.into() });
    }

    /// Sets the timeout of the policy again, in place of the deadline or timeout that was set. Without such a timeout
    /// there is no deadline.
    pub fn restore_timeout(&mut self, which: Deadline) {
        self.service.outbox.push(Command::RestoreTimeout { of: self.id, which });
    }
}

impl Deref for Context<'_> {
    type Target = ServiceContext;

    fn deref(&self) -> &ServiceContext {
        self.service
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut ServiceContext {
        self.service
    }
}
