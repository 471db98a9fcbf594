//! Time as a value, the timer wheel, and the table of deadlines of one connection. No clock and no socket in here.

mod deadlines;
mod time;
mod wheel;

pub use deadlines::{Deadline, Deadlines};
pub use time::{Tick, Time, Timeout};
pub use wheel::{TimerId, Wheel};
