//! The phase `work`: the turn of each ready source.
//!
//! Owns: the order of steps within the turn of a connection. Must not know: system calls, protocols.

use std::mem;

use log::error;

use super::apply::{answer, publish};
use crate::buffer::Buffer;
use crate::id::{ConnId, DescriptorId, ListenerId, SocketId, SourceId};
use crate::limits::POSTS;
use crate::reactor::setup::reregister;
use crate::reactor::source::connection::Fill;
use crate::reactor::source::readiness::Readiness;
use crate::reactor::source::sources::Source;
use crate::reactor::sys::stream;
use crate::reactor::threads::poster::Post;
use crate::reactor::{Reactor, ScheduledCall};
use crate::service::{CloseReason, Context};
use crate::timer::{Deadline, DeadlineKind};

impl Reactor {
    /// Gives every ready source its turn, once. Then flushes the output that the sources have sent to one another.
    #[inline(never)]
    pub(in crate::reactor) fn work(&mut self) {
        self.take_signals();
        // Empty in most turns: each of these functions moves a vector.
        if !self.scheduled.is_empty() {
            self.make_scheduled_calls();
        }
        if !self.adopted.is_empty() {
            self.open_adopted();
        }
        self.take_posts();
        let ready = self.sources.take_ready();
        for &id in &ready {
            self.serve(id);
        }
        self.sources.recycle(ready);
        self.context.outbox_mut().trim();
        self.flush_pending();
    }

    /// Calls the services and opens the sockets that were added since the last turn, and calls the services that have
    /// requested this one.
    fn make_scheduled_calls(&mut self) {
        for (service, scheduled) in mem::take(&mut self.scheduled) {
            match scheduled {
                ScheduledCall::Start => self.call_service(service, |service, ctx| service.on_start(ctx)),
                ScheduledCall::Turn => self.call_service(service, |service, ctx| service.on_turn(ctx)),
                ScheduledCall::Open(socket) => self.open_socket(socket),
            }
        }
    }

    /// Delivers the messages of other threads, at most a mailbox full of them a turn.
    fn take_posts(&mut self) {
        if !self.mailbox.take_woken() {
            return;
        }
        self.stop.wanted |= self.mailbox.stop_wanted();
        for _ in 0..POSTS {
            let Some(Post { to, message }) = self.mailbox.take() else { return };
            self.recorder.ledger.posts += 1;
            self.call_service(to.service, |service, ctx| (to.deliver)(service.as_any_mut(), ctx, message));
        }
        self.mailbox.wake_again();
    }

    /// Fast path: one read, one `on_data` that consumes all of it, one answer that the kernel takes whole. Every other
    /// turn goes to `serve_in_full`, and a fast turn that becomes another one to the function for its rest.
    #[inline]
    fn serve(&mut self, id: SourceId) {
        let Self { sources, services, context, scratch, recorder, now, .. } = self;
        let Some(Source::Connection(connection)) = sources.begin_turn(id) else { return self.serve_other(id) };
        let id = ConnId::of(id);
        if !connection.takes_fast_path() || !connection.readiness().readable() {
            return self.serve_in_full(id);
        }
        let n = match connection.fill(scratch, *now, recorder) {
            Fill::Data(n) => n,
            fill => return self.end_fill(id, fill),
        };
        let input = &scratch[..n];
        // Only a service on streams has connections.
        let Some(service) = services[connection.service().index()].service.stream() else { return };
        let consumed = service.on_data(&mut Context::new(context, id), input);
        if consumed == n {
            let is_done = match context.outbox().commands() {
                [] => true,
                [command] => match answer(command, context.outbox(), id, input) {
                    Some(bytes) => {
                        recorder.command(command);
                        connection.send(bytes, *now, recorder);
                        context.outbox_mut().clear_answer();
                        true
                    }
                    None => false,
                },
                _ => false,
            };
            if is_done && connection.takes_fast_path() && !connection.readiness().readable() {
                return;
            }
        }
        self.end_exchange(id, n, consumed);
    }

    #[inline(never)]
    fn serve_other(&mut self, id: SourceId) {
        match self.sources.get_mut(id) {
            Some(Source::Listener(_)) => self.serve_listener(ListenerId::of(id)),
            Some(Source::Datagram(_)) => self.serve_socket(SocketId::of(id)),
            Some(Source::Descriptor(descriptor)) => {
                let (service, ready) = (descriptor.service, descriptor.take_ready());
                self.call_service(service, |service, ctx| service.on_ready(ctx, DescriptorId::of(id), ready));
            }
            // The source was removed after it had been queued. A connection has had its turn in `serve`.
            Some(Source::Connection(_)) | None => {}
        }
    }

