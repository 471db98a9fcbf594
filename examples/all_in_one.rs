//! Five services on one reactor: one thread, one loop, one ledger.
//!
//! - **Run** `cargo run --example all_in_one [PORT]`: five ports from PORT on, 17100 unless given; 0 lets the kernel choose.
//! - **Try** `nc 127.0.0.1 17100` (echo), `nc -u 127.0.0.1 17100` (echo over UDP), 17101 (the time), 17102 (goodbye after
//!   three seconds), 17103 and 17104 (a chat). `pkill -USR1 all_in_one` prints them all in one table.
//! - **Notice** that a listener is not a service. The chat has two listeners and one room, and its members cannot see which
//!   listener accepted another. A listener has its own policy: timeouts, and the size of queues. Threads share nothing,
//!   because there is one: the services are plain values.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::limits::Policy;
use reactor::protocol::time_text::LocalTime;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::services::{Chat, Echo, EchoUdp, Idle, Time};

fn main() -> Result<(), Box<dyn Error>> {
    let first = env::args().nth(1).unwrap_or_else(|| "17100".to_owned());
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
    let echo_udp = reactor.add_datagram_service("echo-udp", Box::new(EchoUdp));
    let bound = reactor.bind_datagram(echo_udp, addr(0), &options);
    let (_, udp) = bound.map_err(|error| format!("cannot bind {}: {error}", addr(0)))?;
    println!("listening echo-udp udp {udp}");
    let listeners = [
        ("echo", echo, 0, &patient),
        ("time", time, 1, &patient),
        ("idle", idle, 2, &strict),
        ("chat", chat, 3, &patient),
        ("chat-too", chat, 4, &patient),
    ];
    for (name, service, n, policy) in listeners {
        let listened = reactor.listen(service, addr(n), &options, policy.clone());
        let (_, listened) = listened.map_err(|error| format!("cannot listen on {}: {error}", addr(n)))?;
        println!("listening {name} tcp {listened}");
    }
    reactor.run()?;
    eprint!("{}", reactor.ledger());
    Ok(())
}
