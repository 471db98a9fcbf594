//! What the loop did, for people and programs: counters, trace lines, reports.
//!
//! Owns: the ledger and everything that is written about a turn. Must not know: what anybody does about it.

pub mod ledger;
pub mod recorder;
pub mod report;
