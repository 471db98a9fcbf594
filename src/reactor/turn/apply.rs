//! From commands to effects.
//!
//! Owns: the calls of services, and the application of the outbox when a callback has returned. Must not know: why a
//! service records a command.
//!
//! When a callback has returned nothing is borrowed but its input, so each command looks its connection up by id.

use crate::id::{ConnId, ServiceId};
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::services::AnyService;
use crate::reactor::source::sources::StreamConnection;
use crate::reactor::{Reactor, ScheduledCall};
use crate::service::{Command, Context, Directory, Outbox, Service, ServiceContext, Span};
use crate::timer::Time;

/// Returns the bytes of `command` if it is an answer to `me`: most callbacks record one answer and nothing else.
#[inline(always)]
pub(in crate::reactor) fn answer<'a>(
    command: &Command,
    outbox: &'a Outbox,
    me: ConnId,
    input: &'a [u8],
) -> Option<&'a [u8]> {
    match command {
        Command::SendInput { part } => Some(&input[part.start..part.end]),
        Command::Send { to, bytes } if *to == me => Some(outbox.bytes(*bytes)),
        _ => None,
    }
}

/// Copies the length of the queued output into the facts that services may know.
#[inline]
pub(in crate::reactor) fn publish(connection: &mut StreamConnection, directory: &mut Directory) {
    if let Some(queued) = connection.take_unpublished()
        && let Some(facts) = directory.get_mut(connection.id())
    {
        facts.queued = queued;
    }
}

