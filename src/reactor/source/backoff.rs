//! The pause of a source after an error of resources.
//!
//! Owns: [`Backoff`]. Must not know: which source, the wheel.
//!
//! A listener without descriptors and a datagram socket without memory get no event when the shortage is over: the edge
//! is spent. Such a source is left alone for [`BACKOFF`](crate::limits::BACKOFF) and then tries again.
//!
//! ```text
//!     Off ── begin ──▶ Requested ── take_request ──▶ Waiting ── end ──▶ Retrying
//!      ▲                   ▲                                               │
//!      └─── succeeded ─────┼───────────────────────────────────────────────┤
//!                          └────────────────────── begin ──────────────────┘
//! ```
//!
//! Invariants:
//! 1. From `Waiting` only the alarm leads on: the reactor sets it when it takes the request.
//! 2. The operator is warned once, at the step from `Off`.

/// Whether a source backs off.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Backoff {
    /// The last call succeeded.
    #[default]
    Off,
    /// A call failed. The alarm is not set yet.
    Requested,
    /// The alarm is set.
    Waiting,
    /// The alarm has fired, and the source tries again.
    Retrying,
}

impl Backoff {
    /// A call failed: requests a pause. Returns true if the operator is to be warned.
    pub fn begin(&mut self) -> bool {
        std::mem::replace(self, Backoff::Requested) == Backoff::Off
    }

    /// Takes the request for an alarm. Returns true if there was one: the caller sets the alarm.
    pub fn take_request(&mut self) -> bool {
        let requested = *self == Backoff::Requested;
        if requested {
            *self = Backoff::Waiting;
        }
        requested
    }

    /// The alarm has fired.
    pub fn end(&mut self) {
        *self = Backoff::Retrying;
    }

    /// A call succeeded. Returns true if the source had backed off before.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(self) != Backoff::Off
    }

    /// Returns true while the source is left alone.
    pub fn is_pausing(self) -> bool {
        matches!(self, Backoff::Requested | Backoff::Waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_warned_once_until_a_call_succeeds() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_pausing());
        assert!(backoff.begin() && backoff.is_pausing());
        assert!(backoff.take_request() && !backoff.take_request() && backoff.is_pausing());
        backoff.end();
        assert!(!backoff.is_pausing());
        assert!(!backoff.begin(), "a second warning");
        assert!(backoff.take_request());
        backoff.end();
        assert!(backoff.succeeded() && !backoff.succeeded());
        assert!(backoff.begin(), "the next shortage is a new one");
    }
}
