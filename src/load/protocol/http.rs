//! Requests of HTTP/1.1 on connections that persist.
//!
//! Owns: [`Http`]: the request, and what counts as an error. Must not know: where a response ends (see `response`).

use super::response::{Response, Responses};
use super::{Answers, Talk};
use crate::load::Load;
use crate::load::stats::Stats;

/// Makes the same request again and again.
pub struct Http {
    request: Vec<u8>,
}

impl Http {
    /// Requests for the path that `load` names.
    pub fn new(load: &Load) -> Self {
        let Load { host, path, .. } = load;
        let agent = concat!("reactor/", env!("CARGO_PKG_VERSION"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes() }
    }
}

/// Counts one response.
fn count(Response { status, last }: Response, answers: &mut Answers<'_>) -> Result<(), String> {
    if !(200..400).contains(&status) {
        answers.stats.error(format!("status {status}"));
    }
    if last {
        answers.be_last();
    }
    answers.answer()
}

impl Talk for Http {
    type Row = Responses;

    const REOPENS: bool = true;

    fn row(&mut self, _number: usize) -> Responses {
        Responses::default()
    }

    fn request(&mut self, _row: &mut Responses, _since: u64, _tally: &mut Stats, _members: usize) -> &[u8] {
        &self.request
    }

    fn read(&mut self, row: &mut Responses, input: &[u8], answers: &mut Answers<'_>) -> Result<usize, String> {
        let mut consumed = 0;
        loop {
            let (n, complete) = row.read(&input[consumed..])?;
            consumed += n;
            match complete {
                Some(response) => count(response, answers)?,
                None => return Ok(consumed),
            }
        }
    }

    fn read_eof(&mut self, row: &mut Responses, answers: &mut Answers<'_>) -> Result<(), String> {
        row.read_eof()?.map_or(Ok(()), |response| count(response, answers))
    }
}