impl Reactor {
    /// Calls the service of a connection about it, and applies the commands. `input` is what the callback gets. Returns
    /// `None` if the connection is gone.
    pub(in crate::reactor) fn call<R>(
        &mut self,
        id: ConnId,
        input: &[u8],
        callback: impl FnOnce(&mut dyn Service, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let Self { sources, services, context, .. } = self;
        let connection = sources.connection(id)?;
        publish(connection, context.directory_mut());
        let service = connection.service();
        let object = services[service.index()].service.stream()?;
        let result = callback(object, &mut Context::new(context, id));
        self.apply(service, Some(id), input);
        Some(result)
    }

    /// Calls a service about the end of a connection, or of a dial. The facts about the connection are known until the
    /// callback has returned.
    pub(in crate::reactor) fn call_about_end(
        &mut self,
        service: ServiceId,
        id: ConnId,
        callback: impl FnOnce(&mut dyn Service, &mut Context<'_>),
    ) {
        if let Some(facts) = self.context.directory_mut().get_mut(id)
            && let Some(object) = self.services[service.index()].service.stream()
        {
            facts.is_live = false;
            callback(object, &mut Context::new(&mut self.context, id));
            self.apply(service, None, &[]);
            self.context.directory_mut().remove(id.into());
        }
    }

    /// Calls a service about something that is not a connection at hand.
    pub(in crate::reactor) fn call_service(
        &mut self,
        id: ServiceId,
        callback: impl FnOnce(&mut AnyService, &mut ServiceContext),
    ) {
        let Some(entry) = self.services.get_mut(id.index()) else { return };
        callback(&mut entry.service, &mut self.context);
        self.apply(id, None, &[]);
    }

    /// Applies the recorded commands of `service` in order. `me` is the connection that the callback was about, and
    /// `input` the bytes that the callback was given.
    pub(in crate::reactor) fn apply(&mut self, service: ServiceId, me: Option<ConnId>, input: &[u8]) {
        for n in 0..self.context.outbox().commands().len() {
            let command = self.context.outbox().commands()[n];
            self.recorder.command(&command);
            match command {
                Command::SendInput { part } => self.answer(me, &input[part.start..part.end]),
                Command::Send { to, bytes } => self.send(to, bytes, me),
                Command::Forward { from, to, part } => self.forward(from, to, &input[part.start..part.end]),
                Command::Splice { from, to } => self.change(from, me, |connection, _, _| connection.relay_to(to)),
                Command::Broadcast { to, bytes } => self.broadcast(to, bytes),
                Command::SetTimer { name, at, every } => self.set_timer(service, name, at, every),
                Command::CancelTimer { name } => self.cancel_timer(service, name),
                Command::Dial { id, dial } => self.dial_for(service, id, dial),
                Command::Listen { id, listen } => self.listen_for(service, id, listen),
                Command::Bind { id, bind } => self.bind_for(service, id, bind),
                Command::Transmit { of, transmits } => self.transmit_by(of, transmits),
                Command::Connect { of, connect } => self.connect_socket(of, connect),
                Command::Close { id } => self.close_for(id),
                Command::Turn => self.scheduled.push((service, ScheduledCall::Turn)),
                Command::Stop => self.stop.wanted = true,
                command => self.apply_to_connection(command, me),
            }
        }
        self.context.outbox_mut().clear();
    }

    /// Applies a command that changes one connection.
    fn apply_to_connection(&mut self, command: Command, me: Option<ConnId>) {
        match command {
            Command::Finish { of } => self.change(of, me, |connection, _, recorder| connection.finish(recorder)),
            Command::HalfClose { of } => self.change(of, me, |connection, _, recorder| connection.half_close(recorder)),
            Command::AwaitDrain { of } => self.change(of, me, |connection, _, _| connection.await_drain()),
            Command::FinishWhenQuiet { of } => {
                self.change(of, me, |connection, now, _| connection.finish_when_quiet(now));
            }
            Command::Abort { of, reason } => {
                self.change(of, me, |connection, _, recorder| connection.end(reason, recorder));
            }
            Command::Reset { of } => self.change(of, me, |connection, _, recorder| connection.reset(recorder)),
            Command::Pause { of } => self.change(of, me, |connection, _, recorder| connection.pause(recorder)),
            Command::Resume { of } => self.change(of, me, |connection, now, recorder| connection.resume(now, recorder)),
            Command::SetDeadline { of, which, due } => {
                self.change(of, me, |connection, now, _| connection.set_deadline(which, due, now));
            }
            Command::SetTimeout { of, which, timeout } => {
                self.change(of, me, |connection, now, _| connection.set_timeout(which, timeout, now));
            }
            Command::RestoreTimeout { of, which } => {
                self.change(of, me, |connection, now, _| connection.restore_timeout(which, now));
            }
            _ => debug_assert!(false, "{command:?} is applied in `apply`"),
        }
    }

    /// Sends to the connection that the callback was about: at once, if the kernel takes it.
    fn answer(&mut self, me: Option<ConnId>, bytes: &[u8]) {
        match me.and_then(|me| self.sources.connection(me)) {
            Some(connection) => connection.send(bytes, self.now, &mut self.recorder),
            None => self.recorder.ledger.stale_commands += 1,
        }
    }

    /// Sends to one connection: at once, if nothing is queued and the kernel takes the bytes. The service bounds the queue
    /// of another connection by asking ([`Context::await_drain`]).
    fn send(&mut self, to: ConnId, bytes: Span, me: Option<ConnId>) {
        let Self { sources, context, recorder, now, .. } = self;
        let Some(connection) = sources.connection(to) else {
            recorder.ledger.stale_commands += 1;
            return;
        };
        connection.send(context.outbox().bytes(bytes), *now, recorder);
        publish(connection, context.directory_mut());
        if Some(to) != me && !connection.takes_fast_path() {
            sources.connection_pending_flush(to);
        }
    }

    /// Sends a part of the input of `from` to `to`: at once, if nothing is queued and the kernel takes the bytes. Holds
    /// `from` while more than the low-water mark of `to` is queued.
    pub(in crate::reactor) fn forward(&mut self, from: ConnId, to: ConnId, bytes: &[u8]) {
        let Self { sources, context, recorder, now, .. } = self;
        let Some(target) = sources.connection(to) else {
            recorder.ledger.stale_commands += 1;
            return;
        };
        target.send(bytes, *now, recorder);
        publish(target, context.directory_mut());
        if target.takes_fast_path() {
            return;
        }
        let holds = target.hold(from);
        sources.connection_pending_flush(to);
        if holds && let Some(source) = sources.connection(from) {
            source.held();
        }
    }

    /// Reads the connections again that `of` has held, if its output has drained or it has ended.
    pub(in crate::reactor) fn release_waiters(&mut self, of: ConnId) {
        let Some(waiters) = self.sources.connection(of).and_then(|connection| connection.take_waiters()) else {
            return;
        };
        for &id in &waiters {
            if let Some(source) = self.sources.connection(id) {
                source.released(self.now);
                // No alarm is left of a deadline that has passed meanwhile.
                if source.deadlines.moved() {
                    self.timers.move_alarm(source, self.now, &mut self.recorder);
                }
                self.sources.enqueue_if_wanted(id);
            }
        }
        if let Some(connection) = self.sources.connection(of) {
            connection.recycle_waiters(waiters);
        }
    }

    /// Queues the same bytes for several connections, to be flushed at the end of the turn.
    fn broadcast(&mut self, to: Span, bytes: Span) {
        let Self { sources, context, recorder, now, .. } = self;
        let (recipients, bytes) = (context.outbox().recipients(to), context.outbox().bytes(bytes));
        for &to in recipients {
            match sources.connection_pending_flush(to) {
                Some(connection) => connection.queue_broadcast(bytes, *now, recorder),
                None => recorder.ledger.stale_commands += 1,
            }
        }
    }

    /// Changes a connection. A connection that the callback was not about is advanced at the end of the turn.
    fn change(
        &mut self,
        of: ConnId,
        me: Option<ConnId>,
        change: impl FnOnce(&mut StreamConnection, Time, &mut Recorder),
    ) {
        let connection = if Some(of) == me {
            self.sources.connection(of)
        } else {
            self.sources.connection_pending_flush(of).filter(|connection| connection.close_reason().is_none())
        };
        match connection {
            Some(connection) => change(connection, self.now, &mut self.recorder),
            None => self.recorder.ledger.stale_commands += 1,
        }
    }
}
