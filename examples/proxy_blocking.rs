//! A TCP forwarder with a thread for each direction. Its twin is `proxy.rs`.
//!
//! - **Run** `cargo run --release --example proxy_blocking 127.0.0.1:17022 127.0.0.1:8080`: the clients of port 17022 reach
//!   the server at port 8080.
//! - **Try** `curl 127.0.0.1:17022`, or `nc 127.0.0.1:17022` before a server that echoes.
//! - **Notice** how two threads that wait must agree about the end. A FIN ends one direction, and the other goes on. A reset
//!   ends both, so each thread must wake the other one: `shutdown` ends a `read`, and a `write` needs a timeout. The kernel
//!   reports a reset once, to the thread that comes first, and the other sees an end of file: a forwarder that believed it
//!   would pass a cut stream on as a complete one. SIGTERM ends the process with all its connections.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use std::{env, io, process, thread};

use signal_hook::{consts::SIGTERM, flag};
use socket2::SockRef;

/// The longest wait for a connection to the upstream, and the wait of a `write` before it looks for a reset.
const DIAL: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(1);

/// Copies from `source` to `target` until FIN, and passes the FIN on. `has_ended`: the other direction has done that.
fn copy(mut source: &TcpStream, mut target: &TcpStream, has_ended: &AtomicBool) -> io::Result<()> {
    // After a reset a socket has no peer (getpeername(2)). After a FIN each way, it has none either.
    let check = || match source.peer_addr() {
        Err(error) if !has_ended.load(SeqCst) => Err(error),
        _ => Ok(()),
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = source.read(&mut buffer)?;
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            match target.write(rest) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => check()?,
                written => rest = &rest[written?..],
            }
        }
        if n == 0 {
            check()?;
            has_ended.store(true, SeqCst);
            return target.shutdown(Shutdown::Write);
        }
    }
}

/// Makes the close of a socket send RST (socket(7): SO_LINGER), and ends a `read` that waits.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Read);
}

fn serve(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect_timeout(&upstream, DIAL).inspect_err(|_| reset(&client))?;
    let (sockets, has_ended) = ([&client, &upstream], AtomicBool::new(false));
    for socket in sockets {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(WRITE))?;
    }
    let run = |source, target| copy(source, target, &has_ended).inspect_err(|_| sockets.into_iter().for_each(reset));
    thread::scope(|scope| {
        let back = thread::Builder::new().spawn_scoped(scope, || run(&upstream, &client));
        back.inspect_err(|_| sockets.into_iter().for_each(reset))?;
        run(&client, &upstream)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1).map(|arg| arg.parse::<SocketAddr>());
    let (Some(Ok(addr)), Some(Ok(upstream)), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: proxy_blocking LISTEN UPSTREAM   (addresses, as 127.0.0.1:17022 127.0.0.1:8080)");
        process::exit(2);
    };
    flag::register_conditional_shutdown(SIGTERM, 0, Arc::new(AtomicBool::new(true)))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening proxy_blocking tcp {}", listener.local_addr()?);
    loop {
        let served =
            listener.accept().and_then(|(client, _)| thread::Builder::new().spawn(move || serve(client, upstream)));
        if let Err(error) = served {
            eprintln!("proxy_blocking: {error}");
            // No descriptor or no thread may be left until a connection ends.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
