//! Blocking work beside a loop: a line is a path, and the answer is the SHA-256 of the file.
//!
//! - **Run** `cargo run --example offload [ADDR]` (127.0.0.1:27021 unless given).
//! - **Try** `echo Cargo.toml | nc -q1 127.0.0.1 27021`, beside `sha256sum Cargo.toml`.
//! - **Notice** that the loop never opens a file: epoll cannot wait for one (epoll_ctl(2): EPERM). A thread reads it, and
//!   its [`Poster`] brings the answer back. The connection is paused meanwhile, so answers keep their order, and one client
//!   has at most one file open. `on_eof` and a stop wait for the answer that is under way. Go does the same: a `read` of a
//!   file blocks its thread, and the runtime starts another one.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::thread;

use reactor::{ConnId, Context, ListenOptions, Policy, Poster, Reactor, Receive, Service, ServiceContext};
use sha2::{Digest, Sha256};

/// The longest path (path_resolution(7): `PATH_MAX`).
const MAX_PATH: usize = 4096;

/// The answer to one line.
struct Answer {
    to: ConnId,
    text: String,
}

struct Offload {
    poster: Poster<Answer>,
}

impl Service for Offload {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if input.len() > MAX_PATH {
                ctx.send(b"error: the line is too long\n");
                ctx.finish();
            }
            return 0;
        };
        let path = String::from_utf8_lossy(&input[..end]).trim_end_matches('\r').to_owned();
        let (to, poster) = (ctx.id(), self.poster.clone());
        // The rest of the input is offered again after `resume`.
        ctx.pause();
        thread::spawn(move || {
            let text = match hash(&path) {
                Ok(hex) => format!("{hex}  {path}\n"),
                Err(error) => format!("error: {path}: {error}\n"),
            };
            // The post fails if the reactor is gone: then the client is gone, too.
            let _ = poster.post_blocking(Answer { to, text });
        });
        end + 1
    }
}

impl Receive<Answer> for Offload {
    fn on_post(&mut self, ctx: &mut ServiceContext, answer: Answer) {
        if let Some(mut asker) = ctx.connection(answer.to) {
            asker.send(answer.text.as_bytes());
            asker.resume();
        }
    }
}

/// Returns the SHA-256 of a file in hexadecimal digits.
fn hash(path: &str) -> io::Result<String> {
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => hasher.update(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27021".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let offload = reactor.add_service_with("offload", |poster| Offload { poster });
    let listened = reactor.listen(offload, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening offload tcp {addr}");
    reactor.run()?;
    Ok(())
}
