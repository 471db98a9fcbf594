//! The work of a turn: each ready source has its turn, and services are called.
//!
//! Owns: the phases `work` and `reap`, the turn of each kind of source, and the way from commands to effects. Must not
//! know: system calls, protocols.

mod accept;
pub(super) mod apply;
mod datagrams;
mod reap;
mod relay;
mod work;
