//! From commands to effects.
//!
//! Owns: the calls of services, and the application of the outbox when a callback has returned. Must not know: why a
//! service wants what it wants.

use std::mem;

use super::source::sources::TcpConnection;
use super::{Invitation, Reactor};
use crate::id::{ConnId, ServiceId};
use crate::service::{CloseReason, Command, Context, Outbox, Service, ServiceContext, Span};
use crate::timer::Time;

/// The bytes that `outbox` says, if all that it says is one answer to `me`: what most callbacks do.
#[inline(always)]
pub(super) fn only_answer<'a>(outbox: &'a Outbox, me: ConnId, input: &'a [u8]) -> Option<&'a [u8]> {
    match outbox.commands() {
        [Command::SendInput { part }] => Some(&input[part.start..part.end]),
        [Command::Send { to, bytes }] if *to == me => Some(outbox.bytes(*bytes)),
        _ => None,
    }
}

impl Reactor {
    /// Calls the service of a connection about it, and applies what it wants. `input` is what the callback is given.
    pub(super) fn call<R>(
        &mut self,
        connection: &mut TcpConnection,
        input: &[u8],
        callback: impl FnOnce(&mut dyn Service, &mut Context<'_>) -> R,
    ) -> R {
        let (_, service) = &mut self.services[usize::from(connection.service().0)];
        let mut ctx = Context::new(&mut self.context, connection.info());
        let result = callback(service.as_mut(), &mut ctx);
        self.apply(connection.service(), Some(connection), input);
        result
    }

    /// Calls a service about something that is not a connection at hand.
    pub(super) fn call_service(&mut self, id: ServiceId, callback: impl FnOnce(&mut dyn Service, &mut ServiceContext)) {
        let Some((_, service)) = self.services.get_mut(usize::from(id.0)) else { return };
        callback(service.as_mut(), &mut self.context);
        self.apply(id, None, &[]);
    }

    /// Applies the recorded commands of `service` in order. `me` is the connection that the callback was about, which
    /// has been taken out of the table of sources for its turn.
    pub(super) fn apply(&mut self, service: ServiceId, mut me: Option<&mut TcpConnection>, input: &[u8]) {
        for n in 0..self.context.outbox().commands().len() {
            let command = self.context.outbox().commands()[n];
            self.recorder.command(&command);
            self.apply_one(command, service, me.as_deref_mut(), input);
        }
        self.context.outbox_mut().clear();
    }

    /// Applies any command.
    fn apply_one(&mut self, command: Command, service: ServiceId, me: Option<&mut TcpConnection>, input: &[u8]) {
        match (command, me) {
            (Command::SendInput { part }, Some(me)) => {
                me.send(&input[part.start..part.end], self.now, &mut self.recorder);
            }
            (Command::Send { to, bytes }, Some(me)) if to == me.id() => {
                me.send(self.context.outbox().bytes(bytes), self.now, &mut self.recorder);
            }
            (command, me) => self.apply_beyond(command, service, me),
        }
    }

    /// Applies a command that is more than an answer.
    fn apply_beyond(&mut self, command: Command, service: ServiceId, me: Option<&mut TcpConnection>) {
        match command {
            Command::SendInput { .. } => self.recorder.ledger.stale_commands += 1,
            Command::Send { to, bytes } => self.send_from_other(to, bytes, me),
            Command::Broadcast { to, bytes } => self.broadcast(to, bytes, me),
            Command::Finish { of } => self.change(of, me, |connection, _| connection.finish()),
            Command::HalfClose { of } => self.change(of, me, |connection, _| connection.half_close()),
            Command::AwaitDrain { of } => self.change(of, me, |connection, _| connection.await_drain()),
            Command::FinishWhenQuiet { of } => self.change(of, me, |connection, now| connection.finish_when_quiet(now)),
            Command::Abort { of, reason } => self.change(of, me, |connection, _| connection.end(reason)),
            Command::Pause { of } => self.change(of, me, |connection, _| connection.pause()),
            Command::Resume { of } => self.change(of, me, |connection, now| connection.resume(now)),
            Command::SetDeadline { of, which, due } => {
                self.change(of, me, |connection, now| {
                    connection.deadlines.set(which, due);
                    // One that has passed beats the bytes for which the connection may have its turn next.
                    connection.deadlines.lapse(now);
                });
            }
            Command::RenewDeadline { of, which } => {
                self.change(of, me, |connection, now| connection.renew_deadline(which, now));
            }
            Command::SetTimer { name, at, every } => self.set_timer(service.into(), name, at, every),
            Command::CancelTimer { name } => self.cancel_timer(service.into(), name),
            Command::Dial { dial } => self.dial_for(service, dial),
            Command::Turn => self.invited.push((service.into(), Invitation::Turn)),
            Command::Stop => self.stop.wanted = true,
        }
    }

    /// Queues bytes for one connection, to be flushed at the end of the turn.
    fn send_from_other(&mut self, to: ConnId, bytes: Span, me: Option<&mut TcpConnection>) {
        let connection = match me {
            Some(me) if me.id() == to => me,
            _ => match self.sources.connection(to) {
                Some(connection) => connection,
                None => {
                    self.recorder.ledger.stale_commands += 1;
                    return;
                }
            },
        };
        connection.send_from_other(self.context.outbox().bytes(bytes), self.now, &mut self.recorder);
        if !mem::replace(&mut connection.dirty, true) {
            self.touched.push(to);
        }
    }

    fn broadcast(&mut self, to: Span, bytes: Span, mut me: Option<&mut TcpConnection>) {
        for n in 0..to.len() {
            let to = self.context.outbox().recipients(to)[n];
            self.send_from_other(to, bytes, me.as_deref_mut());
        }
    }

    /// Changes a connection. One that the callback was not about is settled at the end of the turn.
    fn change(&mut self, of: ConnId, me: Option<&mut TcpConnection>, change: impl FnOnce(&mut TcpConnection, Time)) {
        if let Some(me) = me
            && me.id() == of
        {
            return change(me, self.now);
        }
        match self.sources.connection(of) {
            Some(connection) if connection.ending().is_none() => {
                change(connection, self.now);
                if !mem::replace(&mut connection.dirty, true) {
                    self.touched.push(of);
                }
            }
            _ => self.recorder.ledger.stale_commands += 1,
        }
    }

    /// Dials on behalf of a service, which is told by `on_dial_error` if it fails at once.
    fn dial_for(&mut self, service: ServiceId, dial: usize) {
        if self.stop.is_draining() {
            self.recorder.ledger.stale_commands += 1;
            return;
        }
        let dial = self.context.outbox().dials()[dial].clone();
        if let Err(error) = self.dial_at(service, &dial, self.now) {
            let reason = CloseReason::Unreachable(error.into());
            self.stillborn.push((service, dial.name, reason));
        }
    }
}
