//! The bytes of a connection on their way: fill and flush between the socket and the buffers, send and unread input
//! between the buffers and the service.
//!
//! Owns: which result of a call clears a bit of readiness, the marks between which the output of a connection drains, and the
//! input that its service has left. Must not know: when a connection ends.

use super::Connection;
use super::closing::AfterDial;
use super::halves::Inbound;
use crate::buffer::Buffer;
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::sys::outcome::{Outcome, close_reason};
use crate::reactor::sys::stream::{self, Stream};
use crate::service::CloseReason;
use crate::timer::{Deadline, DeadlineKind, Time};

/// The result of a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// This many bytes: for the service, unless the connection discards its input.
    Data(usize),
    /// The FIN of the peer, for the service.
    Eof,
    /// Nothing that concerns the service.
    Nothing,
}

/// The output of a connection between its two marks.
///
/// ```text
///     Free ── high-water mark ──▶ Draining ─── low-water mark ──▶ Drained ── on_drain ──▶ Free
///       └──── await_drain ──────▶ Awaited ──── low-water mark ───────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// Below the high-water mark.
    Free,
    /// Above the low-water mark, and the service has asked for `on_drain`.
    Awaited,
    /// The output has reached the high-water mark and has not fallen to the low-water mark since.
    Draining,
    /// The output has fallen to the low-water mark. The service has not had `on_drain` yet.
    Drained,
}

impl Flow {
    /// Returns true between the high-water mark and the low-water mark.
    #[inline]
    pub fn is_draining(self) -> bool {
        self == Flow::Draining
    }

    /// Returns true if the service is owed `on_drain`.
    #[inline]
    pub fn is_drained(self) -> bool {
        self == Flow::Drained
    }
}

/// Input that the service has left.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Buffer,
    /// The bytes are to be offered without waiting for more input.
    due: bool,
}

