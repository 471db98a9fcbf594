//! One connection of a client that may have several, one after another.
//!
//! Owns: [`Link`]: how far the two halves of the conversation are. Must not know: what is said, and what follows from it.

use std::time::Duration;

use super::super::Settings;
use crate::id::ConnId;
use crate::service::CloseReason;
use crate::timer::Time;

/// A connection that has lived for so long, and was not found dead, has been a success, though the peer had nothing to say:
/// the longest wait of a [`Backoff`](crate::clients::Backoff).
pub const PROVEN: Duration = Duration::from_secs(10);

/// An established connection.
#[derive(PartialEq, Eq, Debug)]
pub struct Link {
    /// Its name with the reactor.
    pub id: ConnId,
    since: Time,
    /// A piece of input is with it and not drained.
    pub sending: bool,
    /// Input has been passed on to it.
    pub spoken: bool,
    /// Our half is closed.
    pub said_all: bool,
    /// It is not read, because the console has no room.
    pub paused: bool,
    /// The peer's half is closed.
    pub heard_all: bool,
    /// We have gone on speaking since.
    pub talked_on: bool,
    /// Why we have given it up ourselves.
    pub verdict: Option<String>,
}

impl Link {
    /// A connection that is established now.
    pub fn new(id: ConnId, now: Time) -> Self {
        Self {
            id,
            since: now,
            sending: false,
            spoken: false,
            said_all: false,
            paused: false,
            heard_all: false,
            talked_on: false,
            verdict: None,
        }
    }

    /// A piece of input is passed on to it.
    pub fn speak(&mut self) {
        (self.sending, self.spoken) = (true, true);
        self.talked_on = self.heard_all;
    }

    /// The peer has closed its half. For what has not been said yet it does not wait; for what is under way it may.
    pub fn hear_all(&mut self) {
        self.heard_all = true;
        self.talked_on = self.sending || self.said_all;
    }

    /// Whether what the peer has closed shall be opened again.
    pub fn shall_return(&self, settings: &Settings) -> bool {
        settings.reconnect.is_some() && !self.said_all
    }

    /// Whether its end at `now` shows that the peer was there all the time.
    pub fn is_proven(&self, now: Time, end: CloseReason) -> bool {
        now.since(self.since) >= PROVEN && self.verdict.is_none() && !matches!(end, CloseReason::Deadline(_))
    }
}
