//! The input of a client that has not been sent. It outlives the connections.
//!
//! Owns: [`InputQueue`]. Must not know: connections.
//!
//! Invariant: at most [`PIECES`] pieces are requested, queued here or with a connection, as one is requested for each
//! that is passed on.

use std::collections::VecDeque;

use crate::clients::console::{Console, PIECES};

/// The state of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No piece has been requested.
    Untouched,
    /// Pieces are requested.
    Open,
    /// The end of input has arrived.
    Ended,
}

/// Pieces of input in their order.
#[derive(Debug)]
pub struct InputQueue {
    phase: Phase,
    pieces: VecDeque<Vec<u8>>,
}

impl InputQueue {
    /// An empty queue. Nothing is requested before [`start`](Self::start).
    pub fn new() -> Self {
        Self { phase: Phase::Untouched, pieces: VecDeque::new() }
    }

    /// Requests the first pieces, once. Until the first connection, input is left to other readers of the same stream.
    pub fn start(&mut self, console: &mut dyn Console) {
        if self.phase == Phase::Untouched {
            self.phase = Phase::Open;
            (0..PIECES).for_each(|_| console.request_input());
        }
    }

    /// Requests the piece that follows a passed one, unless the input has ended.
    pub fn request_next(&mut self, console: &mut dyn Console) {
        if self.phase == Phase::Open {
            console.request_input();
        }
    }

    /// A piece has arrived.
    pub fn push(&mut self, piece: Vec<u8>) {
        self.pieces.push_back(piece);
    }

    /// The end of input has arrived.
    pub fn close(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Takes the next piece.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.pieces.pop_front()
    }

    /// Discards the queued pieces.
    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Returns true if no piece is queued.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns true if the input has ended and its last piece has been taken.
    pub fn is_exhausted(&self) -> bool {
        self.phase == Phase::Ended && self.is_empty()
    }
}
