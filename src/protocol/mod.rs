//! Protocols as bytes in, bytes out: no socket, no clock, no service. Shared with the blocking examples.

pub mod lines;
pub mod room;
pub mod time_text;
