//! The time before the window, in which each connection becomes ready or fails.
//!
//! Owns: the beginning of the window. Must not know: the requests within the window.

use super::ConnectionPool;
use crate::load::protocol::Protocol;
use crate::service::ServiceContext;

impl<P: Protocol> ConnectionPool<P> {
    /// Notes that one connection is ready or has failed. After the last one the window begins.
    pub(super) fn complete_setup_of_one(&mut self, ctx: &mut ServiceContext) {
        if self.dial_queue.complete_one(ctx) && !self.run.borrow().has_begun() {
            self.begin(ctx);
        }
    }

    /// Begins the window, if any connection is ready.
    fn begin(&mut self, ctx: &mut ServiceContext) {
        self.schedule = {
            let mut run = self.run.borrow_mut();
            if run.served == 0 {
                return;
            }
            run.begin();
            run.schedule(0, 1)
        };
        let senders = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.accepts_requests() && self.protocol.sends_requests(connection.number));
        let senders: Vec<_> = senders.map(|(id, _)| id).collect();
        for _ in 0..self.pipeline {
            self.free.extend(&senders);
        }
        self.dial_queue.begin(ctx);
        self.use_free(ctx);
    }

    /// Begins the window without the connections that are not ready in time.
    pub(super) fn exclude_late(&mut self, ctx: &mut ServiceContext) {
        let late: Vec<_> =
            self.connections.iter().filter(|(_, connection)| !connection.ready).map(|(id, _)| id).collect();
        for &id in &late {
            self.connections.remove(id);
            if let Some(mut late) = ctx.connection(id) {
                late.abort();
            }
        }
        for _ in 0..late.len() + self.dial_queue.drop_undialed() {
            self.run.borrow_mut().exclude();
        }
        self.begin(ctx);
    }
}
