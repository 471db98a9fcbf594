//! Clients, and the pieces that they are made of.
//!
//! Must not know: sockets, mio, any clock. A client is a service that dials: it stands on the contract like the others.
//!
//! | piece | for |
//! |---|---|
//! | [`Backoff`] | how long to wait before the next attempt: growing, with jitter, reset by a success |
//! | [`Dialer`] | several addresses in turn, and one deadline for them all |
//! | [`Heartbeat`] | a word after each silence, and when a silent peer counts as dead |
//! | [`Lookup`] | a name, resolved within a time, for those who cannot begin without an address |
//! | [`StreamClient`], [`DatagramClient`] | what `reactor connect` runs: a [`Console`] at one end, a peer at the other |
//!
//! The first four are for any protocol: each is a value in the service that uses it, is told what has happened, and
//! answers what is to be done. See `examples/reconnecting.rs` for a client that is made of them.

mod backoff;
mod console;
mod datagram;
mod dialer;
mod heartbeat;
mod lookup;
mod stream;

use std::time::Duration;

use log::info;

pub use backoff::Backoff;
pub use console::{Console, ConsoleEvent, Outcome};
pub use datagram::DatagramClient;
pub use dialer::Dialer;
pub use heartbeat::{Heartbeat, Pulse};
pub use lookup::{Found, Lookup};
pub use stream::{Route, StreamClient};

use crate::service::TimerName;

/// What a client shall do, whatever it speaks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the peer is called in messages.
    pub peer: String,
    /// How long to wait for the peer: for a byte, or for an answer to a datagram; zero is off.
    pub read_timeout: Duration,
    /// How long output may make no progress; zero is off.
    pub write_timeout: Duration,
    /// The silence after which [`heartbeat_text`](Self::heartbeat_text) is sent; zero is off.
    pub heartbeat: Duration,
    /// What is sent then.
    pub heartbeat_text: Vec<u8>,
    /// Whether, and how, to try again after a loss. A datagram client tries again when the peer has refused a datagram,
    /// has not answered in time or is dead.
    pub reconnect: Option<Backoff>,
}

impl Settings {
    /// Nothing but a peer: no timeout, no heartbeat, no second attempt.
    pub fn new(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            heartbeat: Duration::ZERO,
            heartbeat_text: b"ping\n".to_vec(),
            reconnect: None,
        }
    }
}

/// The time of the next attempt has come.
const RETRY: TimerName = TimerName(1);
/// The heartbeat has to be looked after.
const BEAT: TimerName = TimerName(2);

/// After `failure`: how long to wait before the next attempt, which is logged; or what to tell, if there is to be none.
fn next_attempt(backoff: &mut Option<Backoff>, failure: String) -> Result<Duration, String> {
    let Some(backoff) = backoff else { return Err(failure) };
    match backoff.failed() {
        Some(wait) => {
            let millis = Duration::from_millis(wait.as_millis() as u64);
            info!("{failure}; reconnecting in {millis:?} (attempt {})", backoff.failures());
            Ok(wait)
        }
        None => Err(format!("{failure} (given up; attempts to reconnect: {})", backoff.failures())),
    }
}

/// A failure that is about time, said as Go says it.
fn timed_out(what: &str, peer: &str, after: Duration) -> String {
    format!("{what} {peer}: i/o timeout after {after:?}")
}

/// A peer that has missed its heartbeats.
fn found_dead(peer: &str, heartbeat: &Heartbeat) -> String {
    format!("read {peer}: no sign of life for {:?}", heartbeat.patience())
}
