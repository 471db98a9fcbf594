//! The time service: the local time as text, then the end.
//!
//! The service of that name in RFC 868 sends a binary number. This one sends the text of the time server in Go tutorials.

use crate::protocol::time_text::LocalTime;
use crate::service::{Context, Service};

/// Sends `2006-01-02 15:04:05\n` to each peer, and closes.
#[derive(Debug, Default)]
pub struct Time {
    local: LocalTime,
}

impl Time {
    /// Sends the time in the zone of `local`.
    pub fn new(local: LocalTime) -> Self {
        Self { local }
    }
}

impl Service for Time {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.wall_clock();
        ctx.send(self.local.line(now));
        ctx.finish();
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    #[test]
    fn the_time_is_sent_and_the_connection_finished() {
        let mut service = Time::default();
        let mut probe = Probe::new();
        let one = Probe::id(1);
        probe.on(one, |ctx| service.on_open(ctx));
        assert_eq!(probe.sent_to(one, b""), b"1970-01-01 00:00:00\n");
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: one }));
    }
}
