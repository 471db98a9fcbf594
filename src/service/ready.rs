//! The readiness of a descriptor of the program.
//!
//! Owns: [`Ready`]. Must not know: the descriptor.

/// The edges of a descriptor since its last report ([`Service::on_ready`](super::Service::on_ready)).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// A read may return bytes, the end of file or an error.
    pub is_readable: bool,
    /// A write may take bytes, or fail.
    pub is_writable: bool,
    /// The other end is closed, or an error is pending (EPOLLRDHUP, EPOLLHUP, EPOLLERR; epoll_ctl(2)). Bytes before it may
    /// still be unread.
    pub is_closed: bool,
}
