//! The tests over real sockets, in one program, so that a change of the library is linked once. A module for each service
//! and each promise.
//!
//! Every test may run beside every other, and beside other programs of a busy machine. A test that needs a limit, a signal
//! or an environment of its own runs a child process.

mod accepting;
mod activation;
mod backpressure;
mod bench;
mod chat;
mod command_line;
#[cfg(target_os = "linux")]
mod compare;
mod connect;
mod contract;
mod datagrams;
mod deadlines;
mod dialing;
mod discard;
mod docs;
mod echo;
mod echo_udp;
mod embedding;
mod forwarding;
mod giving_up;
mod harness;
mod http;
mod lab;
mod library;
mod library_page;
mod offloading;
mod print_udp;
mod programs;
mod signals;
mod sources;
mod stopping;
mod time;
mod timers;
mod turns;
mod twins;
mod unix;
