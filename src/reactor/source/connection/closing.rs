//! The end of a connection: finish and abort, FIN after the last byte, the wait for the peer's, and the quiet that a
//! stopping reactor waits for.
//!
//! Owns: every transition towards [`Halves::Over`]. Must not know: what is in the buffers.

use super::Connection;
use crate::buffer::Buffer;
use crate::limits::CATCH_UP;
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::source::connection::halves::{Halves, Outbound};
use crate::reactor::sys::stream::{self as socket, Outcome, Stream};
use crate::service::CloseReason;
use crate::timer::{Deadline, Time};

impl<S: Stream> Connection<S> {
    /// No more output: flush, send FIN, discard what still comes.
    pub fn finish(&mut self) {
        if self.is_connecting() {
            self.end(CloseReason::Aborted);
        } else if self.halves.finish() {
            self.unread = Buffer::new();
            self.drained = false;
            self.deadlines.set(Deadline::Read, Time::NEVER);
            self.deadlines.set(Deadline::Linger, Time::NEVER);
            if self.deadlines.has_lapsed(Deadline::Write) && !self.output.is_empty() {
                // What is queued may not be written any more, and FIN would have to wait for it.
                self.end(CloseReason::Deadline(Deadline::Write));
            }
        }
    }

    /// No more output: flush, send FIN, and go on listening.
    pub fn half_close(&mut self) {
        if self.is_connecting() {
            self.end(CloseReason::Aborted);
        } else {
            self.halves.half_close();
        }
    }

    /// Finish as soon as it is quiet: when what has arrived is answered, and, if the peer was held back until now, what
    /// it could not send meanwhile.
    pub fn finish_when_quiet(&mut self, now: Time) {
        self.finish_when_quiet = true;
        self.timed = true;
        if self.is_heard() {
            self.readiness.suppose_readable();
        }
        if self.is_served() && self.catching_up > now {
            self.deadlines.set(Deadline::Linger, self.catching_up);
        }
    }

    /// It was congested until now: its peer may send again what it could not send meanwhile.
    pub(super) fn no_longer_held_back(&mut self, now: Time) {
        self.catching_up = now + CATCH_UP;
        if self.finish_when_quiet && self.is_served() {
            self.deadlines.set(Deadline::Linger, self.catching_up);
        }
    }

    /// Bytes have come while the reactor stops: more may be on their way. One that was held back has until it is silent.
    /// Another has one moment: two that answer each other without end must not hold up the stop.
    #[cold]
    pub(super) fn expect_more(&mut self, now: Time) {
        if self.catching_up > now {
            self.catching_up = now + CATCH_UP;
            self.deadlines.set(Deadline::Linger, self.catching_up);
        } else if self.deadlines.due(Deadline::Linger).is_never() {
            self.deadlines.set(Deadline::Linger, now + CATCH_UP);
        }
    }

    /// It will be closed at the end of the turn. The first reason stands.
    pub fn end(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
        self.halves = Halves::Over;
    }

    /// Makes the transitions that follow from its state: FIN after the last byte, and the end after both FINs.
    pub fn settle(&mut self, now: Time, recorder: &mut Recorder) {
        if self.ending.is_some() {
            return;
        }
        if self.shall_finish() {
            self.finish();
        }
        if self.halves.outbound() == Outbound::Finishing && self.output.is_empty() {
            if let Outcome::Failed(errno) = socket::shutdown(&self.stream, self.info.id, recorder) {
                self.end(socket::close_reason(errno));
                return;
            }
            self.halves.fin_sent();
        }
        if self.halves == Halves::Lingering && self.deadlines.due(Deadline::Linger).is_never() {
            self.deadlines.set(Deadline::Linger, now + self.policy.linger);
        }
        if self.halves == Halves::Over {
            self.end(CloseReason::Finished);
        }
    }

    /// It is to finish when it is quiet, and it is: whatever had arrived has been served, and more need not be expected.
    pub(super) fn shall_finish(&self) -> bool {
        self.finish_when_quiet && self.is_served() && self.is_quiet()
    }

    /// Nothing to read, nothing to write, nothing on its way.
    fn is_quiet(&self) -> bool {
        let may_be_read = self.is_heard() && self.readiness.readable() && !self.deadlines.has_lapsed(Deadline::Read);
        !self.queued && !self.drained && !may_be_read && self.output.is_empty() && !self.is_catching_up()
    }

    /// The reactor is stopping, and more may be on its way.
    fn is_catching_up(&self) -> bool {
        !self.deadlines.due(Deadline::Linger).is_never() && !self.deadlines.has_lapsed(Deadline::Linger)
    }

    /// Takes the error that an event has announced, if no call has met it yet.
    pub fn take_error(&mut self, recorder: &mut Recorder) {
        self.readiness.error_taken();
        if let Some(reason) = self.broken {
            self.end(reason);
        } else if let Some(errno) = socket::take_error(&self.stream, self.info.id, recorder) {
            self.end(socket::close_reason(errno));
        }
    }

    /// The linger of a stopping reactor is shorter.
    pub fn hasten(&mut self, linger_due: Time) {
        if self.halves == Halves::Lingering && self.deadlines.due(Deadline::Linger) > linger_due {
            self.deadlines.set(Deadline::Linger, linger_due);
        }
    }
}
