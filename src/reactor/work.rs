//! The phases `work` and `reap`: what happens to a source that has its turn, and to a connection that has ended.
//!
//! Owns: the order of things within a turn of a connection. Must not know: system calls, protocols.

use std::mem;

use log::{debug, info, warn};
use mio::net::TcpStream;
use std::net::SocketAddr;

use super::connection::{Connection, Fill};
use super::setup::register;
use super::socket::{self, Accepted};
use super::sources::Source;
use super::{Alarm, Reactor, open};
use crate::id::{ConnId, SourceId};
use crate::limits::{ACCEPT_REST, ACCEPTS};
use crate::service::CloseReason;
use crate::timer::Tick;

impl Reactor {
    /// Gives every ready source its turn, once; then flushes what they have sent to one another.
    pub(super) fn work(&mut self) {
        self.take_signals();
        self.take_posts();
        mem::swap(&mut self.ready, &mut self.working);
        for n in 0..self.working.len() {
            self.serve(self.working[n]);
        }
        self.working.clear();
        self.flush_touched();
    }

    fn take_posts(&mut self) {
        if !self.mailbox.take_woken() {
            return;
        }
        while let Some((service, message)) = self.mailbox.take() {
            self.recorder.ledger.posts += 1;
            self.call_service(service, |service, ctx| service.on_post(ctx, message));
        }
        self.stop.wanted |= self.mailbox.stop_wanted();
    }

    fn serve(&mut self, id: SourceId) {
        match self.sources.get_mut(id) {
            Some(Source::Connection(connection)) => {
                connection.queued = false;
                self.serve_connection(id);
            }
            Some(Source::Listener(listener)) => {
                listener.queued = false;
                self.serve_listener(id);
            }
            Some(Source::Datagram(socket)) => {
                socket.queued = false;
                socket.work(
                    &mut self.batch,
                    &mut self.letters,
                    self.now,
                    &mut self.recorder,
                );
                if socket.is_over() {
                    self.sources.remove(id);
                } else if socket.wants_turn() && !mem::replace(&mut socket.queued, true) {
                    self.ready.push(id);
                }
            }
            // It was reaped after it had been queued.
            None => {}
        }
    }

    /// The turn of a connection. Output first, because it makes room; deadlines before input, because one that has
    /// passed beats bytes that are ready.
    fn serve_connection(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        if connection.is_connecting() {
            self.serve_dial(id);
        } else if connection.wants_flush() {
            connection.flush(self.now, &mut self.recorder);
        }
        self.report_deadlines(id);
        self.offer_unread(id);
        self.fill(id);
        self.settle(id);
    }

    /// A dialed socket has become writable, or its deadline has passed.
    fn serve_dial(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        if !connection.readiness().writable() {
            return;
        }
        match socket::connect_outcome(connection.stream_mut(), id, &mut self.recorder) {
            Ok(()) => {
                connection.established(self.now);
                self.call(id, &[], |service, ctx| service.on_open(ctx));
            }
            Err(reason) => connection.end(reason),
        }
    }

    fn report_deadlines(&mut self, id: ConnId) {
        while let Some(connection) = self.sources.connection(id)
            && connection.ending().is_none()
            && let Some(which) = connection.lapsed_deadline()
        {
            connection.deadlines.report(which);
            if connection.is_served() {
                self.call(id, &[], |service, ctx| service.on_deadline(ctx, which));
            } else {
                connection.end(CloseReason::Deadline(which));
            }
        }
    }

    /// A connection that has drained: its service is told, and offered again what it had left unread.
    fn offer_unread(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        if !connection.take_drained() || !connection.is_served() {
            return;
        }
        self.call(id, &[], |service, ctx| service.on_drain(ctx));
        if let Some(connection) = self.sources.connection(id)
            && connection.is_served()
            && connection.queued_bytes().1 > 0
        {
            self.deliver(id, 0);
        }
    }

