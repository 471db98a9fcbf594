//! The phases `work` and `reap`: what happens to a source that has its turn, and to a connection that has ended.
//!
//! Owns: the order of things within a turn of a connection. Must not know: system calls, protocols.

use std::mem;

use log::{debug, info};

use super::apply::only_answer;
use super::source::connection::Fill;
use super::source::sources::{Source, TcpConnection};
use super::sys::stream as socket;
use super::{Invitation, Reactor};
use crate::buffer::Buffer;
use crate::id::{Addressee, ConnId, SourceId};
use crate::limits::POSTS;
use crate::service::{CloseReason, Context};

impl Reactor {
    /// Gives every ready source its turn, once; then flushes what they have sent to one another.
    #[inline(never)]
    pub(super) fn work(&mut self) {
        self.take_signals();
        self.call_invited();
        self.take_posts();
        let mut working = mem::replace(&mut self.ready, mem::take(&mut self.spare));
        for &id in &working {
            self.serve(id);
        }
        working.clear();
        self.spare = working;
        self.context.outbox_mut().trim();
        self.flush_touched();
    }

    /// Calls those that have been added since the last turn, and those that have asked for this one.
    fn call_invited(&mut self) {
        for invited in mem::take(&mut self.invited) {
            match invited {
                (Addressee::Service(id), Invitation::Start) => {
                    self.call_service(id, |service, ctx| service.on_start(ctx))
                }
                (Addressee::Service(id), Invitation::Turn) => {
                    self.call_service(id, |service, ctx| service.on_turn(ctx))
                }
                (Addressee::Socket(id), Invitation::Start) => {
                    self.call_socket(id, |service, ctx| service.on_start(ctx))
                }
                (Addressee::Socket(id), Invitation::Turn) => self.call_socket(id, |service, ctx| service.on_turn(ctx)),
            }
        }
    }

    /// Hands over the messages of other threads, at most a mailbox full of them a turn.
    fn take_posts(&mut self) {
        if !self.mailbox.take_woken() {
            return;
        }
        self.stop.wanted |= self.mailbox.stop_wanted();
        for _ in 0..POSTS {
            let Some((to, message)) = self.mailbox.take() else { return };
            self.recorder.ledger.posts += 1;
            match to {
                Addressee::Service(id) => self.call_service(id, |service, ctx| service.on_post(ctx, message)),
                Addressee::Socket(id) => self.call_socket(id, |service, ctx| service.on_post(ctx, message)),
            }
        }
        self.mailbox.wake_again();
    }

    /// The turn of a source. What most turns are is done here in one piece, without moving anything: one read, one
    /// callback that consumes it all, answers that the kernel takes at once. Whatever else there is goes the long way.
    #[inline]
    fn serve(&mut self, id: SourceId) {
        let Self { sources, services, context, scratch, recorder, now, .. } = self;
        let Some(connection) = sources.connection(id) else { return self.serve_other(id) };
        connection.queued = false;
        if !connection.is_plain() || !connection.readiness().readable() {
            return self.serve_in_full(id);
        }
        let n = match connection.fill(scratch, *now, recorder) {
            Fill::Data(n) if !connection.has_unread() => n,
            fill => return self.serve_filled(id, fill),
        };
        let input = &scratch[..n];
        let (_, service) = &mut services[usize::from(connection.service().0)];
        let consumed = service.on_data(&mut Context::new(context, connection.info()), input);
        if consumed == n
            && let Some(bytes) = only_answer(context.outbox(), id, input)
        {
            recorder.command(&context.outbox().commands()[0]);
            connection.send(bytes, *now, recorder);
            context.outbox_mut().clear();
        }
        let said_more = !context.outbox().commands().is_empty();
        if said_more || consumed < n || !connection.is_plain() || connection.readiness().readable() {
            self.end_exchange(id, n, consumed);
        }
    }

    #[inline(never)]
    fn serve_other(&mut self, id: SourceId) {
        match self.sources.get_mut(id) {
            Some(Source::Listener(listener)) => {
                listener.queued = false;
                self.serve_listener(id);
            }
            Some(Source::Datagram(_)) => self.serve_socket(id),
            // It was reaped after it had been queued. A connection has had its turn in `serve`.
            Some(Source::Connection(_) | Source::Taken) | None => {}
        }
    }

