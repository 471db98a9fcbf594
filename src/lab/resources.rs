//! What a scenario could leave behind in this process: descriptors, threads, children.
//!
//! Owns: [`Traces`]. Must not know: any scenario.

use std::fs;
use std::time::Duration;

use super::fixture::holds_within;

/// How many there are at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traces {
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Traces {
    /// What there is now; `None` where procfs does not say.
    pub fn now() -> Option<Self> {
        let count = |path| fs::read_dir(path).ok().map(Iterator::count);
        let (descriptors, threads) = (count("/proc/self/fd")?, count("/proc/self/task")?);
        // Not every kernel lists children (CONFIG_PROC_CHILDREN).
        let tasks = fs::read_dir("/proc/self/task").ok()?.flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children = children.map(|list| list.split_whitespace().count()).sum();
        Some(Self { descriptors, threads, children })
    }

    /// What there is now and was not there before. A thread that has been joined may take a moment to leave the list.
    pub fn left_behind(self) -> Option<Self> {
        let mut now = self;
        let gone = holds_within(Duration::from_secs(1), || {
            now = Self::now().unwrap_or(self);
            now == self
        });
        (!gone).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_left_behind_is_found() {
        let before = Traces::now().expect("procfs");
        // Other tests of this process come and go; a thousand at once do not.
        let many: Vec<_> = (0..1000).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let left = before.left_behind().expect("a thousand descriptors");
        assert!(left.descriptors > before.descriptors + 500, "{before:?} {left:?}");
        drop(many);
    }
}
