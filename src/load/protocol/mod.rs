//! What is said on connections that stay open, apart from them.
//!
//! Owns: [`Talk`], which makes requests and takes answers apart, and [`Answers`], where it says what it has found. Must not
//! know: sockets, connections, any clock.

pub mod chat;
pub mod echo;
pub mod http;
mod pattern;
mod response;
pub mod time;
pub mod udp;

use std::collections::VecDeque;

use crate::load::stats::Stats;

/// What is said on the connections of a [`Stream`](crate::load::connection::Stream): bytes, and no socket.
pub trait Talk {
    /// What is kept for one connection.
    type Row;

    /// Whether a server may end a connection that has no request under way, and is dialed again then.
    const REOPENS: bool = false;

    /// The row of a new connection, the `number`th.
    fn row(&mut self, number: usize) -> Self::Row;

    /// Whether the connection `number` makes requests.
    fn speaks(&self, number: usize) -> bool {
        let _ = number;
        true
    }

    /// Whether the server speaks first, and has done so: a connection is ready then. Without an answer to this, when its
    /// first request has been answered.
    fn is_greeted(&self, row: &Self::Row) -> Option<bool> {
        let _ = row;
        None
    }

    /// The bytes of the next request, whose latency counts from `since`. `members` are connected.
    fn request(&mut self, row: &mut Self::Row, since: u64, stats: &mut Stats, members: usize) -> &[u8];

    /// Takes `input` apart; returns how much of it has been understood.
    ///
    /// # Errors
    /// What is wrong with it: the end of the connection.
    fn read(&mut self, row: &mut Self::Row, input: &[u8], answers: &mut Answers<'_>) -> Result<usize, String>;

    /// The peer has sent FIN, which may complete an answer.
    ///
    /// # Errors
    /// What has been cut off.
    fn read_eof(&mut self, row: &mut Self::Row, answers: &mut Answers<'_>) -> Result<(), String> {
        let _ = (row, answers);
        Ok(())
    }
}

/// Where a [`Talk`] reports what it has found.
pub struct Answers<'a> {
    /// When it was found.
    pub now: u64,
    /// Whether that counts for the throughput.
    pub in_window: bool,
    /// The counters.
    pub stats: &'a mut Stats,
    in_flight: &'a VecDeque<u64>,
    count: usize,
    last: bool,
}

impl<'a> Answers<'a> {
    /// Answers at `now` on a connection on which those of `in_flight` are under way, the oldest first.
    pub fn new(now: u64, in_window: bool, stats: &'a mut Stats, in_flight: &'a VecDeque<u64>) -> Self {
        Self { now, in_window, stats, in_flight, count: 0, last: false }
    }

    /// The server will answer no other request on this connection.
    pub fn be_last(&mut self) {
        self.last = true;
    }

    /// Whether the server will answer no other request on this connection.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// How many requests have been answered.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The oldest request that is under way has been answered.
    ///
    /// # Errors
    /// If there is none.
    #[inline]
    pub fn answer(&mut self) -> Result<(), String> {
        let since = *self.in_flight.get(self.count).ok_or("an answer to no request")?;
        self.stats.record(self.now.saturating_sub(since));
        self.count += 1;
        Ok(())
    }

    /// The same, where the latency is counted otherwise.
    ///
    /// # Errors
    /// If there is none.
    pub fn release(&mut self) -> Result<(), String> {
        self.in_flight.get(self.count).ok_or("an answer to no request")?;
        self.count += 1;
        Ok(())
    }
}
