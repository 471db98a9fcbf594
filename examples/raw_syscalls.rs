//! The echo server of many tutorials, system call by system call, and made nonblocking by hand. Linux only.
//!
//! - **Run** `cargo run --example raw_syscalls [ADDR]` (127.0.0.1:17009 unless given). Ctrl-C ends it.
//! - **Try** `strace target/debug/examples/raw_syscalls`, and `nc 127.0.0.1 17009` beside it: each call below is one line
//!   of strace. Two calls return `-1 EAGAIN` before you type, `accept4` and `recvfrom`; the program prints the first of
//!   each. A peer that does not read, `cat /dev/zero > /dev/tcp/127.0.0.1/17009` in bash, shows the third way to run out
//!   of work: `sendto` takes fewer bytes than offered. (It returns `EAGAIN` if the send buffer has no room at all.)
//! - **Notice** the three results of every call: done, would have to wait (`EAGAIN`), or failed. A blocking program never
//!   sees the second. Here `EAGAIN` is the only way back to `epoll_wait`. The program has to keep the unfinished work: the
//!   bytes not sent yet, and the event that the connection waits for. Each change of that event costs an `epoll_ctl`.
//!   The reactor registers a socket once, and remembers its readiness instead (`src/reactor/source/readiness.rs`).

#[cfg(target_os = "linux")]
mod server {
    use std::collections::HashMap;
    use std::env;
    use std::error::Error;
    use std::net::SocketAddr;
    use std::os::fd::OwnedFd;

    use rustix::buffer::spare_capacity;
    use rustix::event::Timespec;
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    use rustix::io::{self, Errno};
    use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

    /// The word that comes back with the events of the listening socket. Connections count from 1.
    const LISTENER: u64 = 0;

    /// The pause of accepting when no descriptor is left.
    const BACKOFF: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

    const NONBLOCKING: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

    /// Prints the first `EAGAIN` of each system call.
    #[derive(Default)]
    struct Blocked(Vec<&'static str>);

    impl Blocked {
        fn note(&mut self, call: &'static str, reason: &str) {
            if !self.0.contains(&call) {
                self.0.push(call);
                eprintln!("{call} = EAGAIN: {reason}");
            }
        }
    }

    struct Connection {
        socket: OwnedFd,
        unsent: Vec<u8>,
        awaited: EventFlags,
    }

    impl Connection {
        /// Receives and sends without waiting. Returns the event to wait for; `None` at the end.
        fn advance(&mut self, scratch: &mut [u8], blocked: &mut Blocked) -> io::Result<Option<EventFlags>> {
            if self.unsent.is_empty() {
                match net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                    Ok((0, _)) => return Ok(None),
                    Ok((n, _)) => self.unsent.extend_from_slice(&scratch[..n]),
                    Err(Errno::AGAIN) => {
                        blocked.note("recvfrom", "no byte has arrived");
                        return Ok(Some(EventFlags::IN));
                    }
                    Err(Errno::INTR) => return Ok(Some(EventFlags::IN)),
                    Err(error) => return Err(error),
                }
            }
            // Without the flag, a peer that has gone ends the whole process with SIGPIPE.
            match net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(Errno::AGAIN) => blocked.note("sendto", "the send buffer is full"),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            // The program does not read a peer that does not read.
            Ok(Some(if self.unsent.is_empty() { EventFlags::IN } else { EventFlags::OUT }))
        }
    }

    struct Server {
        epoll: OwnedFd,
        listener: OwnedFd,
        connections: HashMap<u64, Connection>,
        /// The word of the last connection.
        last: u64,
        scratch: Vec<u8>,
        blocked: Blocked,
    }

    impl Server {
        /// Accepts until the backlog is empty. Returns the pause until the next attempt, if no descriptor is left.
        fn accept(&mut self) -> io::Result<Option<Timespec>> {
            loop {
                match net::accept_with(&self.listener, NONBLOCKING) {
                    Ok(socket) => {
                        let _ = sockopt::set_tcp_nodelay(&socket, true);
                        // A word is never used again: a late event must not hit a later connection.
                        self.last += 1;
                        let awaited = EventFlags::IN;
                        // A socket that epoll refuses is dropped: the failure must not end the others.
                        if epoll::add(&self.epoll, &socket, EventData::new_u64(self.last), awaited).is_ok() {
                            self.connections.insert(self.last, Connection { socket, unsent: Vec::new(), awaited });
                            // The first bytes may have arrived already.
                            self.advance(self.last)?;
                        }
                    }
                    Err(Errno::INTR | Errno::CONNABORTED) => {}
                    Err(Errno::AGAIN) => {
                        self.blocked.note("accept4", "the backlog is empty");
                        return Ok(None);
                    }
                    Err(error) => {
                        // Without this the event comes back at once, and again, until a descriptor is free.
                        eprintln!("echo: {error}");
                        self.await_newcomers(EventFlags::empty())?;
                        return Ok(Some(BACKOFF));
                    }
                }
            }
        }

        fn await_newcomers(&self, awaited: EventFlags) -> io::Result<()> {
            epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER), awaited)
        }

        fn advance(&mut self, word: u64) -> io::Result<()> {
            let Some(connection) = self.connections.get_mut(&word) else { return Ok(()) };
            match connection.advance(&mut self.scratch, &mut self.blocked) {
                Ok(Some(awaited)) if awaited == connection.awaited => {}
                Ok(Some(awaited)) => {
                    epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(word), awaited)?;
                    connection.awaited = awaited;
                }
                // FIN with no byte unsent, or an error: close(2) sends our FIN, and epoll forgets the socket.
                Ok(None) | Err(_) => drop(self.connections.remove(&word)),
            }
            Ok(())
        }
    }

    pub fn run() -> Result<(), Box<dyn Error>> {
        let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17009".to_owned());
        let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let listener = net::socket_with(family, SocketType::STREAM, NONBLOCKING, None)?;
        // The connections of the last run may be in TIME_WAIT for a minute.
        sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
        net::listen(&listener, 4096)?;

        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        println!("listening echo tcp {}", SocketAddr::try_from(net::getsockname(&listener)?)?);
        let (connections, blocked) = (HashMap::new(), Blocked::default());
        let mut server = Server { epoll, listener, connections, last: LISTENER, scratch: vec![0; 64 * 1024], blocked };
        let (mut events, mut backoff) = (Vec::with_capacity(256), None);
        loop {
            match epoll::wait(&server.epoll, spare_capacity(&mut events), backoff.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if backoff.take().is_some() {
                server.await_newcomers(EventFlags::IN)?;
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => backoff = server.accept()?,
                    word => server.advance(word)?,
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    server::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    Err("epoll is a part of Linux: bare_mio runs here".into())
}
