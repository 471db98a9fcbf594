//! Echo on one reactor per processor: the same listener on each by `SO_REUSEPORT`, and nothing shared.
//!
//! - **Run** `cargo run --example per_core [ADDR [N]]` (127.0.0.1:27020 and one loop for each processor unless given).
//! - **Try** several `nc 127.0.0.1 27020`; at the end each loop prints its connections.
//! - **Notice** what a loop knows of the others: nothing. The kernel spreads connections over the listeners by a hash of
//!   their addresses (socket(7)). A connection stays on its loop, so a service needs no lock. In Go the runtime moves
//!   goroutines between threads, and the programmer adds the locks.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use reactor::services::Echo;
use reactor::{Addr, Handle, ListenOptions, Policy, Reactor};

type Failure = Box<dyn Error + Send + Sync>;

/// Returns a reactor that echoes at `addr`, and its real address.
fn echo(addr: Addr) -> Result<(Reactor, Addr), Failure> {
    let mut reactor = Reactor::new()?;
    let echo = reactor.add_service("echo", Box::new(Echo));
    let listened =
        reactor.listen(echo, addr.clone(), &ListenOptions::default().with_reuse_port(true), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    Ok((reactor, addr))
}

/// Runs one more loop at `addr`. Sends its handle when it listens, and returns the number of its connections.
fn run(addr: Addr, started: mpsc::Sender<Handle>) -> Result<u64, Failure> {
    let (mut reactor, _) = echo(addr)?;
    started.send(reactor.handle())?;
    drop(started);
    reactor.run()?;
    Ok(reactor.ledger().accepts)
}

fn main() -> Result<(), Failure> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:27020".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let loops = match env::args().nth(2) {
        Some(n) => n.parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(|| format!("{n}: not a number of loops"))?,
        None => thread::available_parallelism()?.get(),
    };
    // The first loop chooses the port, and takes the signals of the process.
    let (mut first, addr) = echo(addr.into())?;
    first.handle_signals()?;
    let (started, start) = mpsc::channel();
    let others: Vec<_> = (1..loops)
        .map(|_| {
            let (addr, started) = (addr.clone(), started.clone());
            thread::spawn(move || run(addr, started))
        })
        .collect();
    drop(started);
    // The channel ends when each loop has sent its handle, or has failed.
    let handles: Vec<_> = start.iter().collect();
    if handles.len() == others.len() {
        println!("listening per_core tcp {addr}");
        first.run()?;
    }
    for handle in handles {
        handle.stop();
    }
    eprintln!("loop 0: {} connections", first.ledger().accepts);
    for (n, other) in (1..).zip(others) {
        let accepts = other.join().map_err(|_| "a loop panicked")??;
        eprintln!("loop {n}: {accepts} connections");
    }
    Ok(())
}
