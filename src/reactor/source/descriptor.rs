//! A descriptor of the program in the loop: a pipe, a timerfd, an inotify queue, the output of a child.
//!
//! Owns: [`Descriptor`]. Must not know: what its bytes are, who reads them.
//!
//! Invariant: an edge is reported once. The service reads or writes until EAGAIN; the next edge is another report.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Registry, Token, event};

use crate::id::ServiceId;
use crate::service::Ready;

/// The edges of a descriptor that a service asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Reads that would not block.
    Readable,
    /// Writes that would not block.
    Writable,
    /// Both.
    Both,
}

impl From<Interest> for mio::Interest {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Readable => mio::Interest::READABLE,
            Interest::Writable => mio::Interest::WRITABLE,
            Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
        }
    }
}

/// A registered duplicate of a descriptor of the program.
#[derive(Debug)]
pub struct Descriptor {
    fd: OwnedFd,
    /// The service that receives the reports.
    pub service: ServiceId,
    /// Its name in logs.
    pub name: &'static str,
    ready: Ready,
}

impl Descriptor {
    /// Returns a source on a duplicate of `fd` (`F_DUPFD_CLOEXEC`, fcntl(2)): the registration lives until the source is
    /// closed, also if the program closes its own descriptor first.
    ///
    /// # Errors
    /// Those of fcntl(2): EMFILE.
    pub fn new(fd: BorrowedFd<'_>, service: ServiceId, name: &'static str) -> io::Result<Self> {
        Ok(Self { fd: fd.try_clone_to_owned()?, service, name, ready: Ready::default() })
    }

    /// Records the readiness that an event announces.
    pub fn note(&mut self, event: &Event) {
        self.ready.is_readable |= event.is_readable() || event.is_error();
        self.ready.is_writable |= event.is_writable() || event.is_error();
        self.ready.is_closed |= event.is_read_closed() || event.is_write_closed() || event.is_error();
    }

    /// Returns true if an edge was not reported yet.
    pub fn wants_turn(&self) -> bool {
        self.ready != Ready::default()
    }

    /// Takes the edges that were not reported yet.
    pub fn take_ready(&mut self) -> Ready {
        std::mem::take(&mut self.ready)
    }
}

impl event::Source for Descriptor {
    fn register(&mut self, registry: &Registry, token: Token, interests: mio::Interest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: mio::Interest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).deregister(registry)
    }
}
