//! The addresses of a datagram peer, tried in turn.
//!
//! Owns: [`Candidates`]. Must not know: sockets, timers.
//!
//! UDP has no handshake: only an answer proves an address right, and only a refusal proves it wrong. So
//! the datagrams that an address has not answered are kept, and sent again to the next address after a refusal.
//!
//! Invariant: at most [`KEPT`] bytes are kept. An address that has been sent more is the choice, answered or not.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// The bytes of datagrams that are kept until an address has answered: the size of the input that is read ahead.
const KEPT: usize = 256 * 1024;

/// The addresses of one attempt.
#[derive(Debug)]
pub enum Candidates {
    /// The present address has not answered, and others may follow.
    Trying {
        /// The addresses that have not been tried.
        next: VecDeque<SocketAddr>,
        /// The datagrams sent to the present address.
        sent: Vec<Vec<u8>>,
        /// Their bytes.
        bytes: usize,
    },
    /// The present address is the choice.
    Settled,
}

impl Candidates {
    /// The addresses of an attempt, in the order in which they are tried.
    pub fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Candidates::Trying { next: addrs.into_iter().collect(), sent: Vec::new(), bytes: 0 }
    }

    /// The next address to try. `None` if the present address is the choice or was the last.
    pub fn advance(&mut self) -> Option<SocketAddr> {
        match self {
            Candidates::Trying { next, .. } => next.pop_front(),
            Candidates::Settled => None,
        }
    }

    /// A datagram was sent to the present address.
    pub fn note_sent(&mut self, datagram: &[u8]) {
        let Candidates::Trying { next, sent, bytes } = self else { return };
        *bytes += datagram.len();
        if next.is_empty() {
            return;
        }
        if *bytes > KEPT {
            *self = Candidates::Settled;
        } else {
            sent.push(datagram.to_vec());
        }
    }

    /// The datagrams that a former address has refused, to be sent to the present one. They stay kept while another
    /// address may follow.
    pub fn unanswered(&mut self) -> Vec<Vec<u8>> {
        match self {
            Candidates::Trying { next, sent, .. } if next.is_empty() => std::mem::take(sent),
            Candidates::Trying { sent, .. } => sent.clone(),
            Candidates::Settled => Vec::new(),
        }
    }

    /// The present address has answered: it is the choice.
    pub fn settle(&mut self) {
        *self = Candidates::Settled;
    }

    /// Returns true if the present address is the choice.
    pub fn is_settled(&self) -> bool {
        matches!(self, Candidates::Settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(n: u8) -> impl Iterator<Item = SocketAddr> {
        (1..=n).map(|n| ([127, 0, 0, n], 9).into())
    }

    #[test]
    fn unanswered_datagrams_follow_to_the_last_address() {
        let mut candidates = Candidates::new(addrs(3));
        for n in 1..=3 {
            assert_eq!(candidates.advance(), Some(([127, 0, 0, n], 9).into()));
            assert_eq!(candidates.unanswered(), if n == 1 { vec![] } else { vec![b"one".to_vec()] });
            if n == 1 {
                candidates.note_sent(b"one");
            }
        }
        assert_eq!(candidates.advance(), None);
        assert!(candidates.unanswered().is_empty() && !candidates.is_settled());
    }

    #[test]
    fn an_answer_or_too_many_bytes_settle_the_choice() {
        let mut answered = Candidates::new(addrs(2));
        answered.advance();
        answered.note_sent(b"one");
        answered.settle();
        assert_eq!((answered.advance(), answered.unanswered()), (None, vec![]));
        let mut flooded = Candidates::new(addrs(2));
        flooded.advance();
        for _ in 0..5 {
            flooded.note_sent(&[0; 60_000]);
        }
        assert!(flooded.is_settled() && flooded.advance().is_none());
    }
}
