//! Bytes that go from one connection to another: which connections wait for the output of this one, and for whose output
//! this one waits.
//!
//! Owns: [`Detour`]. Must not know: the other connections.
//!
//! Invariants:
//! 1. A connection without a detour has none of this state: it costs one pointer.
//! 2. `has_detour` is set while any of it matters. The fast path knows no detour.

use super::Connection;
use super::relay::Relay;
use crate::id::ConnId;
use crate::reactor::sys::stream::Stream;
use crate::timer::{Deadline, Time};

/// The state of a connection that bytes are forwarded from or to.
#[derive(Debug, Default)]
pub(super) struct Detour {
    /// The number of connections whose output this one waits for: it is not read meanwhile.
    held_by: u32,
    /// The connections that wait for the output of this one.
    waiters: Vec<ConnId>,
    /// Where all input goes, if the service has handed it over.
    pub(super) relay: Option<Box<Relay>>,
    /// The bytes of a pipe wait until the kernel takes them.
    pub(super) is_awaited_by_pipe: bool,
}

impl<S: Stream> Connection<S> {
    /// Returns the detour, which is made at the first call.
    pub(super) fn detour_mut(&mut self) -> &mut Detour {
        self.detour.get_or_insert_default()
    }

    /// Copies for the fast path if bytes go to or come from another connection.
    pub(super) fn note_detour(&mut self) {
        self.has_detour = self
            .detour
            .as_ref()
            .is_some_and(|detour| detour.held_by > 0 || !detour.waiters.is_empty() || detour.relay.is_some());
    }

    /// Returns true if bytes go to or come from another connection.
    #[inline]
    pub fn has_detour(&self) -> bool {
        self.has_detour
    }

    /// Returns true if this connection waits for the output of another.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.has_detour && self.detour.as_ref().is_some_and(|detour| detour.held_by > 0)
    }

    /// Returns true if bytes of a pipe wait for this connection.
    #[inline]
    pub(super) fn is_awaited_by_pipe(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.is_awaited_by_pipe)
    }

    /// Keeps `source`, whose input is forwarded here, as a waiter while more than the low-water mark is queued. Returns
    /// true if it has to wait.
    pub fn hold(&mut self, source: ConnId) -> bool {
        let holds = self.holds();
        if holds {
            self.add_waiter(source);
        }
        holds
    }

    /// Keeps `source` until the output has drained, or the pipe can be poured.
    pub(super) fn add_waiter(&mut self, source: ConnId) {
        self.detour_mut().waiters.push(source);
        self.note_detour();
    }

    /// Returns true while connections whose input is forwarded here have to wait.
    fn holds(&self) -> bool {
        (self.output.len() > self.policy.low_water || self.awaits_pour())
            && self.write_error().is_none()
            && self.close_reason().is_none()
    }

    /// Returns true if connections wait for the output of this one.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.has_detour && self.detour.as_ref().is_some_and(|detour| !detour.waiters.is_empty())
    }

    /// Takes the connections that have waited, if their wait is over.
    pub fn take_waiters(&mut self) -> Option<Vec<ConnId>> {
        if !self.has_waiters() || self.holds() {
            return None;
        }
        let detour = self.detour_mut();
        let waiters = std::mem::take(&mut detour.waiters);
        if std::mem::take(&mut detour.is_awaited_by_pipe) {
            self.end_write_timeout();
        }
        self.note_detour();
        Some(waiters)
    }

    /// Gives the memory of the waiters back: the next piece has the same one.
    pub fn recycle_waiters(&mut self, mut waiters: Vec<ConnId>) {
        let detour = self.detour_mut();
        if detour.waiters.is_empty() {
            waiters.clear();
            detour.waiters = waiters;
        }
    }

    /// The connection that the input goes to has not drained: this one is not read.
    pub fn held(&mut self) {
        self.detour_mut().held_by += 1;
        self.note_detour();
    }

    /// The connection that the input goes to has drained or ended.
    pub fn released(&mut self, now: Time) {
        let detour = self.detour_mut();
        detour.held_by = detour.held_by.saturating_sub(1);
        self.note_detour();
        if !self.is_held() {
            self.renew(Deadline::Read, now);
            self.reading_resumed(now);
        }
    }
}
