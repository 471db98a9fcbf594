//! The sources of events: connections, listeners and datagram sockets, in one slab.
//!
//! Owns: each source with its state. Must not know: the turn in which a source is served.

pub mod backoff;
pub mod connection;
pub mod datagram;
pub mod listener;
pub mod readiness;
pub mod sources;
