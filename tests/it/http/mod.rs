//! The http service: what is answered, whatever the pieces in which it is asked, how long it may take, and what it costs
//! the others.

mod answer;
mod converse;
mod patience;
mod pieces;
mod samples;
mod serving;
mod stopping;