    /// Reads once, if it wants to be read, and hands what has come to the service.
    fn fill(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        if connection.ending().is_some() || !connection.wants_fill() {
            return;
        }
        match connection.fill(&mut self.scratch, self.now, &mut self.recorder) {
            Fill::Data(n) => self.deliver(id, n),
            Fill::Eof => {
                let unread = connection.take_unread();
                self.call(id, unread.as_slice(), |service, ctx| {
                    service.on_eof(ctx, unread.as_slice())
                });
            }
            Fill::Nothing => {}
        }
        if let Some(connection) = self.sources.connection(id)
            && connection.readiness().error()
            && connection.ending().is_none()
        {
            connection.take_error(&mut self.recorder);
        }
    }

    /// Offers the service what it had left unread and the first `n` bytes of the scratch memory, as one piece.
    fn deliver(&mut self, id: ConnId, n: usize) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        let mut unread = connection.take_unread();
        let scratch = mem::take(&mut self.scratch);
        let offered = if unread.is_empty() {
            &scratch[..n]
        } else {
            unread.append(&scratch[..n]);
            unread.as_slice()
        };
        let consumed = self
            .call(id, offered, |service, ctx| service.on_data(ctx, offered))
            .unwrap_or(0);
        debug_assert!(
            consumed <= offered.len(),
            "a service consumed more than it was offered"
        );
        let left = offered.len().saturating_sub(consumed);
        if left > 0 {
            if unread.is_empty() {
                unread.append(&scratch[n - left..n]);
            } else {
                unread.consume(unread.len() - left);
            }
            if let Some(connection) = self.sources.connection(id) {
                connection.keep_unread(unread);
            }
        }
        self.scratch = scratch;
    }

    /// After anything has happened to a connection: the transitions that follow, and whether it wants a turn, has
    /// ended, or needs another alarm.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        connection.settle(self.now, &mut self.recorder);
        if let Some(linger_due) = self.stop.linger_due(self.now) {
            connection.hasten(linger_due);
        }
        if connection.deadlines.moved() && connection.ending().is_none() {
            self.move_alarm(id);
        }
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        if connection.ending().is_some() {
            self.ended.push(id);
        } else if connection.wants_turn() && !mem::replace(&mut connection.queued, true) {
            self.ready.push(id);
        }
    }

    /// Sets the alarm of a connection for its earliest deadline; marks what is due already.
    fn move_alarm(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            return;
        };
        connection.deadlines.lapse(self.now);
        if let Some(alarm) = connection.deadlines.take_alarm() {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(alarm));
        }
        let due = connection.deadlines.earliest();
        let alarm = (!due.is_never()).then(|| {
            self.recorder.ledger.timers_set += 1;
            self.wheel
                .insert(Tick::of_deadline(due), Alarm::Connection(id))
        });
        connection.deadlines.set_alarm(alarm, due);
    }

    /// The alarm of a connection has rung. If its deadlines have been pushed later it is only set anew.
    pub(super) fn deadline_due(&mut self, id: ConnId) {
        let Some(connection) = self.sources.connection(id) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        connection.deadlines.take_alarm();
        self.move_alarm(id);
        if let Some(connection) = self.sources.connection(id)
            && connection.wants_turn()
            && !mem::replace(&mut connection.queued, true)
        {
            self.ready.push(id);
        }
    }

    /// The end of the turn for connections that others have written to or changed: one flush for all of it.
    fn flush_touched(&mut self) {
        let mut touched = mem::take(&mut self.touched);
        for &id in &touched {
            if let Some(connection) = self.sources.connection(id) {
                connection.dirty = false;
                connection.flush(self.now, &mut self.recorder);
                self.settle(id);
            }
        }
        touched.clear();
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }
}

