//! Clients, and the pieces that they are made of.
//!
//! Must not know: sockets, mio, any clock. A client is a service that dials: it stands on the contract like any other.
//!
//! | piece | content |
//! |---|---|
//! | [`Backoff`] | the wait before the next attempt: growing, with jitter, reset by a success |
//! | [`Dialer`] | several addresses in turn, with one deadline for all |
//! | [`Heartbeat`] | a message after each silence, and the time at which a silent peer counts as dead |
//! | [`StreamClient`], [`DatagramClient`] | the clients of `reactor connect`: a [`Console`] at one end, a peer at the other |
//! | [`Settings`], [`Route`] | the options of both |
//!
//! The first three suit any protocol. Each is a value in the service that uses it: the service reports events to it and
//! asks it for the next action. `examples/reconnecting.rs` is a client made of them.

mod backoff;
mod console;
mod datagram;
mod dialer;
mod error;
mod heartbeat;
mod looks;
mod settings;
mod stream;

pub use backoff::Backoff;
pub use console::{Console, ConsoleError, ConsoleEvent, Outcome, StandardStream};
pub use datagram::DatagramClient;
pub use dialer::Dialer;
pub use error::{ClientError, Operation};
pub use heartbeat::{Heartbeat, Pulse};
pub use settings::{LocalAddr, Route, Settings};
pub use stream::StreamClient;

use crate::service::TimerName;

/// The time of the next attempt.
const RETRY: TimerName = TimerName(1);
/// The time to look at the heartbeat.
const BEAT: TimerName = TimerName(2);
/// The deadline for resolving the peer's name.
const RESOLVE: TimerName = TimerName(3);
