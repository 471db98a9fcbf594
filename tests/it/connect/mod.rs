//! `reactor connect` as its users see it: input, output, exit status and error texts.

mod failing;
mod flow;
mod reconnecting;
mod suspended;
mod udp;

use std::time::Duration;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
