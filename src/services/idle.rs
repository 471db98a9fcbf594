//! The idle service: every byte renews the idle timeout, at which the service says goodbye.

use crate::service::{Context, Service};
use crate::timer::Deadline;

/// Consumes every byte. At the listener's idle timeout it sends `goodbye\n` and closes.
///
/// The service renews nothing: the reactor renews the timeout for every byte, with one store.
#[derive(Debug, Default)]
pub struct Idle;

impl Service for Idle {
    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        if which == Deadline::Idle {
            ctx.send(b"goodbye\n");
        }
        ctx.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    #[test]
    fn the_idle_timeout_says_goodbye() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        assert_eq!(probe.on(one, |ctx| Idle.on_data(ctx, b"still here")), 10);
        assert_eq!(probe.take_commands(), []);
        probe.on(one, |ctx| Idle.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.sent_to(one, b""), b"goodbye\n");
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: one }));
    }

    #[test]
    fn other_deadlines_close_without_a_text() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        probe.on(one, |ctx| Idle.on_deadline(ctx, Deadline::Read));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }
}
