//! HTTP/1.1 as bytes in, bytes out (RFC 9110, RFC 9112).
//!
//! Owns: requests, their ends, and their answers. Must not know: sockets, clocks, deadlines, services. A reactor and a
//! blocking thread use it alike.
//!
//! ```text
//!     bytes ──▶ Head::decode ──▶ Framing::of ──▶ BodyDecoder ──▶ routes ──▶ Response::encode ──▶ bytes
//!               head.rs          framing.rs      body.rs         routes.rs  response.rs
//!               └──────────────────────── Conversation::receive ───────────────────────────┘
//! ```
//!
//! Invariants:
//! 1. Framing is decided once, before the answer. In doubt the request is refused, and no byte after it is ever taken for a
//!    request.
//! 2. The answers do not depend on the pieces in which the requests arrive.
//! 3. Answers leave in the order of their requests, one for each.
//!
//! A blocking server needs this for a connection:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::time::SystemTime;
//!
//! use reactor::protocol::http::{Conversation, Phase, Site};
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
