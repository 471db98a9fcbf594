//! The echo service over TCP (RFC 862): every byte comes back.

use crate::service::{Context, Service, Span};

/// Sends back every byte, and answers the peer's FIN, after the last byte, with its own.
///
/// The reactor suspends reading a peer that writes and does not read, at the high-water mark of its connection.
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
    fn input_is_sent_back_without_a_copy() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        assert_eq!(probe.on(one, |ctx| Echo.on_data(ctx, b"hello")), 5);
        assert_eq!(probe.sent_to(one, b"hello"), b"hello");
        assert_eq!(probe.take_commands(), [Command::SendInput { part: Span { start: 0, end: 5 } }]);
    }

    #[test]
    fn an_end_of_file_is_answered_with_fin() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        probe.on(one, |ctx| Echo.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }
}
