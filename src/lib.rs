//! What Go's netpoller hides, in the open: one thread, one poll loop, a slab of connection states, nonblocking sockets,
//! and a timer wheel for deadlines.
//!
//! The floors, from the bottom; each knows only those below it:
//!
//! | floor | modules | knows |
//! |---|---|---|
//! | 1 | [`buffer`], [`id`], [`limits`], [`timer`] | data structures: no socket, no clock |
//! | 2 | [`service`] (the contract), [`protocol`] | bytes in, bytes out |
//! | 3 | [`reactor`] | sockets and the contract, no protocol |
//! | 3 | [`services`], [`clients`] | the contract and protocols, no socket |
//! | 4 | [`console`] | standard input and output for both, on threads or without waiting |
//! | 4 | [`lab`] | everything above, and the other end of each connection |
//! | 4 | `load` (feature `cli`) | everything above: the load generator |
//! | 5 | the `cli` of the binary | everything below |
//!
//! [`reactor`] and [`services`] never import each other: they meet at the contract.

pub mod buffer;
pub mod clients;
pub mod console;
pub mod id;
pub mod lab;
pub mod limits;
#[cfg(feature = "cli")]
pub mod load;
pub mod protocol;
pub mod reactor;
pub mod service;
pub mod services;
pub mod stdio;
pub mod timer;

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
