//! The end of a connection: finish and abort, FIN after the last byte, the wait for the FIN of the peer, and the quiet
//! that a stopping reactor waits for.
//!
//! Owns: every transition towards [`Halves::Over`]. Must not know: what is in the buffers.

use super::Connection;
use super::halves::{Halves, Inbound, Outbound};
use crate::limits::CATCH_UP;
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::sys::outcome::{Outcome, close_reason};
use crate::reactor::sys::stream::{self, Stream};
use crate::service::CloseReason;
use crate::timer::{Deadline, DeadlineKind, Time};

/// Whether a connection ends, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The connection goes on.
    No,
    /// Nothing can be written any more, for this reason. Input that arrived before is still read.
    AfterInput(CloseReason),
    /// The connection is closed at the end of the turn, for this reason.
    Now(CloseReason),
}

/// The end of the output of a connection that is being dialed. FIN follows the queued output as soon as the connection is
/// established.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterDial {
    /// The output goes on.
    GoOn,
    /// The output ends, and input is delivered.
    HalfClose,
    /// The output ends, and input is discarded.
    Finish,
}

/// How far a connection is on its way to `finish_when_quiet`, which a stopping reactor asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stopping {
    /// Not requested.
    No,
    /// Requested. The first input that comes meanwhile sets the linger deadline, later input does not extend it: two
    /// peers that answer each other without end must not hold up the stop.
    WhenQuiet,
    /// Requested, and reading had been suspended: each input extends the linger deadline, until the peer is silent.
    CatchingUp,
}

impl Stopping {
    /// Returns true if the connection is to finish when it is quiet.
    #[inline]
    pub fn is_requested(self) -> bool {
        self != Stopping::No
    }
}

