//! HTTP/1.1 as bytes in, bytes out (RFC 9110, RFC 9112).
//!
//! Owns: what is a request, where it ends, and what is answered. Must not know: sockets, clocks, deadlines, services: a
//! reactor and a thread that blocks are the same to it.
//!
//! ```text
//!     bytes ──▶ Head::decode ──▶ Framing::of ──▶ BodyDecoder ──▶ routes ──▶ Response::encode ──▶ bytes
//!               head.rs          framing.rs      body.rs         routes.rs  response.rs
//!               └──────────────────────── Conversation::receive ───────────────────────────┘
//! ```
//!
//! Invariants:
//! 1. Framing is decided once, before anything is answered. In doubt the request is refused, and nothing that follows it
//!    is ever taken for a request.
//! 2. How the bytes were split makes no difference to the answers.
//! 3. Answers leave in the order of their requests, one for each.

mod body;
mod conversation;
mod framing;
mod head;
mod response;
mod routes;
mod status;

pub use body::{Body, BodyDecoder};
pub use conversation::{Awaits, Conversation};
pub use framing::{Content, Framing};
pub use head::{Head, MAX_HEAD, MAX_HEADERS, MAX_METHOD, MAX_TARGET, Room};
pub use response::{Connection, Response, Stamp};
pub use routes::{Page, ROUTES, Route, Site};
pub use status::{Refusal, Status};
