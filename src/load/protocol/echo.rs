//! Messages that come back.
//!
//! Owns: [`Echo`]. Must not know: connections.

use super::pattern::Pattern;
use super::{Answers, Talk};
use crate::load::Load;
use crate::load::stats::Stats;

/// Sends a stream that can be checked, in messages, and compares what comes back with it.
pub struct Echo {
    size: usize,
    pattern: Pattern,
}

/// How far a connection has come.
pub struct Row {
    /// Where its stream begins in the pattern: elsewhere for each, so that they cannot be mistaken for one another.
    origin: u64,
    sent: u64,
    received: u64,
    /// Received bytes of a message that is not complete.
    part: usize,
}

impl Echo {
    /// Messages of the size that `load` asks for.
    pub fn new(load: &Load) -> Self {
        Self { size: load.size, pattern: Pattern::new(load.size.max(64 * 1024)) }
    }
}

impl Talk for Echo {
    type Row = Row;

    fn row(&mut self, number: usize) -> Row {
        Row { origin: number as u64 * 37, sent: 0, received: 0, part: 0 }
    }

    #[inline]
    fn request(&mut self, row: &mut Row, _since: u64, _tally: &mut Stats, _members: usize) -> &[u8] {
        let at = row.origin + row.sent;
        row.sent += self.size as u64;
        self.pattern.piece(at, self.size)
    }

    #[inline]
    fn read(&mut self, row: &mut Row, input: &[u8], answers: &mut Answers<'_>) -> Result<usize, String> {
        if !self.pattern.matches(row.origin + row.received, input) {
            return Err("wrong bytes".to_owned());
        }
        row.received += input.len() as u64;
        row.part += input.len();
        while row.part >= self.size {
            row.part -= self.size;
            answers.answer()?;
        }
        Ok(input.len())
    }
}
