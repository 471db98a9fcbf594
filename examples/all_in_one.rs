//! Five services on one reactor: one thread, one loop, one ledger.
//!
//! - **Run** `cargo run --example all_in_one [PORT]`: five ports from PORT on, 7000 unless given; 0 lets the kernel choose.
//! - **Try** `nc 127.0.0.1 7000` (echo), `nc -u 127.0.0.1 7000` (echo over UDP), 7001 (the time), 7002 (goodbye after three
//!   seconds), 7003 and 7004 (a chat). `pkill -USR1 all_in_one` shows them all in one table.
//! - **Notice** that a listener is not a service: the chat has two listeners and is one room, whose members do not know by
//!   which door they came in. What a listener has of its own is a policy: timeouts, and how much may be queued. And that
//!   nothing is shared between threads, because there is one: the services are plain values.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::limits::Policy;
use reactor::protocol::time_text::LocalTime;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::services::{Chat, Echo, EchoUdp, Idle, Time};

fn main() -> Result<(), Box<dyn Error>> {
    let first = env::args().nth(1).unwrap_or_else(|| "7000".to_owned());
    let first: u16 = first.parse().map_err(|error| format!("'{first}' is not a port: {error}"))?;
    let addr = |n: u16| SocketAddr::from(([127, 0, 0, 1], if first == 0 { 0 } else { first.saturating_add(n) }));

    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let echo = reactor.add_service("echo", Box::new(Echo));
    let time = reactor.add_service("time", Box::new(Time::new(LocalTime::of_system())));
    let idle = reactor.add_service("idle", Box::new(Idle));
    let chat = reactor.add_service("chat", Box::new(Chat::new(1024)));
    let patient = Policy::default();
    let strict = Policy::default().with_idle_timeout(Duration::from_secs(3));

    let options = ListenOptions::default();
    let bound = reactor.bind_datagram("echo-udp", Box::new(EchoUdp), addr(0), &options);
    let (_, udp) = bound.map_err(|error| format!("cannot bind {}: {error}", addr(0)))?;
    println!("listening echo-udp udp {udp}");
    let doors = [
        ("echo", echo, 0, &patient),
        ("time", time, 1, &patient),
        ("idle", idle, 2, &strict),
        ("chat", chat, 3, &patient),
        ("chat-too", chat, 4, &patient),
    ];
    for (name, service, n, policy) in doors {
        let listened = reactor.listen(service, addr(n), &options, policy.clone());
        let listened = listened.map_err(|error| format!("cannot listen on {}: {error}", addr(n)))?;
        println!("listening {name} tcp {listened}");
    }
    reactor.run()?;
    eprint!("{}", reactor.ledger());
    Ok(())
}
