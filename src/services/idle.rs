//! The idle service: every byte buys time; without one it says goodbye.

use crate::service::{Context, Service};
use crate::timer::Deadline;

/// Takes what comes. When the listener's idle timeout has run out it sends `goodbye\n` and closes.
///
/// There is nothing to renew here: the reactor does that for every byte, with one store.
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
    fn says_goodbye_when_its_time_is_up() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        assert_eq!(probe.on(one, |ctx| Idle.on_data(ctx, b"still here")), 10);
        assert_eq!(probe.take_commands(), []);
        probe.on(one, |ctx| Idle.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.sent_to(one, b""), b"goodbye\n");
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: one }));
    }

    #[test]
    fn another_deadline_ends_it_without_a_word() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        probe.on(one, |ctx| Idle.on_deadline(ctx, Deadline::Read));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }
}
