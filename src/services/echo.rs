//! The echo service over TCP (RFC 862): what comes in goes out.

use crate::service::{Context, Service, Span};

/// Sends back what it gets; answers the peer's FIN, after the last byte, with its own.
///
/// A peer that writes and does not read is held back at its high-water mark: the reactor stops reading from it.
#[derive(Debug, Default)]
pub struct Echo;

impl Service for Echo {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.send_input(Span { start: 0, end: input.len() });
        input.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    #[test]
    fn sends_back_what_it_gets_without_a_copy() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        assert_eq!(probe.on(one, |ctx| Echo.on_data(ctx, b"hello")), 5);
        assert_eq!(probe.sent_to(one, b"hello"), b"hello");
        assert_eq!(probe.take_commands(), [Command::SendInput { part: Span { start: 0, end: 5 } }]);
    }

    #[test]
    fn answers_the_end_with_the_end() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        probe.on(one, |ctx| Echo.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }
}