impl Unread {
    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns true if there are bytes to offer again.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.due && !self.bytes.is_empty()
    }

    /// Requests that the bytes are offered again, also those that the callback in progress is about to leave.
    pub fn offer_again(&mut self) {
        self.due = true;
    }

    /// Withdraws a request that found no bytes.
    pub fn forget_request(&mut self) {
        self.due &= !self.bytes.is_empty();
    }

    /// Frees the bytes: the service has finished the connection.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<S: Stream> Connection<S> {
    /// Reads once into `scratch`.
    #[inline(always)]
    pub fn fill(&mut self, scratch: &mut [u8], now: Time, recorder: &mut Recorder) -> Fill {
        let outcome = stream::read(&mut self.stream, scratch, self.id.into(), recorder);
        self.note_fill(outcome, scratch.len(), now, recorder)
    }

    /// Notes the outcome of a read. Fewer bytes than `asked` have emptied the socket.
    #[inline(always)]
    pub fn note_fill(&mut self, outcome: Outcome, asked: usize, now: Time, recorder: &mut Recorder) -> Fill {
        match outcome {
            Outcome::Done(0) => self.fill_eof(recorder),
            Outcome::Done(n) => {
                if n < asked {
                    self.readiness.short_read();
                }
                if self.renewals.on_read {
                    self.renew_after_read(now);
                }
                Fill::Data(n)
            }
            Outcome::Blocked => {
                self.readiness.read_blocked();
                Fill::Nothing
            }
            Outcome::Failed(errno) => {
                self.fill_failed(close_reason(errno), now, recorder);
                Fill::Nothing
            }
        }
    }

    /// The socket holds no more input. Congestion is the reason for which a service may have left input that is complete.
    #[cold]
    #[inline(never)]
    fn fill_failed(&mut self, reason: CloseReason, now: Time, recorder: &mut Recorder) {
        if self.flow.is_draining() && self.unread.len() > 0 {
            self.fail(reason, now, recorder);
        } else {
            self.end(reason, recorder);
        }
    }

    /// The peer has sent FIN. Out of line: this comes once per connection.
    #[cold]
    #[inline(never)]
    fn fill_eof(&mut self, recorder: &mut Recorder) -> Fill {
        if let Some(reason) = self.write_error() {
            // After a write has met a reset, the next read reports an end of file.
            self.end(reason, recorder);
            return Fill::Nothing;
        }
        let discards = self.halves.discards_input();
        let closed = self.halves.after_eof();
        self.deadlines.set(DeadlineKind::Read, Time::NEVER);
        if closed == super::Halves::Over {
            self.end(CloseReason::Finished, recorder);
        } else {
            self.set_halves(closed, recorder);
        }
        if discards { Fill::Nothing } else { Fill::Eof }
    }

    /// Takes the input that the service has left, to offer it again.
    #[inline]
    pub fn take_unread(&mut self) -> Buffer {
        self.unread.due = false;
        std::mem::take(&mut self.unread.bytes)
    }

    /// Keeps the input that the service has left of an offer.
    ///
    /// If the callback has sent as many bytes as there was capacity for (`was_full`), the service may have left input for
    /// that reason alone. The kernel may have taken all output at once. Then nothing will drain, so the input is offered
    /// again next turn.
    pub fn keep_unread(&mut self, unread: Buffer, was_full: bool, recorder: &mut Recorder) {
        if !self.halves.service_decides() {
            return;
        }
        if unread.len() > self.policy.max_unread {
            self.end(CloseReason::Unread, recorder);
            return;
        }
        self.unread.due |= was_full && !self.flow.is_draining();
        self.unread.bytes = unread;
        self.unread.forget_request();
    }

    /// Takes the news that the output has drained. Returns true once.
    #[inline]
    pub fn take_drained(&mut self) -> bool {
        let drained = self.flow.is_drained();
        if drained {
            self.flow = Flow::Free;
        }
        drained
    }

    /// Sends `bytes`. Bytes that the kernel takes at once are not copied.
    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if !self.takes_output() {
            recorder.ledger.stale_commands += 1;
            return;
        }
        // A write deadline that has passed beats a kernel that has room, as in Go.
        let taken =
            if self.output.is_empty() && self.readiness.writable() && self.deadlines.due(DeadlineKind::Write) > now {
                self.write(bytes, now, recorder)
            } else {
                0
            };
        if taken < bytes.len() {
            self.queue(&bytes[taken..], now, recorder);
        }
    }

    /// Returns true if bytes may be queued.
    #[inline]
    pub(super) fn takes_output(&self) -> bool {
        self.halves.takes_output() && self.after_dial == AfterDial::GoOn
    }

    /// Queues `bytes` of a broadcast, for the end of the turn.
    ///
    /// Closes the connection when `policy.overflow` bytes are queued, so that a slow reader cannot hold up a broadcast.
    /// So at most the bound and one piece are ever queued.
    #[inline]
    pub fn queue_broadcast(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if !self.takes_output() {
            recorder.ledger.stale_commands += 1;
            return;
        }
        if self.output.len() + bytes.len() > self.policy.overflow && !self.output.is_empty() {
            // A peer that reads must not be dropped because this turn has brought much. The connection counts as
            // congested all the same: its service may have left input for that reason, and gets it again after the
            // drain.
            self.congest(recorder);
            self.flush(now, recorder);
            if self.output.len() >= self.policy.overflow {
                self.end(CloseReason::Overflow, recorder);
                return;
            }
        }
        if !bytes.is_empty() {
            self.queue(bytes, now, recorder);
        }
    }

    #[inline(never)]
    fn queue(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.write_error().is_some() || self.close_reason().is_some() {
            return;
        }
        if self.output.is_empty() {
            self.renew(Deadline::Write, now);
        }
        self.output.append(bytes);
        if self.room() == 0 {
            self.congest(recorder);
        }
        if self.deadlines.due(DeadlineKind::Write) <= now {
            self.deadlines.mark_expired(now);
        }
    }

    /// The output has reached the high-water mark, or would have: reading is suspended until the output has drained.
    fn congest(&mut self, recorder: &mut Recorder) {
        recorder.ledger.pauses += u64::from(!self.flow.is_draining());
        self.flow = Flow::Draining;
    }

    /// The service asks for `on_drain` at the low-water mark, at which the queue may be already. Reading goes on.
    pub fn await_drain(&mut self) {
        if self.is_connecting() && !self.flow.is_draining() {
            self.flow = Flow::Awaited;
        } else if self.halves.service_decides() && !self.flow.is_draining() && self.write_error().is_none() {
            self.flow = if self.output.len() > self.policy.low_water { Flow::Awaited } else { Flow::Drained };
        }
    }

    /// The dial has succeeded: the service gets the `on_drain` that it has asked for, unless output has yet to drain.
    pub(super) fn note_drain_of_dial(&mut self) {
        if self.flow == Flow::Awaited {
            self.await_drain();
        }
    }

    /// Writes queued bytes until none is left or the kernel takes no more.
    pub fn flush(&mut self, now: Time, recorder: &mut Recorder) {
        while !self.output.is_empty() && self.wants_flush() && !self.is_connecting() {
            let outcome = stream::write(&mut self.stream, self.output.as_slice(), self.id.into(), recorder);
            let n = self.note_write(outcome, now, recorder);
            if self.write_error().is_some() || self.close_reason().is_some() {
                break;
            }
            self.output.consume(n);
            if n > 0 {
                let more = !self.output.is_empty();
                self.progress(more, now);
            }
        }
        let awaits = matches!(self.flow, Flow::Draining | Flow::Awaited) && !self.is_connecting();
        if awaits && self.output.len() <= self.policy.low_water {
            self.drained(now, recorder);
        }
    }

    /// The output has fallen to the low-water mark: the service gets `on_drain`, and its unread input again.
    fn drained(&mut self, now: Time, recorder: &mut Recorder) {
        let was_draining = self.flow.is_draining();
        self.flow = if self.halves.service_decides() { Flow::Drained } else { Flow::Free };
        if was_draining {
            if self.halves.service_decides() {
                self.unread.offer_again();
            }
            self.renew(Deadline::Read, now);
            self.reading_resumed(now);
            recorder.ledger.resumes += 1;
        }
    }

    /// The queue is shorter: its write timeout is renewed, or off while nothing is queued.
    fn progress(&mut self, more: bool, now: Time) {
        if more {
            self.renew(Deadline::Write, now);
        } else {
            self.end_write_timeout();
        }
    }

    /// Nothing is queued: no write can be late. A deadline that the service has set stands.
    pub(super) fn end_write_timeout(&mut self) {
        if self.timeouts[Deadline::Write as usize].is_on() {
            self.deadlines.set(DeadlineKind::Write, Time::NEVER);
        }
    }

    /// Writes once; returns the number of bytes that the kernel took.
    #[inline(always)]
    fn write(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) -> usize {
        let outcome = stream::write(&mut self.stream, bytes, self.id.into(), recorder);
        self.note_write(outcome, now, recorder)
    }

    /// Notes the outcome of a write; returns the number of bytes that the kernel took.
    #[inline(always)]
    pub(super) fn note_write(&mut self, outcome: Outcome, now: Time, recorder: &mut Recorder) -> usize {
        match outcome {
            Outcome::Done(n) => {
                if self.renewals.on_write {
                    self.renew(Deadline::Idle, now);
                }
                n
            }
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            Outcome::Failed(errno) => {
                self.fail(close_reason(errno), now, recorder);
                0
            }
        }
    }

    /// A call on the socket, or an event, has reported an error: the output is lost. The last bytes of the peer may have
    /// arrived all the same: the answer to a request that the peer did not want to read whole. So the service first gets the
    /// input that waited for capacity, and then the input in the socket, also after a pause. The service gets no `on_drain`
    /// for the output that is lost.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, reason: CloseReason, now: Time, recorder: &mut Recorder) {
        let has_input = self.halves.delivers_input() || self.halves.inbound() == Inbound::Paused;
        if !has_input {
            return self.end(reason, recorder);
        }
        self.end_after_input(reason);
        self.output = Buffer::new();
        if self.flow.is_draining() {
            // The read deadline did not count meanwhile, and must not beat this input.
            self.renew(Deadline::Read, now);
        }
        self.flow = Flow::Free;
        self.unread.offer_again();
        self.readiness.write_blocked();
        self.readiness.assume_error();
    }
}
