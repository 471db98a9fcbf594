//! Time as a value, the timer wheel, and the table of deadlines of one connection.
//!
//! Owns: the modules below. Must not know: clocks, sockets.

mod deadlines;
mod time;
mod wheel;

pub use deadlines::{Deadline, DeadlineKind, Deadlines};
pub use time::{Tick, Time, Timeout};
pub use wheel::{TimerId, Wheel};
