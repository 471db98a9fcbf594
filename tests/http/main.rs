//! The http service: what is answered, whatever the pieces in which it is asked, how long it may take, and what it costs
//! the others.

mod answer;
mod converse;
#[path = "../harness/mod.rs"]
mod harness;
mod patience;
mod pieces;
mod samples;
mod serving;
mod stopping;
