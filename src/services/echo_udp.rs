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
    use crate::service::{Payload, Recipient, SocketContext, Transmit};

    #[test]
    fn each_datagram_gets_the_same_answer() {
        let mut socket = SocketContext::new();
        for (number, payload) in [&b"one"[..], b"", b"three"].into_iter().enumerate() {
            EchoUdp.on_datagram(&mut DatagramContext::new(&mut socket, number, ([127, 0, 0, 1], 9).into()), payload);
        }
        let same = |n| Transmit { to: Recipient::SenderOf(n), payload: Payload::Received(n) };
        assert_eq!(socket.outbox().transmits(), [same(0), same(1), same(2)]);
    }
}
