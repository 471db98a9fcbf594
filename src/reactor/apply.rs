//! From commands to effects.
//!
//! Owns: the application of an outbox, when the callback that filled it has returned. Must not know: why a service
//! wants what it wants.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::named_timers::NamedTimer;
use super::socket::close_reason;
use super::sources::TcpConnection;
use super::{Alarm, Reactor};
use crate::id::{ConnId, ServiceId};
use crate::limits::Policy;
use crate::service::{CloseReason, Command, Context, Errno, Service, ServiceContext, TimerName};
use crate::timer::{Tick, Time};

impl Reactor {
    /// Calls the service of a connection about it, and applies what it wants. `input` is what the callback is given.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        id: ConnId,
        input: &[u8],
        callback: impl FnOnce(&mut dyn Service, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let connection = self.sources.connection(id)?;
        let service_id = connection.service();
        let (_, service) = &mut self.services[usize::from(service_id.0)];
        let ctx = ServiceContext::new(self.now, SystemTime::now, &mut self.outbox);
        let result = callback(
            service.as_mut(),
            &mut Context::new(ctx, id, connection.peer(), connection.room()),
        );
        self.apply(service_id, Some(id), input);
        Some(result)
    }

    /// Calls a service about something that is not a connection at hand.
    pub(super) fn call_service(
        &mut self,
        id: ServiceId,
        callback: impl FnOnce(&mut dyn Service, &mut ServiceContext<'_>),
    ) {
        let Some((_, service)) = self.services.get_mut(usize::from(id.0)) else {
            return;
        };
        callback(
            service.as_mut(),
            &mut ServiceContext::new(self.now, SystemTime::now, &mut self.outbox),
        );
        self.apply(id, None, &[]);
    }

    /// Applies the recorded commands of `service` in order. `me` is the connection that the callback was about.
    fn apply(&mut self, service: ServiceId, me: Option<ConnId>, input: &[u8]) {
        for n in 0..self.outbox.commands().len() {
            let command = self.outbox.commands()[n];
            self.recorder.command(&command);
            match command {
                Command::Send { to, bytes } if Some(to) == me => {
                    if let Some(connection) = self.sources.connection(to) {
                        connection.send(self.outbox.bytes(bytes), self.now, &mut self.recorder);
                    }
                }
                Command::SendInput { to, part } => {
                    if let Some(connection) = self.sources.connection(to) {
                        connection.send(&input[part.start..part.end], self.now, &mut self.recorder);
                    }
                }
                Command::Send { to, bytes } => self.send_from_other(to, bytes),
                Command::Broadcast { to, bytes } => {
                    for n in to.start..to.end {
                        let to = self.outbox.recipients(to)[n - to.start];
                        self.send_from_other(to, bytes);
                    }
                }
                Command::Finish { of } => self.change(of, me, |connection, _| connection.finish()),
                Command::FinishWhenQuiet { of } => {
                    self.change(of, me, |connection, _| connection.finish_when_quiet())
                }
                Command::Abort { of, reason } => {
                    self.change(of, me, |connection, _| connection.end(reason))
                }
                Command::Pause { of } => self.change(of, me, |connection, _| connection.pause()),
                Command::Resume { of } => {
                    self.change(of, me, |connection, now| connection.resume(now))
                }
                Command::SetDeadline { of, which, due } => {
                    self.change(of, me, |connection, _| connection.deadlines.set(which, due));
                }
                Command::SetTimer { name, at, every } => self.set_timer(service, name, at, every),
                Command::CancelTimer { name } => self.cancel_timer(service, name),
                Command::Connect { to, timeout } => self.dial_for(service, to, timeout),
                Command::Stop => self.stop.wanted = true,
            }
        }
        self.outbox.clear();
    }

    fn send_from_other(&mut self, to: ConnId, bytes: crate::service::Span) {
        let Some(connection) = self.sources.connection(to) else {
            self.recorder.ledger.stale_commands += 1;
            return;
        };
        connection.send_from_other(self.outbox.bytes(bytes), self.now, &mut self.recorder);
        if !std::mem::replace(&mut connection.dirty, true) {
            self.touched.push(to);
        }
    }

    /// Changes a connection. One that the callback was not about is settled at the end of the turn.
    fn change(
        &mut self,
        of: ConnId,
        me: Option<ConnId>,
        change: impl FnOnce(&mut TcpConnection, Time),
    ) {
        match self.sources.connection(of) {
            Some(connection) if connection.ending().is_none() => {
                change(connection, self.now);
                if Some(of) != me && !std::mem::replace(&mut connection.dirty, true) {
                    self.touched.push(of);
                }
            }
            _ => self.recorder.ledger.stale_commands += 1,
        }
    }

    fn set_timer(&mut self, service: ServiceId, name: TimerName, at: Time, every: Duration) {
        self.cancel_timer(service, name);
        let id = self
            .wheel
            .insert(Tick::of_deadline(at), Alarm::Named(service, name));
        self.recorder.ledger.timers_set += 1;
        self.timers
            .insert((service, name), NamedTimer { id, at, every });
    }

    fn cancel_timer(&mut self, service: ServiceId, name: TimerName) {
        if let Some(timer) = self.timers.remove(&(service, name)) {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(timer.id));
        }
    }

    /// A timer of a service has fired: set it anew if it repeats, then tell the service.
    pub(super) fn named_timer_due(&mut self, service: ServiceId, name: TimerName) {
        let Some(timer) = self.timers.remove(&(service, name)) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        if let Some(at) = timer.next(self.now) {
            self.set_timer(service, name, at, timer.every);
        }
        self.call_service(service, |service, ctx| service.on_timer(ctx, name));
    }

    /// Dials on behalf of a service, which is told by `on_close` if it fails at once.
    fn dial_for(&mut self, service: ServiceId, to: SocketAddr, timeout: Duration) {
        if let Err(error) = self.connect(service, to, None, timeout, Policy::default()) {
            let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
            let reason = match close_reason(errno) {
                CloseReason::Failed(errno) => CloseReason::Unreachable(errno),
                reason => reason,
            };
            let id = self.sources.stillborn();
            self.stillborn.push((service, id, reason));
        }
    }
}
