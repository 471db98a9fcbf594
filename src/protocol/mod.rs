//! Protocols as bytes in, bytes out: no socket, no clock, no service. A blocking server can use them as they are.

mod civil;
pub mod http;
pub mod line_datagrams;
pub mod lines;
pub mod room;
pub mod roster;
pub mod time_text;