    /// The long way of a turn. Output first, because it makes room; deadlines before input, because one that has passed
    /// beats bytes that are ready.
    #[inline(never)]
    fn serve_in_full(&mut self, id: ConnId) {
        let Some(mut taken) = self.sources.take_out(id) else { return };
        let connection = &mut taken;
        // An error that an event has announced would be met by the first call: a read brings what came before it.
        if connection.wants_flush() && !connection.hears_last_words() {
            if connection.is_connecting() {
                self.end_dial(connection);
            } else {
                connection.flush(self.now, &mut self.recorder);
            }
        }
        self.report_deadlines(connection);
        if connection.take_drained() {
            self.offer_unread(connection);
        }
        if connection.wants_fill() {
            let fill = connection.fill(&mut self.scratch, self.now, &mut self.recorder);
            self.hand_over(connection, fill);
        }
        if connection.readiness().error() && connection.ending().is_none() && !connection.hears_last_words() {
            connection.take_error(&mut self.recorder);
        }
        self.settle(connection);
        self.sources.put_back(taken);
    }

    /// The rest of a turn whose fill was not the usual one.
    #[inline(never)]
    fn serve_filled(&mut self, id: ConnId, fill: Fill) {
        let Some(mut connection) = self.sources.take_out(id) else { return };
        self.hand_over(&mut connection, fill);
        self.settle(&mut connection);
        self.sources.put_back(connection);
    }

    /// The rest of a turn after `on_data`: it has said more than one answer, has consumed only a part of the `n` bytes in
    /// the scratch memory, or the connection has something left to do.
    #[inline(never)]
    fn end_exchange(&mut self, id: ConnId, n: usize, consumed: usize) {
        let Some(mut connection) = self.sources.take_out(id) else { return };
        let scratch = mem::take(&mut self.scratch);
        let service = connection.service();
        let was_full = self.fills_room(&connection);
        self.apply(service, Some(&mut connection), &scratch[..n]);
        debug_assert!(consumed <= n, "a service consumed more than it was offered");
        if consumed < n {
            let mut unread = Buffer::new();
            unread.append(&scratch[consumed..n]);
            connection.keep_unread(unread, was_full);
        }
        self.scratch = scratch;
        self.settle(&mut connection);
        self.sources.put_back(connection);
    }

    /// Whether what has been said in the callback is as much as the connection had room for.
    fn fills_room(&self, connection: &TcpConnection) -> bool {
        self.context.outbox().byte_count() >= connection.info().capacity
    }

    /// A dialed socket has become writable: it is connected, or it is not.
    fn end_dial(&mut self, connection: &mut TcpConnection) {
        let id = connection.id();
        match socket::connect_outcome(connection.stream_mut(), id, &mut self.recorder) {
            Ok(()) => {
                connection.established(self.now);
                let dial = self.dials.remove(&id).unwrap_or_default();
                self.call(connection, &[], |service, ctx| service.on_dialed(ctx, dial));
            }
            Err(reason) => connection.end(reason),
        }
    }

    /// Reports one deadline: a service that sets the next one to the past has another turn for it, like everybody.
    fn report_deadlines(&mut self, connection: &mut TcpConnection) {
        if connection.ending().is_none()
            && let Some(which) = connection.lapsed_deadline()
        {
            connection.deadlines.report(which);
            if connection.is_served() {
                self.call(connection, &[], |service, ctx| service.on_deadline(ctx, which));
            } else {
                connection.end(CloseReason::Deadline(which));
            }
        }
    }

    /// A connection that has drained: its service is told, and offered again what it had left unread.
    fn offer_unread(&mut self, connection: &mut TcpConnection) {
        if connection.is_served() {
            self.call(connection, &[], |service, ctx| service.on_drain(ctx));
        }
        if connection.is_heard() && connection.has_unread() {
            self.deliver(connection, &[]);
        }
    }

