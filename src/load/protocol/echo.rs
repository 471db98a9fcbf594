//! Echo over TCP (RFC 862): the server returns every byte.
//!
//! Owns: [`Echo`]. Must not know: connections.

use super::pattern::Pattern;
use super::{Completions, Protocol, ProtocolError, Redial};
use crate::load::Plan;
use crate::load::stats::Stats;

/// Sends a verifiable stream in messages, and compares the returned bytes with that stream.
pub struct Echo {
    size: usize,
    pattern: Pattern,
}

/// The position of one connection in its stream.
pub struct State {
    /// The place in the pattern where the stream begins. Each connection has another one, so that the bytes of two
    /// connections cannot be mistaken for one another.
    origin: u64,
    sent: u64,
    received: u64,
    /// Received bytes of an incomplete message.
    part: usize,
}

impl Echo {
    /// Messages of `plan.size` bytes.
    pub fn new(plan: &Plan) -> Self {
        Self { size: plan.size, pattern: Pattern::new(plan.size.max(64 * 1024)) }
    }
}

impl Protocol for Echo {
    type State = State;

    const REDIAL: Redial = Redial::Idle;

    fn request_len(&self) -> usize {
        self.size
    }

    fn new_state(&mut self, number: usize) -> State {
        State { origin: number as u64 * 37, sent: 0, received: 0, part: 0 }
    }

    #[inline]
    fn encode_request(&mut self, state: &mut State, _since: u64, _stats: &mut Stats, _members: usize) -> &[u8] {
        let at = state.origin + state.sent;
        state.sent += self.size as u64;
        self.pattern.slice(at, self.size)
    }

    #[inline]
    fn decode(
        &mut self,
        state: &mut State,
        input: &[u8],
        completions: &mut Completions<'_>,
    ) -> Result<usize, ProtocolError> {
        if !self.pattern.matches(state.origin + state.received, input) {
            return Err(ProtocolError::WrongBytes);
        }
        state.received += input.len() as u64;
        state.part += input.len();
        while state.part >= self.size {
            state.part -= self.size;
            completions.complete()?;
        }
        Ok(input.len())
    }
}
