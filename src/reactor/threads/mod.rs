//! Other threads: their way into the loop, and the pool that runs jobs for services.
//!
//! Owns: handles, posters, the mailbox and the pool. Must not know: sources, services.

pub mod handle;
pub mod pool;
pub mod poster;
