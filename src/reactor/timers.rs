//! Between the wheel and those who wait for it: the alarms of connections, and the timers of services.
//!
//! Owns: when an entry of the wheel is set, moved and cancelled. Must not know: what a deadline leads to.

use std::mem;

use super::named_timers::NamedTimer;
use super::source::sources::TcpConnection;
use super::{Alarm, Reactor};
use crate::id::{Addressee, ConnId, SourceId};
use crate::service::TimerName;
use crate::timer::{Tick, Time, Timeout, TimerId};

impl Reactor {
    /// Sets an entry of the wheel.
    pub(super) fn set_alarm(&mut self, due: Time, alarm: Alarm) -> TimerId {
        self.recorder.ledger.timers_set += 1;
        // Not in the tick that is being handed out: a callback that sets the next timer at once would never return.
        let next = Tick(Tick::of_now(self.now).0.saturating_add(1));
        self.wheel.insert(Tick::of_deadline(due).max(next), alarm)
    }

    /// Sets the alarm of a connection for its earliest deadline; marks what is due already.
    pub(super) fn move_alarm(&mut self, connection: &mut TcpConnection) {
        connection.deadlines.lapse(self.now);
        if let Some(alarm) = connection.deadlines.take_alarm() {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(alarm));
        }
        let due = connection.deadlines.earliest();
        let alarm = (!due.is_never()).then(|| self.set_alarm(due, Alarm::Connection(connection.id())));
        connection.deadlines.set_alarm(alarm, due);
    }

    /// The alarm of a connection has rung. If its deadlines have been pushed later it is only set anew.
    pub(super) fn deadline_due(&mut self, id: ConnId) {
        let Some(mut connection) = self.sources.take_out(id) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        connection.deadlines.take_alarm();
        self.move_alarm(&mut connection);
        if connection.wants_turn() && !mem::replace(&mut connection.queued, true) {
            self.ready.push(id);
        }
        self.sources.put_back(connection);
    }

    /// Sets a timer of a service, in place of one of the same name.
    pub(super) fn set_timer(&mut self, owner: Addressee, name: TimerName, at: Time, every: Timeout) {
        self.cancel_timer(owner, name);
        let id = self.set_alarm(at, Alarm::Named(owner, name));
        self.timers.insert((owner, name), NamedTimer { id, at, every });
    }

    /// Cancels a timer of a service, if it is set.
    pub(super) fn cancel_timer(&mut self, owner: Addressee, name: TimerName) {
        if let Some(timer) = self.timers.remove(&(owner, name)) {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(timer.id));
        }
    }

    /// Cancels every timer of a datagram socket, which is about to go.
    pub(super) fn cancel_timers_of(&mut self, socket: SourceId) {
        for (_, timer) in self.timers.extract_if(|(owner, _), _| *owner == Addressee::Socket(socket)) {
            self.recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(timer.id));
        }
    }

    /// A timer of a service has fired: set it anew if it repeats, then tell the service.
    pub(super) fn named_timer_due(&mut self, owner: Addressee, name: TimerName) {
        let Some(timer) = self.timers.remove(&(owner, name)) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        if let Some(at) = timer.next(self.now) {
            self.set_timer(owner, name, at, timer.every);
        }
        match owner {
            Addressee::Service(id) => self.call_service(id, |service, ctx| service.on_timer(ctx, name)),
            Addressee::Socket(id) => self.call_socket(id, |service, ctx| service.on_timer(ctx, name)),
        }
    }
}