/// Accepting.
impl Reactor {
    /// The turn of a listener: accept until nobody is waiting, within a budget.
    fn serve_listener(&mut self, id: SourceId) {
        for _ in 0..ACCEPTS {
            if !self.accept(id) {
                break;
            }
        }
        if let Some(listener) = self.sources.listener(id)
            && listener.wants_turn()
            && !mem::replace(&mut listener.queued, true)
        {
            self.ready.push(id);
        }
    }

    /// Accepts one connection; says whether to go on.
    pub(super) fn accept(&mut self, id: SourceId) -> bool {
        let Some(listener) = self.sources.listener(id) else {
            return false;
        };
        match socket::accept(&listener.socket, id, &mut self.recorder) {
            Accepted::Connection(stream, peer) => {
                self.admit(id, stream, peer);
                true
            }
            Accepted::Died(_) => true,
            Accepted::Blocked => {
                listener.blocked();
                false
            }
            Accepted::Exhausted(errno) => {
                warn!(
                    "{}: cannot accept: {errno}; trying again in {ACCEPT_REST:?}",
                    listener.name
                );
                listener.rest();
                self.wheel.insert(
                    Tick::of_deadline(self.now + ACCEPT_REST),
                    Alarm::Listener(id),
                );
                self.recorder.ledger.timers_set += 1;
                false
            }
        }
    }

    /// Makes an accepted socket a connection, if there is room for one more.
    fn admit(&mut self, listener: SourceId, mut stream: TcpStream, peer: SocketAddr) {
        if self.sources.connections() >= self.max_connections {
            self.recorder.ledger.refused += 1;
            socket::refuse(stream, &mut self.scratch);
            return;
        }
        let Some(listener) = self.sources.listener(listener) else {
            return;
        };
        let (name, service, policy) = (listener.name, listener.service, listener.policy.clone());
        open::prepare_accepted(&stream);
        let (registry, now) = (self.poll.registry(), self.now);
        let registered = self.sources.insert(|id| {
            register(registry, &mut stream, id)?;
            Ok::<_, std::io::Error>(Source::Connection(Connection::accepted(
                stream, id, peer, service, policy, now,
            )))
        });
        match registered {
            Ok(id) => {
                debug!("{name}: {id} {peer} connected");
                self.call(id, &[], |service, ctx| service.on_open(ctx));
                self.settle(id);
            }
            Err(error) => warn!("{name}: cannot register {peer}: {error}"),
        }
    }

    /// A listener has rested.
    pub(super) fn end_rest(&mut self, id: SourceId) {
        let Some(listener) = self.sources.listener(id) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        listener.wake();
        if listener.wants_turn() && !mem::replace(&mut listener.queued, true) {
            self.ready.push(id);
        }
    }
}

/// Reaping.
impl Reactor {
    /// Tells the services whose connections have ended, and frees their slots. What the services send on that occasion
    /// is flushed, which may end others in turn.
    pub(super) fn reap(&mut self) {
        while let Some(id) = self.ended.pop() {
            let Some(Source::Connection(mut connection)) = self.sources.remove(id) else {
                continue;
            };
            if let Some(alarm) = connection.deadlines.take_alarm() {
                self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(alarm));
            }
            let reason = connection.ending().unwrap_or(CloseReason::Aborted);
            self.recorder.ledger.count_close(reason);
            match reason {
                CloseReason::Overflow | CloseReason::Unread => {
                    info!("{id} {} closed: {reason}", connection.peer())
                }
                _ => debug!("{id} {} closed: {reason}", connection.peer()),
            }
            let service = connection.service();
            drop(connection);
            self.call_service(service, |service, ctx| service.on_close(ctx, id, reason));
            if self.ended.is_empty() {
                self.flush_touched();
            }
        }
        for (service, id, reason) in mem::take(&mut self.stillborn) {
            self.recorder.ledger.count_close(reason);
            self.call_service(service, |service, ctx| service.on_close(ctx, id, reason));
        }
        self.begin_stop_if_wanted();
    }
}