    /// Hands what a fill has brought to the service.
    fn hand_over(&mut self, connection: &mut TcpConnection, fill: Fill) {
        match fill {
            Fill::Data(_) if !connection.is_heeded() => {}
            Fill::Data(n) => {
                let scratch = mem::take(&mut self.scratch);
                self.deliver(connection, &scratch[..n]);
                self.scratch = scratch;
            }
            Fill::Eof => {
                let unread = connection.take_unread();
                let rest = unread.as_slice();
                self.call(connection, rest, |service, ctx| service.on_eof(ctx, rest));
            }
            Fill::Nothing => {}
        }
    }

    /// Offers the service what it had left unread and `input` as one piece, and keeps what it leaves.
    fn deliver(&mut self, connection: &mut TcpConnection, input: &[u8]) {
        let mut unread = connection.take_unread();
        unread.append(input);
        let offered = unread.as_slice();
        let (consumed, was_full) = self.call(connection, offered, |service, ctx| {
            let consumed = service.on_data(ctx, offered);
            (consumed, ctx.is_congested())
        });
        debug_assert!(consumed <= unread.len(), "a service consumed more than it was offered");
        unread.consume(consumed.min(unread.len()));
        connection.keep_unread(unread, was_full);
    }

    /// After anything has happened to a connection: the transitions that follow, and whether it wants a turn, has
    /// ended, or needs another alarm.
    pub(super) fn settle(&mut self, connection: &mut TcpConnection) {
        connection.settle(self.now, &mut self.recorder);
        if let Some(linger_due) = self.stop.linger_due(self.now) {
            connection.hasten(linger_due);
        }
        if connection.ending().is_some() {
            self.ended.push(connection.id());
            return;
        }
        if connection.deadlines.moved() {
            self.move_alarm(connection);
        }
        if connection.wants_turn() && !mem::replace(&mut connection.queued, true) {
            self.ready.push(connection.id());
        }
    }

    /// Settles the connection with this id, if there is one.
    pub(super) fn settle_by_id(&mut self, id: ConnId) {
        if let Some(mut connection) = self.sources.take_out(id) {
            self.settle(&mut connection);
            self.sources.put_back(connection);
        }
    }

    /// The end of the turn for connections that others have written to or changed: one flush for all of it.
    #[inline(never)]
    fn flush_touched(&mut self) {
        let mut touched = mem::take(&mut self.touched);
        for &id in &touched {
            let Some(connection) = self.sources.connection(id) else { continue };
            connection.dirty = false;
            connection.flush(self.now, &mut self.recorder);
            // Most have taken everything and have nothing else on their minds: a broadcast comes here for each member.
            if !connection.is_plain() || connection.readiness().readable() {
                self.settle_by_id(id);
            }
        }
        debug_assert!(self.touched.is_empty(), "no service is called here");
        touched.clear();
        self.touched = touched;
    }

    /// Tells the services whose connections have ended, and frees their slots. What the services send on that occasion
    /// is flushed, which may end others in turn.
    #[inline(never)]
    pub(super) fn reap(&mut self) {
        // Those that a service dials in vain when it is told of one come next turn, or it could go on for ever.
        for (service, dial, reason) in mem::take(&mut self.stillborn) {
            self.recorder.ledger.count_close(reason);
            self.call_service(service, |service, ctx| service.on_dial_error(ctx, dial, reason));
        }
        while !self.ended.is_empty() || !self.touched.is_empty() {
            for id in mem::take(&mut self.ended) {
                self.bury(id);
            }
            self.flush_touched();
        }
        self.begin_stop_if_wanted();
    }

    fn bury(&mut self, id: ConnId) {
        let Some(Source::Connection(mut connection)) = self.sources.remove(id) else { return };
        if let Some(alarm) = connection.deadlines.take_alarm() {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(alarm));
        }
        let reason = connection.ending().unwrap_or(CloseReason::Aborted);
        self.recorder.ledger.count_close(reason);
        match reason {
            CloseReason::Overflow | CloseReason::Unread => info!("{id} {} closed: {reason}", connection.peer()),
            _ => debug!("{id} {} closed: {reason}", connection.peer()),
        }
        let service = connection.service();
        drop(connection);
        match self.dials.remove(&id) {
            Some(dial) => self.call_service(service, |service, ctx| service.on_dial_error(ctx, dial, reason)),
            None => self.call_service(service, |service, ctx| service.on_close(ctx, id, reason)),
        }
    }
}
