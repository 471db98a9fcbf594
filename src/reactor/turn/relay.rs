//! The turn of a connection whose input goes to another one.
//!
//! Owns: the steps of a piece: from the socket into the pipe or the read buffer, and on into the other socket. Must not
//! know: the services, which see no byte of it.

use std::mem;

use crate::id::ConnId;
use crate::limits::SPARE_PIPES;
use crate::reactor::Reactor;
use crate::reactor::source::connection::Fill;
use crate::reactor::source::connection::relay::Relay;
use crate::reactor::source::sources::StreamConnection;
use crate::reactor::sys::outcome::Outcome;
use crate::reactor::sys::pipe::{CAPACITY, Pipe};

impl Reactor {
    /// Passes one piece of input of `id` on to the connection `to`.
    pub(in crate::reactor) fn relay(&mut self, id: ConnId, to: ConnId) {
        let Some(mut relay) = self.sources.connection(id).and_then(StreamConnection::take_relay) else { return };
        if self.pour(id, to, &mut relay)
            && self.sources.connection(id).is_some_and(|connection| connection.wants_fill())
        {
            if relay.wants_pipe() && self.is_empty(to) {
                self.relay_by_pipe(id, to, &mut relay);
            } else {
                self.relay_by_copy(id, to, &mut relay);
            }
        }
        match self.sources.connection(id) {
            Some(connection) => connection.put_relay(relay),
            None => self.keep_pipe(relay.end_bulk()),
        }
    }

    /// Returns true if the connection takes bytes now: none is queued, which would have to go first.
    fn is_empty(&self, to: ConnId) -> bool {
        self.sources.get(to).is_some_and(|target| target.takes_pour())
    }

    fn relay_by_copy(&mut self, id: ConnId, to: ConnId, relay: &mut Relay) {
        let Self { sources, scratch, recorder, now, .. } = self;
        let Some(connection) = sources.connection(id) else { return };
        match connection.fill(scratch, *now, recorder) {
            Fill::Data(n) if !connection.halves().discards_input() => {
                relay.note_read(n, scratch.len());
                let scratch = mem::take(&mut self.scratch);
                self.forward(id, to, &scratch[..n]);
                self.scratch = scratch;
            }
            fill => self.deliver(id, fill),
        }
    }

    fn relay_by_pipe(&mut self, id: ConnId, to: ConnId, relay: &mut Relay) {
        if relay.pipe.is_none() {
            relay.pipe = self.spare_pipes.pop().or_else(|| Pipe::new().ok());
        }
        let Some(pipe) = &mut relay.pipe else {
            relay.refuse_pipe();
            return self.relay_by_copy(id, to, relay);
        };
        let Self { sources, recorder, now, .. } = self;
        let Some(connection) = sources.connection(id) else { return };
        let outcome = pipe.fill(connection.stream_mut(), id.into(), recorder);
        match outcome {
            Outcome::Failed(errno) if matches!(errno.0, libc::EINVAL | libc::ENOSYS) => {
                relay.refuse_pipe();
                let pipe = relay.end_bulk();
                self.keep_pipe(pipe);
                return self.relay_by_copy(id, to, relay);
            }
            // splice(2) does not step over the mark of urgent data (tcp(7)), and reports it as an empty socket or as the end.
            // Only a read tells.
            Outcome::Blocked | Outcome::Done(0) => {
                let pipe = relay.end_bulk();
                self.keep_pipe(pipe);
                return self.relay_by_copy(id, to, relay);
            }
            outcome => {
                // Fewer bytes than asked for are no proof of an empty socket: all slots of the pipe may be taken.
                let fill = connection.note_fill(outcome, 0, *now, recorder);
                if !matches!(fill, Fill::Data(_)) {
                    self.deliver(id, fill);
                }
            }
        }
        let is_bulk = matches!(outcome, Outcome::Done(n) if n >= CAPACITY / 2);
        self.pour(id, to, relay);
        if !is_bulk {
            let pipe = relay.end_bulk();
            self.keep_pipe(pipe);
        }
    }

    /// Moves the bytes of the pipe into the connection `to`. Returns true if none is left.
    fn pour(&mut self, id: ConnId, to: ConnId, relay: &mut Relay) -> bool {
        let Some(pipe) = relay.pipe.as_mut().filter(|pipe| pipe.len() > 0) else { return true };
        let Self { sources, recorder, now, .. } = self;
        let Some(target) = sources.connection(to) else {
            // The connection has ended: its service hears of it, and the bytes have nowhere to go.
            recorder.ledger.stale_commands += 1;
            relay.pipe = None;
            return true;
        };
        while target.takes_pour() && pipe.len() > 0 {
            let outcome = pipe.pour(target.stream_mut(), to.into(), recorder);
            target.note_pour(outcome, *now, recorder);
        }
        if pipe.len() == 0 {
            return true;
        }
        if target.hold_pour(id, *now) {
            sources.connection_pending_flush(to);
            if let Some(source) = sources.connection(id) {
                source.held();
            }
            return false;
        }
        // Nothing can be written to the connection any more.
        relay.pipe = None;
        sources.connection_pending_flush(to);
        true
    }

    /// Ends what a connection has to do with others: its pipe is kept, and those that wait for it are read again.
    pub(in crate::reactor) fn end_detour(&mut self, id: ConnId) {
        let relay = self.sources.connection(id).and_then(StreamConnection::take_relay);
        self.keep_pipe(relay.and_then(|mut relay| relay.end_bulk()));
        self.release_waiters(id);
    }

    /// Keeps an empty pipe for another connection.
    fn keep_pipe(&mut self, pipe: Option<Pipe>) {
        if let Some(pipe) = pipe.filter(|_| self.spare_pipes.len() < SPARE_PIPES) {
            self.spare_pipes.push(pipe);
        }
    }
}
