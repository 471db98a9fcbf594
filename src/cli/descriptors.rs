//! The limit on the descriptors of this process (`RLIMIT_NOFILE`, getrlimit(2)).
//!
//! Owns: raising the limit, and the number of connections that fit below it. Must not know: services.

use std::fs;

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that stay free beside those of connections: for a connection beyond the limit, accepted only to be closed,
/// and for files that the process opens later. (Redis reserves 32, with those open at the start.)
const RESERVE: u64 = 8;

/// The number of descriptors that count as open where the system does not list them.
const USUALLY_OPEN: u64 = 32;

/// Raises the soft limit to the hard limit, as every Go program does since 1.19. The usual soft limit of 1,024 protects
/// programs that call select(2), which takes no larger descriptor; the loop does not call it.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => info!("descriptor limit raised from {} to {}", number(current), number(maximum)),
        Err(error) => warn!("descriptor limit stays at {}: {error}", number(current)),
    }
}

/// Returns how many of `asked` connections the descriptors allow beside those that are open already, and warns if that
/// is fewer.
pub(super) fn allowed_connections(asked: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return asked };
    let open = open_descriptors();
    let allowed = connections_below(limit, open);
    if asked <= allowed {
        return asked;
    }
    warn!(
        "--max-connections lowered from {asked} to {allowed}: the process may have {limit} descriptors, and {open} are open \
         (ulimit -n raises the limit)"
    );
    allowed
}

/// Returns how many connections fit: at least one, so that 0 does not mean "no limit".
fn connections_below(limit: u64, open: u64) -> usize {
    usize::try_from(limit.saturating_sub(open.saturating_add(RESERVE)).max(1)).unwrap_or(usize::MAX)
}

fn open_descriptors() -> u64 {
    // The descriptor of the directory itself is one of the entries.
    fs::read_dir("/dev/fd").map_or(USUALLY_OPEN, |entries| (entries.count() as u64).saturating_sub(1))
}

fn number(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        assert_eq!(connections_below(1024, 16), 1000);
        assert_eq!(connections_below(10, 16), 1);
        assert_eq!(connections_below(u64::MAX, u64::MAX), 1);
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_descriptors();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("open")).collect();
        // Other tests of this program open and close descriptors meanwhile.
        assert!(open_descriptors() >= before + 25);
        drop(files);
    }
}
