//! The sources of events: connections, listeners, datagram sockets and descriptors of the program, in one table.
//!
//! Owns: each source with its state. Must not know: the turn in which a source is served.

pub mod backoff;
pub mod connection;
pub mod datagram;
pub mod descriptor;
pub mod listener;
pub mod readiness;
pub mod sources;
