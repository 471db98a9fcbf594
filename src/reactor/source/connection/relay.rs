//! A connection whose whole input goes to another one: the service has handed its bytes over.
//!
//! Owns: [`Relay`], the pipe that the bytes pass through, and the choice between copying and the pipe. Must not know: the
//! other connection.
//!
//! A copy is cheaper for small pieces, and the pipe for bulk: two system calls and no byte in user space. So the pipe is
//! used after full reads in a row, and given back after a short one.

use super::Connection;
use crate::id::ConnId;
use crate::limits::SPLICE_AFTER;
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::sys::outcome::Outcome;
use crate::reactor::sys::pipe::Pipe;
use crate::reactor::sys::stream::Stream;
use crate::timer::{Deadline, DeadlineKind, Time};

/// The way of the input of a connection to another one.
#[derive(Debug)]
pub struct Relay {
    /// The connection that the input goes to.
    pub to: ConnId,
    /// The pipe, while the input is bulk.
    pub pipe: Option<Pipe>,
    /// Reads in a row that filled their buffer.
    full_reads: u32,
    /// The kernel has no pipe for these streams.
    copies_only: bool,
}

impl Relay {
    /// Notes a copied read of `n` bytes of at most `asked`.
    pub fn note_read(&mut self, n: usize, asked: usize) {
        self.full_reads = if n < asked { 0 } else { self.full_reads + 1 };
    }

    /// Returns true if the next bytes are to pass through the pipe.
    pub fn wants_pipe(&self) -> bool {
        !self.copies_only && self.full_reads >= SPLICE_AFTER
    }

    /// The kernel has no pipe, or none for these streams: the bytes are copied from now on.
    pub fn refuse_pipe(&mut self) {
        self.copies_only = true;
    }

    /// Takes the empty pipe: what comes now is no bulk.
    pub fn end_bulk(&mut self) -> Option<Pipe> {
        self.full_reads = 0;
        self.pipe.take_if(|pipe| pipe.len() == 0)
    }

    /// Returns the number of bytes in the pipe.
    pub fn len(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::len)
    }
}

impl<S: Stream> Connection<S> {
    /// Hands all further input to the connection `to`. Input that the service has left goes first. A second call for the same
    /// connection changes nothing.
    pub fn relay_to(&mut self, to: ConnId) {
        if self.relay().is_some_and(|relay| relay.to == to) {
            return;
        }
        let relay = Relay { to, pipe: None, full_reads: 0, copies_only: false };
        self.detour_mut().relay = Some(Box::new(relay));
        self.unread.offer_again();
        self.note_detour();
    }

    /// Returns the connection that the input goes to, if the service has handed its bytes over.
    pub fn relays_to(&self) -> Option<ConnId> {
        if self.has_detour { self.relay().map(|relay| relay.to) } else { None }
    }

    /// Returns the way of the input to another connection.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.detour.as_ref()?.relay.as_deref()
    }

    /// Takes the relay, to be put back with [`put_relay`](Self::put_relay).
    pub fn take_relay(&mut self) -> Option<Box<Relay>> {
        self.detour.as_mut()?.relay.take()
    }

    /// Puts the relay back.
    pub fn put_relay(&mut self, relay: Box<Relay>) {
        self.detour_mut().relay = Some(relay);
    }

    /// Returns true if the kernel may take bytes of a pipe now: no output is queued, which would have to go first.
    pub fn takes_pour(&self) -> bool {
        self.output.is_empty() && self.will_take_pour() && self.can_pour()
    }

    /// Returns true if the connection takes output, now or later.
    fn will_take_pour(&self) -> bool {
        self.takes_output() && self.write_error().is_none() && self.close_reason().is_none()
    }

    fn can_pour(&self) -> bool {
        self.readiness.writable() && !self.is_connecting() && !self.deadlines.is_expired(DeadlineKind::Write)
    }

    /// Notes the outcome of a pour.
    pub fn note_pour(&mut self, outcome: Outcome, now: Time, recorder: &mut Recorder) {
        self.note_write(outcome, now, recorder);
    }

    /// Keeps `source`, whose pipe holds bytes for this connection, until they can be poured. Returns false if they never
    /// can.
    pub fn hold_pour(&mut self, source: ConnId, now: Time) -> bool {
        if !self.will_take_pour() {
            return false;
        }
        if !std::mem::replace(&mut self.detour_mut().is_awaited_by_pipe, true) {
            self.renew(Deadline::Write, now);
        }
        self.add_waiter(source);
        true
    }

    /// Returns true while the bytes of a pipe wait.
    pub(super) fn awaits_pour(&self) -> bool {
        self.is_awaited_by_pipe() && !(self.output.is_empty() && self.can_pour())
    }

    /// Returns true if bytes in the pipe can go on.
    pub fn wants_pour(&self) -> bool {
        !self.is_held() && self.has_bytes_in_pipe()
    }

    /// Returns true while the pipe holds bytes of this connection.
    pub(super) fn has_bytes_in_pipe(&self) -> bool {
        self.has_detour && self.relay().is_some_and(|relay| relay.len() > 0)
    }
}
