//! Messages to a service.
//!
//! Owns: [`Receive`]. Must not know: threads, mailboxes.

use super::ServiceContext;

/// A service that receives messages of the type `M` from a [`Poster`](crate::reactor::Poster): posts of other threads, and
/// the results of its jobs.
///
/// A service on streams and one on datagrams receive messages in the same way. A service that receives messages of several
/// types implements the trait for each.
pub trait Receive<M> {
    /// `message` was posted. Messages of one thread arrive in the order of its posts.
    fn on_post(&mut self, ctx: &mut ServiceContext, message: M);
}
