//! Standard streams for a thread that must not wait for their readers.
//!
//! Owns: [`Pipe`], a standard stream that is written without blocking, and [`Stderr`], the process's standard error on
//! top of it. Must not know: the loop.

mod pipe;
mod stderr;

pub use self::pipe::Pipe;
pub use self::stderr::Stderr;