    /// Every step of a turn. Output comes first, because it frees capacity. Deadlines come before input, because a
    /// deadline that has passed beats bytes that are ready.
    #[inline(never)]
    fn serve_in_full(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else { return };
        // The first call would meet an error that an event has announced: a read returns the bytes before it.
        if connection.wants_flush() && !connection.drain_before_error() {
            if connection.is_connecting() {
                self.end_dial(id);
            } else {
                connection.flush(self.now, &mut self.recorder);
            }
        }
        self.deliver_deadline(id);
        self.deliver_owed(id);
        let Self { sources, scratch, recorder, now, .. } = self;
        if let Some(connection) = sources.connection(id)
            && (connection.wants_fill() || connection.wants_pour())
        {
            match connection.relays_to() {
                Some(to) => self.relay(id, to),
                None => {
                    let fill = connection.fill(scratch, *now, recorder);
                    self.deliver(id, fill);
                }
            }
        }
        if let Some(connection) = self.sources.connection(id)
            && connection.owes_error()
            && connection.close_reason().is_none()
            && !connection.drain_before_error()
        {
            connection.take_error(self.now, &mut self.recorder);
        }
        self.after_event(id);
    }

    /// The rest of a fast turn whose fill was an end of file, or found nothing.
    #[inline(never)]
    fn end_fill(&mut self, id: ConnId, fill: Fill) {
        self.deliver(id, fill);
        self.after_event(id);
    }

    /// The rest of a fast turn after `on_data`. The service recorded more than one answer, or consumed only a part of the `n`
    /// bytes in the scratch memory, or the connection has more work.
    #[inline(never)]
    fn end_exchange(&mut self, id: ConnId, n: usize, consumed: usize) {
        let scratch = mem::take(&mut self.scratch);
        let was_full = self.fills_capacity(id);
        if let Some(service) = self.sources.connection(id).map(|connection| connection.service()) {
            self.apply(service, Some(id), &scratch[..n]);
        }
        if consumed != n {
            self.keep_unread(id, Buffer::new(), &scratch[..n], consumed, was_full);
        }
        self.scratch = scratch;
        self.after_event(id);
    }

    /// Returns true if the callback has sent at least as many bytes as the connection had capacity for.
    fn fills_capacity(&mut self, id: ConnId) -> bool {
        let sent = self.context.outbox().byte_count();
        self.sources.connection(id).is_some_and(|connection| sent >= connection.room())
    }

    /// A dialed socket has become writable: it is connected, or it is not.
    fn end_dial(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else { return };
        match stream::connect_outcome(connection.stream_mut(), id.into(), &mut self.recorder) {
            Ok(local) => {
                connection.established(self.now, &mut self.recorder);
                if local.is_unix() && reregister(&self.poll, connection, Readiness::read_interest()).is_ok() {
                    connection.unwatch_writes();
                }
                if let Some(facts) = self.context.directory_mut().get_mut(id) {
                    if local.is_unix() {
                        facts.credentials = connection.stream_mut().peer_credentials().map(Box::new);
                    }
                    facts.local = local.into();
                }
                self.call(id, &[], |service, ctx| service.on_dialed(ctx));
            }
            Err(reason) => connection.end(reason, &mut self.recorder),
        }
    }

    /// Delivers one deadline. A service that sets the next one to the past gets another turn for it, as everything else
    /// does.
    fn deliver_deadline(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else { return };
        if connection.close_reason().is_some() {
            return;
        }
        if let Some(which) = connection.expired_deadline() {
            connection.deadlines.mark_delivered(which);
            let service_decides = connection.halves().service_decides();
            let which = match which {
                DeadlineKind::Read => Ok(Deadline::Read),
                DeadlineKind::Write => Ok(Deadline::Write),
                DeadlineKind::Idle => Ok(Deadline::Idle),
                DeadlineKind::Dial => Err(CloseReason::DialDeadline),
                DeadlineKind::Linger => Err(CloseReason::LingerDeadline),
            };
            if which == Err(CloseReason::DialDeadline) && stream::is_established(connection.stream_mut()) {
                // Its event came after the wait of this turn: the process was suspended between the wait and the clock.
                self.end_dial(id);
            } else if let (Ok(which), true) = (which, service_decides) {
                self.call(id, &[], |service, ctx| service.on_deadline(ctx, which));
            } else {
                let reason = which.map_or_else(|reason| reason, CloseReason::Deadline);
                connection.end(reason, &mut self.recorder);
            }
        }
    }