impl<S: Stream> Connection<S> {
    /// Returns the reason for which the connection is about to be closed.
    #[inline]
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.ending {
            Ending::Now(reason) => Some(reason),
            _ => None,
        }
    }

    /// Returns the error of a write, while the input before it is still read.
    #[inline]
    pub(super) fn write_error(&self) -> Option<CloseReason> {
        match self.ending {
            Ending::AfterInput(reason) => Some(reason),
            _ => None,
        }
    }

    /// Closes the connection for `reason` as soon as its input is read.
    pub(super) fn end_after_input(&mut self, reason: CloseReason) {
        if self.ending == Ending::No {
            self.ending = Ending::AfterInput(reason);
        }
    }

    /// Closes the connection at the end of the turn. The first reason stands.
    pub fn end(&mut self, reason: CloseReason, recorder: &mut Recorder) {
        if self.close_reason().is_none() {
            self.ending = Ending::Now(reason);
            self.set_halves(Halves::Over, recorder);
        }
    }

    /// Closes the connection at the end of the turn, with RST: the peer must not take the end for an orderly one.
    pub fn reset(&mut self, recorder: &mut Recorder) {
        if self.close_reason().is_none() {
            self.resets = true;
            self.end(CloseReason::Aborted, recorder);
        }
    }

    /// Returns true if the peer is to see RST: the service has reset the connection, or the connection was given up, or
    /// queued output is lost. Lost output must not look like a complete answer.
    pub fn ends_with_reset(&self) -> bool {
        self.resets || !self.output.is_empty() || self.close_reason().is_some_and(CloseReason::gives_up)
    }

    /// Ends the output, flushes, sends FIN, and discards further input.
    pub fn finish(&mut self, recorder: &mut Recorder) {
        let finished = self.halves.after_finish();
        if self.is_connecting() {
            self.after_dial = AfterDial::Finish;
        } else if finished != self.halves {
            self.set_halves(finished, recorder);
            self.unread.clear();
            self.take_drained();
            self.deadlines.set(DeadlineKind::Read, Time::NEVER);
            self.deadlines.set(DeadlineKind::Linger, Time::NEVER);
            if self.deadlines.is_expired(DeadlineKind::Write) && !self.output.is_empty() {
                // Queued bytes may not be written any more, and FIN would have to wait for them.
                self.end(CloseReason::Deadline(Deadline::Write), recorder);
            }
        }
    }

    /// Ends the output, flushes, sends FIN, and goes on delivering input.
    pub fn half_close(&mut self, recorder: &mut Recorder) {
        if self.is_connecting() {
            if self.after_dial == AfterDial::GoOn {
                self.after_dial = AfterDial::HalfClose;
            }
        } else {
            self.set_halves(self.halves.after_half_close(), recorder);
        }
    }

    /// Finishes as soon as the connection is quiet: all input that has arrived is answered. After a suspension of reading,
    /// that includes the input that the peer could not send meanwhile.
    pub fn finish_when_quiet(&mut self, now: Time) {
        if !self.stopping.is_requested() {
            self.renewals.on_read = true;
            self.stopping = Stopping::WhenQuiet;
            if self.halves.service_decides() && self.catch_up_until > now {
                self.stopping = Stopping::CatchingUp;
                self.deadlines.set(DeadlineKind::Linger, self.catch_up_until);
            }
        }
        if self.halves.delivers_input() {
            self.readiness.assume_readable();
        }
    }

    /// Reading was suspended until now. The peer may send again what it could not send meanwhile.
    pub(super) fn reading_resumed(&mut self, now: Time) {
        self.catch_up_until = now + CATCH_UP;
        if self.stopping.is_requested() && self.halves.service_decides() {
            self.stopping = Stopping::CatchingUp;
            self.deadlines.set(DeadlineKind::Linger, self.catch_up_until);
        }
    }

    /// Input has come. If the reactor is stopping, more may be on its way: see [`Stopping`].
    #[inline]
    pub(super) fn expect_more(&mut self, now: Time) {
        if !self.stopping.is_requested() || !self.halves.service_decides() {
            return;
        }
        let due = self.deadlines.due(DeadlineKind::Linger);
        let extends = match self.stopping {
            Stopping::CatchingUp => due > now,
            _ => due.is_never(),
        };
        if extends {
            self.deadlines.set(DeadlineKind::Linger, now + CATCH_UP);
        }
    }

    /// Makes the transitions that follow from the state: FIN after the last byte, and the end after both FINs.
    pub fn advance(&mut self, now: Time, recorder: &mut Recorder) {
        self.unread.forget_request();
        if self.close_reason().is_some() {
            return;
        }
        if self.may_finish() {
            self.finish(recorder);
        }
        if self.halves.outbound() == Outbound::Finishing && self.output.is_empty() {
            self.send_fin(now, recorder);
        }
        if self.halves == Halves::Lingering && self.deadlines.due(DeadlineKind::Linger).is_never() {
            self.deadlines.set(DeadlineKind::Linger, now + self.policy.linger);
        }
    }

    /// Sends FIN after the last byte. After an error there is no FIN: the connection ends with the error, as soon as the
    /// service has the input that still goes to it.
    fn send_fin(&mut self, now: Time, recorder: &mut Recorder) {
        if let Some(reason) = self.write_error() {
            if !self.halves.service_decides() {
                self.end(reason, recorder);
            }
            return;
        }
        if let Outcome::Failed(errno) = stream::shutdown(&self.stream, self.id.into(), recorder) {
            return self.fail(close_reason(errno), now, recorder);
        }
        match self.halves.after_fin() {
            Halves::Over => self.end(CloseReason::Finished, recorder),
            sent => self.set_halves(sent, recorder),
        }
    }

    /// Returns true if `finish_when_quiet` was requested and nothing is left to read, write or wait for.
    pub(super) fn may_finish(&self) -> bool {
        self.stopping.is_requested() && self.halves.service_decides() && self.is_quiet()
    }

    /// Returns true if there is nothing to read, nothing to write, no callback owed, and no input expected.
    fn is_quiet(&self) -> bool {
        let may_be_read =
            self.halves.delivers_input() && self.readiness.readable() && !self.deadlines.is_expired(DeadlineKind::Read);
        let is_owed_callback = self.flow.is_drained() || self.wants_offer() || self.owes_peer_closed();
        let expects_input =
            !self.deadlines.due(DeadlineKind::Linger).is_never() && !self.deadlines.is_expired(DeadlineKind::Linger);
        // A service that has paused its input has an answer under way.
        let is_paused = self.halves.inbound() == Inbound::Paused;
        !may_be_read
            && !is_paused
            && !is_owed_callback
            && self.output.is_empty()
            && !expects_input
            && !self.has_bytes_in_pipe()
    }

    /// Returns true if an event has announced an error and input may precede it, which is read first.
    pub fn drain_before_error(&self) -> bool {
        self.readiness.error() && self.wants_fill() && self.halves.delivers_input()
    }

    /// Returns true if an event has announced an error that is to be taken now. Input that arrived before the error comes
    /// first: the unread input that is about to be offered, and during a pause the bytes that are still in the socket.
    pub fn owes_error(&self) -> bool {
        self.readiness.error() && self.halves.inbound() != Inbound::Paused && !self.wants_offer()
    }

    /// Takes the error that an event has announced, if no call has met it yet.
    pub fn take_error(&mut self, now: Time, recorder: &mut Recorder) {
        self.readiness.error_taken();
        if let Some(reason) = self.write_error() {
            self.end(reason, recorder);
        } else if let Some(errno) = stream::take_error(&self.stream, self.id.into(), recorder) {
            // Congestion, whose output may not be written after the write deadline, still keeps input from the service.
            self.fail(close_reason(errno), now, recorder);
        }
    }

    /// Shortens the linger of a connection of a stopping reactor.
    pub fn limit_linger(&mut self, linger_due: Time) {
        if self.halves == Halves::Lingering && self.deadlines.due(DeadlineKind::Linger) > linger_due {
            self.deadlines.set(DeadlineKind::Linger, linger_due);
        }
    }
}
