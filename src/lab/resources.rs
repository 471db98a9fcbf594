//! The resources that a scenario can leak in this process: descriptors, threads, children.
//!
//! Owns: [`Resources`]. Must not know: any scenario.

use std::fs;
use std::time::Duration;

use super::fixture::holds_within;

/// The counts at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resources {
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Resources {
    /// The current counts; `None` on systems without procfs.
    pub fn now() -> Option<Self> {
        let count = |path| fs::read_dir(path).ok().map(Iterator::count);
        let (descriptors, threads) = (count("/proc/self/fd")?, count("/proc/self/task")?);
        // Not every kernel lists children (CONFIG_PROC_CHILDREN).
        let tasks = fs::read_dir("/proc/self/task").ok()?.flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children = children.map(|list| list.split_whitespace().count()).sum();
        Some(Self { descriptors, threads, children })
    }

    /// Returns the current counts if they still differ from `self` after a second; `None` if nothing is leaked. A
    /// joined thread may take a moment to leave the list.
    pub fn leaked(self) -> Option<Self> {
        let mut now = self;
        let restored = holds_within(Duration::from_secs(1), || {
            now = Self::now().unwrap_or(self);
            now == self
        });
        (!restored).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn leaked_descriptors_are_found() {
        let before = Resources::now().expect("procfs");
        // Other tests of this process come and go; a thousand at once do not.
        let many: Vec<_> = (0..1000).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let left = before.leaked().expect("a thousand descriptors");
        assert!(left.descriptors > before.descriptors + 500, "{before:?} {left:?}");
        drop(many);
    }
}
