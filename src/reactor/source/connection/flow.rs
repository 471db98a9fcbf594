//! The bytes of a connection on their way: fill and flush between the socket and the buffers, send and unread between
//! the buffers and the service.
//!
//! Owns: when a call on the socket clears a bit of readiness, and the marks between which a connection is congested.
//! Must not know: when a connection ends.

use super::Connection;
use crate::buffer::Buffer;
use crate::limits::UNREAD;
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::source::connection::halves::{Halves, Outbound};
use crate::reactor::sys::stream::{self as socket, Outcome, Stream};
use crate::service::CloseReason;
use crate::timer::{Deadline, Time};

/// What a fill has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// So many bytes: for the service, if the connection is still heeded.
    Data(usize),
    /// The peer's end of file, which the service has to be told.
    Eof,
    /// Nothing that concerns the service.
    Nothing,
}

impl<S: Stream> Connection<S> {
    /// Reads once into `scratch`.
    #[inline(always)]
    pub fn fill(&mut self, scratch: &mut [u8], now: Time, recorder: &mut Recorder) -> Fill {
        match socket::read(&mut self.stream, scratch, self.info.id, recorder) {
            Outcome::Done(0) => self.fill_eof(),
            Outcome::Done(n) => {
                if n < scratch.len() {
                    self.readiness.short_read();
                }
                if self.timed {
                    self.renew_after_read(now);
                }
                Fill::Data(n)
            }
            Outcome::Blocked => {
                self.readiness.read_blocked();
                Fill::Nothing
            }
            Outcome::Failed(errno) => {
                self.end(socket::close_reason(errno));
                Fill::Nothing
            }
        }
    }

    /// The peer's end of file: out of line, for it comes once per connection.
    #[cold]
    #[inline(never)]
    fn fill_eof(&mut self) -> Fill {
        if let Some(reason) = self.broken {
            // A reset that a write has met looks like an end of file to the next read.
            self.end(reason);
            return Fill::Nothing;
        }
        let heeded = self.is_heeded();
        self.halves.eof();
        self.deadlines.set(Deadline::Read, Time::NEVER);
        if heeded { Fill::Eof } else { Fill::Nothing }
    }

    /// Whether its service wants to know what the peer says.
    #[inline]
    pub fn is_heeded(&self) -> bool {
        !matches!(self.halves, Halves::Flushing | Halves::Lingering)
    }

    /// Whether its service has left bytes unread.
    #[inline]
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Takes the bytes that the service has left unread, to be offered again.
    #[inline]
    pub fn take_unread(&mut self) -> Buffer {
        std::mem::take(&mut self.unread)
    }

    /// Keeps what the service has left unread of a fill.
    ///
    /// If what it has said was as much as there was room for (`was_full`), it may have left the bytes for that reason
    /// alone. The kernel may have taken all of it at once: then nothing will drain, and they are offered again next turn.
    pub fn keep_unread(&mut self, unread: Buffer, was_full: bool) {
        if !self.is_served() {
            return;
        }
        self.drained |= was_full && !self.congested && !unread.is_empty();
        if unread.len() > UNREAD {
            self.end(CloseReason::Unread);
        }
        self.unread = unread;
    }

