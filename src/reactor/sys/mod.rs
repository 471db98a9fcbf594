//! Every system call on a socket. The errno values of the calls become [`Outcome`](outcome::Outcome)s here.
//!
//! Owns: the calls and the sorting of their errors. Must not know: connections, services, the turn.

#[cfg(all(any(target_os = "linux", target_os = "android"), not(portable)))]
pub mod batch;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(portable))))]
#[path = "batch_portable.rs"]
pub mod batch;
pub mod open;
pub mod outcome;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(portable)))]
pub mod pipe;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(portable))))]
#[path = "pipe_portable.rs"]
pub mod pipe;
pub mod signals;
pub mod stream;
mod unix;
