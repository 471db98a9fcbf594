//! The record of the loop, for operators and programs: counters, trace lines, reports.
//!
//! Owns: the ledger, and the text about a turn. Must not know: the use of the record.

pub mod ledger;
pub mod recorder;
pub mod report;
