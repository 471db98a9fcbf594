//! HTTP/1.1: GET requests on persistent connections.
//!
//! Owns: [`Http`], the request, and the statuses that count as errors. Must not know: the end of a response (see
//! `response`).

use super::response::{Response, Responses};
use super::{Completions, Protocol, ProtocolError, Redial};
use crate::load::Plan;
use crate::load::stats::Stats;

/// Repeats one request.
pub struct Http {
    request: Vec<u8>,
}

impl Http {
    /// Requests for `plan.path`.
    pub fn new(plan: &Plan) -> Self {
        Self { request: request(plan) }
    }
}

/// Returns the request of `plan`.
pub fn request(plan: &Plan) -> Vec<u8> {
    let Plan { host, path, .. } = plan;
    let agent = concat!("reactor/", env!("CARGO_PKG_VERSION"));
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// Counts one response.
fn count(Response { status, last }: Response, completions: &mut Completions<'_>) -> Result<(), ProtocolError> {
    if status == 408 && (completions.is_idle() || last && completions.has_answered()) {
        // The server announces that it closes a connection that it has waited on for too long (RFC 9110, section 15.5.9).
        // Requests in flight have crossed the announcement, and are sent again on another connection, as browsers do.
        completions.set_last();
        return Ok(());
    }
    if !(200..400).contains(&status) {
        completions.stats.count_error(format_args!("status {status}"));
    }
    if last {
        completions.set_last();
    }
    completions.complete()
}

impl Protocol for Http {
    type State = Responses;

    const REDIAL: Redial = Redial::Always;

    fn request_len(&self) -> usize {
        self.request.len()
    }

    fn new_state(&mut self, _number: usize) -> Responses {
        Responses::default()
    }

    fn encode_request(&mut self, _state: &mut Responses, _since: u64, _stats: &mut Stats, _members: usize) -> &[u8] {
        &self.request
    }

    fn decode(
        &mut self,
        state: &mut Responses,
        input: &[u8],
        completions: &mut Completions<'_>,
    ) -> Result<usize, ProtocolError> {
        let mut consumed = 0;
        loop {
            let (n, complete) = state.decode(&input[consumed..])?;
            consumed += n;
            match complete {
                Some(response) => count(response, completions)?,
                None => return Ok(consumed),
            }
        }
    }

    fn decode_eof(&mut self, state: &mut Responses, completions: &mut Completions<'_>) -> Result<(), ProtocolError> {
        state.decode_eof()?.map_or(Ok(()), |response| count(response, completions))
    }
}
