//! The tests over real sockets, in one program: one linking instead of thirty. A module per service and per promise.
//!
//! Every test of this program may run beside every other: a test that changes its process runs a child for that.

mod accepting;
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
mod harness;
mod http;
mod lab;
mod library;
mod print_udp;
mod stopping;
mod time;
mod timers;
mod turns;
mod twins;
