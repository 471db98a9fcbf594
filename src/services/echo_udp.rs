//! The echo service over UDP (RFC 862): each datagram goes back to its sender, unchanged.

use crate::service::{DatagramContext, DatagramService};

/// Answers each datagram with the same datagram.
#[derive(Debug, Default)]
pub struct EchoUdp;

impl DatagramService for EchoUdp {
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, _payload: &[u8]) {
        ctx.reply_same();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Probe, SentDatagram};

    #[test]
    fn each_datagram_gets_the_same_answer() {
        let mut probe = Probe::new();
        let (socket, sender) = (Probe::socket(1), ([127, 0, 0, 1], 9).into());
        for payload in [&b"one"[..], b"", b"three"] {
            probe.on_datagram(socket, sender, payload, |ctx, payload| EchoUdp.on_datagram(ctx, payload));
            let same = SentDatagram { by: socket, to: Some(sender), payload: payload.to_vec() };
            assert_eq!(probe.take_datagrams(), [same]);
        }
        assert!(probe.take_commands().is_empty());
    }
}
