//! The phase `reap`: the end of each connection that has ended in this turn.
//!
//! Owns: the last callback of a connection, and the freeing of its slot. Must not know: why a connection has ended.

use std::mem;

use log::{Level, log};

use crate::id::ConnId;
use crate::reactor::Reactor;
use crate::reactor::sys::stream;
use crate::service::CloseReason;

impl Reactor {
    /// Closes the connections that have ended, and frees their slots. The output of services on that occasion is flushed,
    /// which may end other connections in turn.
    #[inline(never)]
    pub(in crate::reactor) fn reap(&mut self) {
        if !self.outcomes.is_empty() {
            self.stop.has_reported = self.stop.is_draining() && self.sources.is_empty();
            self.report_outcomes();
        }
        while !self.closing.is_empty() || self.sources.has_pending_flush() {
            for id in mem::take(&mut self.closing) {
                self.close_connection(id);
            }
            self.flush_pending();
        }
        self.begin_stop_if_wanted();
    }

    fn close_connection(&mut self, id: ConnId) {
        let Self { sources, timers, recorder, context, .. } = self;
        let Some(connection) = sources.connection(id) else { return };
        timers.cancel_alarm(connection, recorder);
        if connection.ends_with_reset() {
            stream::reset_on_close(connection.stream_mut(), id.into(), recorder);
        }
        let reason = connection.close_reason().unwrap_or(CloseReason::Aborted);
        recorder.ledger.count_close(reason);
        if let Some(facts) = context.directory().get(id) {
            let level =
                if matches!(reason, CloseReason::Overflow | CloseReason::Unread) { Level::Info } else { Level::Debug };
            log!(level, "{id} {} closed: {reason}", facts.peer);
        }
        let (service, listener, is_established) =
            (connection.service(), connection.listener(), connection.is_established());
        if connection.has_detour() {
            self.end_detour(id);
        }
        self.sources.remove(id.into());
        if let Some(listener) = listener.and_then(|listener| self.sources.listener(listener)) {
            listener.released();
        }
        if is_established {
            self.call_about_end(service, id, |service, ctx| service.on_close(ctx, reason));
        } else {
            self.call_about_end(service, id, |service, ctx| service.on_dial_error(ctx, reason));
        }
    }
}
