//! Signals as one more source: the handler writes to a socket pair, and the loop reads it.
//!
//! Owns: [`Signals`] and the meaning of each signal. Must not know: the stop of a reactor.
//!
//! Invariants:
//! 1. A signal that is ignored when the program starts stays ignored. nohup(1) and the `&` of a shell rely on that;
//!    execve(2) keeps an ignored signal ignored (signal(7)).
//! 2. A signal that is blocked when the program starts is unblocked: a program inherits a mask by accident only.

use std::io;

use mio::event::Event;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0 as hook;

/// The token of the events of signals. Its generation is zero, so no source has this token.
const WORD: Token = Token(2);

/// The signals that the reactor itself handles.
const HANDLED: [i32; 4] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1];

/// The request that a signal stands for, if no service has asked for the signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// SIGINT or SIGTERM: stop. The second such signal stops at once.
    Stop,
    /// SIGUSR1: report the ledger and the sources.
    Report,
    /// SIGHUP: the terminal was closed.
    HangUp,
}

impl Request {
    /// Returns the request of `signal`; `None` for a signal that only a service can ask for.
    pub fn of(signal: i32) -> Option<Self> {
        match signal {
            SIGINT | SIGTERM => Some(Request::Stop),
            SIGUSR1 => Some(Request::Report),
            SIGHUP => Some(Request::HangUp),
            _ => None,
        }
    }
}

/// The signals that a reactor handles.
pub struct Signals {
    hook: hook::Signals,
    ignored: u64,
    raised: bool,
}

impl Signals {
    /// Registers the socket of the handlers, of which there are none yet.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let mut hook = hook::Signals::new(std::iter::empty::<i32>())?;
        registry.register(&mut hook, WORD, Interest::READABLE)?;
        Ok(Self { hook, ignored: ignored(), raised: false })
    }

    /// Installs the handler of `signal`, unless the program ignores it, and unblocks it.
    ///
    /// # Errors
    /// Those of sigaction(2): EINVAL for a signal that does not exist or cannot be handled.
    pub fn add(&mut self, signal: i32) -> io::Result<()> {
        let number = Signal::try_from(signal)?;
        if signal_hook::consts::FORBIDDEN.contains(&signal) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if !is_in(self.ignored, signal) {
            self.hook.add_signal(signal)?;
        }
        Ok(SigSet::from(number).thread_unblock()?)
    }

    /// Installs the handlers of the signals that the reactor itself handles.
    pub fn add_all(&mut self) -> io::Result<()> {
        HANDLED.into_iter().try_for_each(|signal| self.add(signal))
    }

    /// Records that signals have arrived, if `event` belongs to the signal socket.
    pub fn note(&mut self, event: &Event) {
        self.raised |= event.token() == WORD;
    }

    /// Returns the signals that have arrived since the last call.
    pub fn take(&mut self) -> Vec<i32> {
        if !std::mem::take(&mut self.raised) {
            return Vec::new();
        }
        self.hook.pending().collect()
    }
}

/// Returns the mask of the ignored signals, from proc_pid_status(5). The mask is empty on systems without that file.
///
/// The portable call that reads a disposition, sigaction(2), has no safe wrapper.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| parse_ignored(&status)).unwrap_or(0)
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Returns true if `mask` contains `signal`; bit 0 is signal 1.
fn is_in(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_bits_of_a_mask() {
        let mask =
            parse_ignored("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n").unwrap();
        assert!(is_in(mask, SIGHUP) && !is_in(mask, SIGINT) && !is_in(mask, SIGTERM));
        assert_eq!(parse_ignored("SigIgn:\tnonsense\n"), None);
    }
}
