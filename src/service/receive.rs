//! Messages to a service.
//!
//! Owns: [`Receive`]. Must not know: threads, mailboxes.

use super::ServiceContext;

/// A service that receives messages of the type `M` from a [`Poster`](crate::reactor::Poster): posts of other threads, and
/// the results of its jobs.
///
/// A service that receives messages of several types implements the trait for each. `C` is the context of the callback:
/// the service of a datagram socket receives messages with a [`SocketContext`](super::SocketContext).
pub trait Receive<M, C = ServiceContext> {
    /// `message` was posted. Messages of one thread arrive in the order of its posts.
    fn on_post(&mut self, ctx: &mut C, message: M);
}