    /// Delivers the callbacks that the service is owed, and offers the input again that it has left.
    fn deliver_owed(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else { return };
        if connection.take_drained() && connection.halves().service_decides() {
            self.call(id, &[], |service, ctx| service.on_drain(ctx));
        }
        if self.sources.connection(id).is_some_and(|connection| connection.take_peer_closed()) {
            self.call(id, &[], |service, ctx| service.on_peer_closed(ctx));
        }
        if self.sources.connection(id).is_some_and(|connection| connection.wants_offer()) {
            self.offer(id, &[]);
        }
    }

    /// Delivers the result of a fill to the service.
    pub(in crate::reactor) fn deliver(&mut self, id: ConnId, fill: Fill) {
        let Some(connection) = self.sources.connection(id) else { return };
        match fill {
            Fill::Data(_) if connection.halves().discards_input() => {}
            Fill::Data(n) => {
                let scratch = mem::take(&mut self.scratch);
                self.offer(id, &scratch[..n]);
                self.scratch = scratch;
            }
            Fill::Eof => {
                let unread = connection.take_unread();
                let rest = unread.as_slice();
                self.call(id, rest, |service, ctx| service.on_eof(ctx, rest));
            }
            Fill::Nothing => {}
        }
    }

    /// Offers the service the input that it has left and `input` as one piece, and keeps what it leaves. Without input
    /// left over, `input` is offered where it is.
    fn offer(&mut self, id: ConnId, input: &[u8]) {
        let Some(connection) = self.sources.connection(id) else { return };
        let mut unread = connection.take_unread();
        if !unread.is_empty() {
            unread.append(input);
        }
        let offered = if unread.is_empty() { input } else { unread.as_slice() };
        if let Some(to) = connection.relays_to() {
            return self.forward(id, to, offered);
        }
        let outcome = self.call(id, offered, |service, ctx| {
            let consumed = service.on_data(ctx, offered);
            (consumed, ctx.is_congested())
        });
        if let Some((consumed, was_full)) = outcome {
            self.keep_unread(id, unread, input, consumed, was_full);
        }
    }

    /// Keeps the rest of an offer of `unread` if there is any, and otherwise of `input`, of which the service has
    /// consumed the first `consumed` bytes.
    fn keep_unread(&mut self, id: ConnId, mut unread: Buffer, input: &[u8], consumed: usize, was_full: bool) {
        let Some(connection) = self.sources.connection(id) else { return };
        let offered = if unread.is_empty() { input.len() } else { unread.len() };
        if consumed > offered {
            let name = self.services[connection.service().index()].name;
            error!("{name}: on_data returned {consumed} for {offered} bytes of {id}: closing the connection");
            connection.end(CloseReason::ServiceFault, &mut self.recorder);
            return;
        }
        if unread.is_empty() {
            unread.append(&input[consumed..]);
        } else {
            unread.consume(consumed);
        }
        connection.keep_unread(unread, was_full, &mut self.recorder);
    }

    /// After any event of a connection: makes the transitions that follow, and finds out if the connection has ended,
    /// needs another alarm, or wants a turn.
    pub(in crate::reactor) fn after_event(&mut self, id: ConnId) {
        let Self { sources, recorder, timers, context, poll, now, .. } = self;
        let Some(connection) = sources.connection(id) else { return };
        connection.advance(*now, recorder);
        if connection.take_write_watch()
            && let Err(error) = reregister(poll, connection, Readiness::interest())
        {
            // Without events of writes the output would wait for ever.
            connection.end(CloseReason::Failed(error.into()), recorder);
        }
        publish(connection, context.directory_mut());
        if let Some(linger_due) = self.stop.linger_due(*now) {
            connection.limit_linger(linger_due);
        }
        if connection.close_reason().is_some() {
            if let Some(facts) = context.directory_mut().get_mut(id) {
                facts.is_live = false;
            }
            let has_waiters = connection.has_waiters();
            self.closing.push(id);
            if has_waiters {
                self.release_waiters(id);
            }
            return;
        }
        if connection.deadlines.moved() {
            timers.move_alarm(connection, *now, recorder);
        }
        let has_waiters = connection.has_waiters();
        sources.enqueue_if_wanted(id);
        if has_waiters {
            self.release_waiters(id);
        }
    }

    /// The end of the turn for connections that the callbacks of others have changed: one flush for all of it.
    #[inline(never)]
    pub(super) fn flush_pending(&mut self) {
        if !self.sources.has_pending_flush() {
            return;
        }
        let pending = self.sources.take_pending_flush();
        for &id in &pending {
            let Some(connection) = self.sources.begin_flush(id) else { continue };
            connection.flush(self.now, &mut self.recorder);
            publish(connection, self.context.directory_mut());
            // Most connections are done now: a broadcast comes here for each member.
            if !connection.takes_fast_path() || connection.readiness().readable() {
                self.after_event(id);
            }
        }
        self.sources.recycle_pending_flush(pending);
    }
}
