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
//!
//! A server that blocks needs no more than this for a connection:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::time::SystemTime;
//!
//! use reactor::protocol::http::{Phase, Conversation, Site};
//!
//! fn serve(mut stream: impl Read + Write, site: &mut Site) -> io::Result<()> {
//!     let (mut conversation, mut unread, mut output) = (Conversation::NEW, Vec::new(), Vec::new());
//!     let mut scratch = [0; 4096];
//!     while conversation.phase() != Phase::Done {
//!         let n = stream.read(&mut scratch)?;
//!         site.set_time(SystemTime::now());
//!         if n == 0 {
//!             conversation.end(site, &mut output);
//!             return stream.write_all(&output);
//!         }
//!         unread.extend_from_slice(&scratch[..n]);
//!         let consumed = conversation.receive(site, &unread, usize::MAX, &mut output);
//!         unread.drain(..consumed);
//!         stream.write_all(&output)?;
//!         output.clear();
//!     }
//!     Ok(())
//! }
//! # use reactor::protocol::time_text::LocalTime;
//! # struct Script<'a>(&'a [u8], &'a mut Vec<u8>);
//! # impl Read for Script<'_> {
//! #     fn read(&mut self, room: &mut [u8]) -> io::Result<usize> { self.0.read(room) }
//! # }
//! # impl Write for Script<'_> {
//! #     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { self.1.write(bytes) }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! # let mut written = Vec::new();
//! # let script = Script(b"GET /healthz HTTP/1.0\r\n\r\n", &mut written);
//! # serve(script, &mut Site::new(String::new(), 1000, LocalTime::utc())).unwrap();
//! # assert!(written.ends_with(b"Connection: close\r\n\r\nok\n"));
//! ```

mod body;
mod conversation;
mod framing;
mod head;
mod response;
mod routes;
mod status;

pub use body::{Body, BodyDecoder};
pub use conversation::{Conversation, Phase};
pub use framing::{Content, Framing};
pub use head::{Head, HeaderStorage, MAX_HEAD, MAX_HEADERS, MAX_METHOD, MAX_TARGET};
pub use response::{Connection, Response, Stamp};
pub use routes::{Page, ROUTES, Route, Site};
pub use status::{Refusal, Status};
