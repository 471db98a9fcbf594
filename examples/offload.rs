//! Blocking work beside a loop: a line is a path, and the answer is the SHA-256 of the file.
//!
//! - **Run** `cargo run --example offload [LISTEN]` (127.0.0.1:27021 unless given).
//! - **Try** `echo Cargo.toml | nc -q1 127.0.0.1 27021`, beside `sha256sum Cargo.toml`.
//! - **Notice** that the loop never opens a file: epoll cannot wait for one (epoll_ctl(2): EPERM). [`Poster::offload`] reads
//!   it on a thread of a small pool, and posts the answer. The connection is paused meanwhile, so answers keep their order,
//!   and one peer has at most one file open. An end of file and a stop wait for the answer, too. A file that never ends (a
//!   FIFO without a writer) keeps its thread for ever, and four of them keep all threads. Go does the same without a word: a
//!   `read` of a file blocks its thread, and the runtime starts another, up to 10,000.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use reactor::{ConnId, Context, ListenOptions, Policy, Poster, Reactor, Receive, Service, ServiceContext};
use sha2::{Digest, Sha256};

/// The longest path (path_resolution(7): `PATH_MAX`).
const MAX_PATH: usize = 4096;

/// The answer to a line of the connection.
type Answer = (ConnId, Vec<u8>);

struct Offload(Poster<Answer>);

impl Service for Offload {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if input.len() > MAX_PATH {
                refuse(ctx, "the line is too long");
            }
            return 0;
        };
        let (id, line) = (ctx.id(), &input[..end]);
        let path = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        match self.0.offload(move || (id, answer(&path))) {
            // The rest of the input is offered again after `resume`.
            Ok(()) => ctx.pause(),
            Err(error) => refuse(ctx, &error.to_string()),
        }
        end + 1
    }
}

/// Ends a connection with the reason.
fn refuse(ctx: &mut Context<'_>, reason: &str) {
    ctx.send(format!("error: {reason}\n").as_bytes());
    ctx.finish();
}

impl Receive<Answer> for Offload {
    fn on_post(&mut self, ctx: &mut ServiceContext, (id, answer): Answer) {
        // The peer may have gone meanwhile.
        if let Some(mut peer) = ctx.connection(id) {
            peer.send(&answer);
            peer.resume();
        }
    }
}

fn answer(path: &[u8]) -> Vec<u8> {
    match hash(path) {
        Ok(hex) => [hex.as_bytes(), b"  ", path, b"\n"].concat(),
        Err(error) => [b"error: ", path, b": ", error.to_string().as_bytes(), b"\n"].concat(),
    }
}

/// Returns the SHA-256 of a file in hexadecimal digits. No signal interrupts a read: the handlers have SA_RESTART.
fn hash(path: &[u8]) -> io::Result<String> {
    let (mut file, mut hasher, mut piece) = (File::open(OsStr::from_bytes(path))?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&piece[..n]),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27021".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let service = reactor.add_service_with("offload", Offload);
    let listened = reactor.listen(service, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening offload tcp {addr}");
    Ok(reactor.run().map(drop)?)
}
