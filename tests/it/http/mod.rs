//! The http service: answers, independent of the pieces of a request; timeouts; the end of the server.

mod answer;
mod converse;
mod patience;
mod pieces;
mod samples;
mod serving;
mod stopping;
