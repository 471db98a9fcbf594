//! `reactor`
#![forbid(unsafe_code)]
pub mod buffer;
pub mod id;
pub mod timer;
