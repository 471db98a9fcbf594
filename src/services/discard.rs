//! The discard service (RFC 863): reads everything, answers nothing.

use crate::service::{Context, Service};

/// Discards every byte, and answers the peer's FIN with its own.
#[derive(Debug, Default)]
pub struct Discard;

impl Service for Discard {
    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    #[test]
    fn every_byte_is_consumed_and_none_is_sent() {
        let mut probe = Probe::new();
        let one = Probe::id(1);
        assert_eq!(probe.on(one, |ctx| Discard.on_data(ctx, b"anything")), 8);
        assert_eq!(probe.take_commands(), []);
        probe.on(one, |ctx| Discard.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }
}
