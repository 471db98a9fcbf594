//! A service that is one value for each connection.
//!
//! Owns: [`Conversation`] and the adapter [`PerConnection`]. Must not know: the reactor.
//!
//! A [`Service`] is one object for all its connections, and keeps their states in a [`ConnMap`]. Where the connections
//! share nothing, a value for each of them is shorter. The adapter costs one look-up a callback.

use std::fmt;

use super::{CloseReason, Context, Service};
use crate::id::ConnMap;
use crate::timer::Deadline;

/// The state of one connection, with the callbacks of [`Service`] about it.
///
/// The closure of [`PerConnection::new`] takes the place of `on_open`. Timers, posts and dial errors have no connection
/// to go to: they need a [`Service`].
pub trait Conversation: 'static {
    /// As [`Service::on_data`].
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize;

    /// As [`Service::on_eof`].
    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        let _ = rest;
        ctx.finish();
    }

    /// As [`Service::on_peer_closed`].
    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// As [`Service::on_drain`].
    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// As [`Service::on_deadline`].
    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        ctx.abort_because(CloseReason::Deadline(which));
    }

    /// As [`Service::on_stop`].
    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.finish_when_quiet();
    }

    /// As [`Service::on_close`]. The value is dropped afterwards.
    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let _ = (ctx, reason);
    }
}

/// A service with one [`Conversation`] for each connection.
///
/// ```
/// use reactor::service::{Conversation, PerConnection};
/// use reactor::{Context, Reactor};
///
/// /// Answers each piece of input with the number of bytes so far.
/// struct Count(usize);
///
/// impl Conversation for Count {
///     fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
///         self.0 += input.len();
///         ctx.send(format!("{}\n", self.0).as_bytes());
///         input.len()
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let count = reactor.add_service("count", Box::new(PerConnection::new(|_| Count(0))));
/// # let _ = count;
/// # Ok(())
/// # }
/// ```
pub struct PerConnection<C, F> {
    open: F,
    conversations: ConnMap<C>,
}

impl<C: Conversation, F: FnMut(&mut Context<'_>) -> C> PerConnection<C, F> {
    /// Returns a service that calls `open` for each connection that is established, accepted or dialed. `open` may send a
    /// greeting and set deadlines.
    pub fn new(open: F) -> Self {
        Self { open, conversations: ConnMap::new() }
    }

    /// Returns the number of open connections.
    pub fn len(&self) -> usize {
        self.conversations.len()
    }

    /// Returns true if no connection is open.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }
}

impl<C: Conversation, F: FnMut(&mut Context<'_>) -> C + 'static> Service for PerConnection<C, F> {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let conversation = (self.open)(ctx);
        self.conversations.insert(ctx.id(), conversation);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        match self.conversations.get_mut(ctx.id()) {
            Some(conversation) => conversation.on_data(ctx, input),
            None => input.len(),
        }
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            conversation.on_eof(ctx, rest);
        }
    }

    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            conversation.on_peer_closed(ctx);
        }
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            conversation.on_drain(ctx);
        }
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            conversation.on_deadline(ctx, which);
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            conversation.on_stop(ctx);
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        if let Some(mut conversation) = self.conversations.remove(ctx.id()) {
            conversation.on_close(ctx, reason);
        }
    }
}

impl<C, F> fmt::Debug for PerConnection<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerConnection").field("connections", &self.conversations.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::service::{Command, Probe};

    /// Answers with the number of bytes so far, and reports its end.
    struct Count(usize, Rc<RefCell<Vec<usize>>>);

    impl Conversation for Count {
        fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
            self.0 += input.len();
            ctx.send(self.0.to_string().as_bytes());
            input.len()
        }

        fn on_close(&mut self, _: &mut Context<'_>, _: CloseReason) {
            self.1.borrow_mut().push(self.0);
        }
    }

    #[test]
    fn each_connection_has_a_value_of_its_own() {
        let ends = Rc::new(RefCell::new(Vec::new()));
        let shared = Rc::clone(&ends);
        let mut service = PerConnection::new(move |ctx| {
            ctx.send(b"hello");
            Count(0, Rc::clone(&shared))
        });
        let (mut probe, [one, two]) = (Probe::new(), [1, 2].map(Probe::id));
        for id in [one, two] {
            probe.on(id, |ctx| service.on_open(ctx));
            assert_eq!(probe.sent_to(id, b""), b"hello");
        }
        probe.take_commands();
        for (id, answer) in [(one, "4"), (two, "4"), (one, "8")] {
            assert_eq!(probe.on(id, |ctx| service.on_data(ctx, b"four")), 4);
            assert_eq!(probe.sent_to(id, b""), answer.as_bytes());
            probe.take_commands();
        }
        probe.on(one, |ctx| service.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
        probe.on(one, |ctx| service.on_close(ctx, CloseReason::Finished));
        assert_eq!((service.len(), ends.borrow().as_slice()), (1, &[8][..]));
        // A callback about a connection that the service does not know does nothing.
        assert_eq!(probe.on(one, |ctx| service.on_data(ctx, b"late")), 4);
        probe.on(two, |ctx| service.on_close(ctx, CloseReason::Reset));
        assert!(service.is_empty());
    }
}