    /// Whether it was congested and has drained, which is news for its service. Asking takes the news.
    #[inline]
    pub fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// Sends `bytes`: as many as the kernel takes at once are not even copied.
    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if !matches!(self.halves, Halves::Open | Halves::Paused | Halves::HalfClosed | Halves::Dialing) {
            recorder.ledger.stale_commands += 1;
            return;
        }
        // A write deadline that has passed beats a kernel that has room, as in Go.
        let taken = if self.output.is_empty() && self.readiness.writable() && self.deadlines.due(Deadline::Write) > now
        {
            self.write(bytes, now, recorder)
        } else {
            0
        };
        if taken < bytes.len() {
            self.queue(&bytes[taken..], now, recorder);
        }
    }

    /// Queues `bytes` that another connection has caused, for the end of the turn. One that reads so slowly that as much
    /// as its bound allows is queued is ended: the others must not wait for it. So no more is ever queued than the bound
    /// and one message.
    pub fn send_from_other(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.halves.outbound() != Outbound::Open {
            recorder.ledger.stale_commands += 1;
            return;
        }
        if self.output.len() + bytes.len() > self.policy.overflow && !self.output.is_empty() {
            // One that reads must not be dropped because this turn has brought much. It counts as congested all the
            // same: its service may have left input for that reason, and is offered it again when it has drained.
            self.congest(recorder);
            self.flush(now, recorder);
            if self.output.len() >= self.policy.overflow {
                self.end(CloseReason::Overflow);
                return;
            }
        }
        if !bytes.is_empty() {
            self.queue(bytes, now, recorder);
        }
    }

    #[inline(never)]
    fn queue(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.broken.is_some() {
            return;
        }
        if self.output.is_empty() {
            self.renew(Deadline::Write, now);
        }
        self.output.append(bytes);
        self.tell_queued();
        if self.info.capacity == 0 {
            self.congest(recorder);
        }
        if self.deadlines.due(Deadline::Write) <= now {
            self.deadlines.lapse(now);
        }
    }

    /// Lets its service know how much is queued.
    fn tell_queued(&mut self) {
        self.info.queued = self.output.len();
        self.info.capacity = self.policy.high_water.saturating_sub(self.info.queued);
    }

    /// Its output has reached the high-water mark, or would have: it is not read until it has drained.
    fn congest(&mut self, recorder: &mut Recorder) {
        recorder.ledger.pauses += u64::from(!self.congested);
        self.congested = true;
    }

    /// Its service wants to know when the queue is at the low-water mark, which it may be already.
    pub fn await_drain(&mut self) {
        if self.is_served() {
            self.congested = self.output.len() > self.policy.low_water;
            self.drained = !self.congested;
        }
    }

    /// Writes queued bytes until none is left or the kernel takes no more.
    pub fn flush(&mut self, now: Time, recorder: &mut Recorder) {
        while !self.output.is_empty() && self.wants_flush() && !self.is_connecting() {
            let queued = std::mem::take(&mut self.output);
            let n = self.write(queued.as_slice(), now, recorder);
            if self.broken.is_some() {
                break;
            }
            self.output = queued;
            self.output.consume(n);
            if n > 0 {
                let more = !self.output.is_empty();
                self.progress(more, now);
            }
        }
        self.tell_queued();
        if self.congested && self.output.len() <= self.policy.low_water {
            self.congested = false;
            self.drained = self.is_served();
            self.renew(Deadline::Read, now);
            self.no_longer_held_back(now);
            recorder.ledger.resumes += 1;
        }
    }

    /// The queue has become shorter: its write timeout starts anew, or rests while nothing is queued.
    fn progress(&mut self, more: bool, now: Time) {
        if more {
            self.renew(Deadline::Write, now);
        } else if self.policy.write_timeout.is_on() {
            self.deadlines.set(Deadline::Write, Time::NEVER);
        }
    }

    /// One write; returns how many bytes the kernel took.
    #[inline(always)]
    fn write(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) -> usize {
        match socket::write(&mut self.stream, bytes, self.info.id, recorder) {
            Outcome::Done(n) => {
                if self.idles {
                    self.renew(Deadline::Idle, now);
                }
                n
            }
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            Outcome::Failed(errno) => {
                self.write_failed(socket::close_reason(errno));
                0
            }
        }
    }

    /// The peer takes no more. What it had said before may have arrived all the same: an answer to what it did not want to
    /// hear out. So the connection is read to its end first, if its service listens.
    #[cold]
    #[inline(never)]
    fn write_failed(&mut self, reason: CloseReason) {
        if reason != CloseReason::Reset || !self.is_heard() {
            return self.end(reason);
        }
        self.broken = Some(reason);
        self.output = Buffer::new();
        self.congested = false;
        self.readiness.write_blocked();
        self.readiness.suppose_error();
    }
}
