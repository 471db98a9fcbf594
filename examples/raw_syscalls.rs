//! The echo server of many tutorials, system call by system call, and made nonblocking by hand. Linux only.
//!
//! - **Run** `cargo run --example raw_syscalls [ADDR]` (127.0.0.1:7007 unless given).
//! - **Try** `strace target/debug/examples/raw_syscalls`, and `nc 127.0.0.1 7007` beside it: each call below is one line
//!   there.
//! - **Notice** the three answers of every call: it has done something, it would have to wait (`EAGAIN`), or it has
//!   failed. A blocking program never sees the second one. Here it is the only way back to `epoll_wait`, and what was half
//!   done by then has to be kept: the bytes that are not sent yet, and what the connection waits for. That costs an
//!   `epoll_ctl` whenever it changes; the reactor registers a socket once, and remembers instead
//!   (`src/reactor/readiness.rs`).

#[cfg(target_os = "linux")]
mod server {
    use std::collections::HashMap;
    use std::env;
    use std::error::Error;
    use std::net::SocketAddr;
    use std::os::fd::OwnedFd;

    use rustix::buffer::spare_capacity;
    use rustix::event::{Timespec, epoll};
    use rustix::io::{self, Errno};
    use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

    /// The word that comes back with the events of the listening socket; connections count from 1.
    const LISTENER: u64 = 0;

    /// How long to accept nobody when there are no descriptors left.
    const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

    struct Connection {
        socket: OwnedFd,
        unsent: Vec<u8>,
        awaited: epoll::EventFlags,
    }

    impl Connection {
        /// Moves what can be moved without waiting. Returns what to wait for, or nothing at the end.
        fn turn(&mut self, scratch: &mut [u8]) -> io::Result<Option<epoll::EventFlags>> {
            if self.unsent.is_empty() {
                match net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                    Ok((0, _)) => return Ok(None),
                    Ok((n, _)) => self.unsent.extend_from_slice(&scratch[..n]),
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(Some(epoll::EventFlags::IN)),
                    Err(error) => return Err(error),
                }
            }
            // Without the flag a peer that has gone would end the whole process with SIGPIPE.
            match net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            // A peer that does not read is not read either.
            Ok(Some(if self.unsent.is_empty() { epoll::EventFlags::IN } else { epoll::EventFlags::OUT }))
        }
    }

    pub fn run() -> Result<(), Box<dyn Error>> {
        let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".to_owned());
        let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(family, SocketType::STREAM, flags, None)?;
        // The connections of the last run may be in TIME_WAIT for a minute.
        sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &addr).map_err(|error| format!("cannot listen on {addr}: {error}"))?;
        net::listen(&listener, 4096)?;

        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let (mut connections, mut last) = (HashMap::new(), LISTENER);
        let (mut events, mut scratch, mut rest) = (Vec::with_capacity(256), vec![0; 64 * 1024], None);
        println!("listening echo tcp {}", SocketAddr::try_from(net::getsockname(&listener)?)?);
        loop {
            match epoll::wait(&epoll, spare_capacity(&mut events), rest.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if rest.take().is_some() {
                epoll::modify(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
            }
            for event in events.drain(..) {
                let word = event.data;
                if word.u64() == LISTENER {
                    match net::accept_with(&listener, flags) {
                        Ok(socket) => {
                            let _ = sockopt::set_tcp_nodelay(&socket, true);
                            // A new word for each: an event that is late must not hit a newcomer.
                            last += 1;
                            let awaited = epoll::EventFlags::IN;
                            // One that cannot be watched is dropped: it must not end the others.
                            if epoll::add(&epoll, &socket, epoll::EventData::new_u64(last), awaited).is_ok() {
                                connections.insert(last, Connection { socket, unsent: Vec::new(), awaited });
                            }
                        }
                        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                        Err(error) => {
                            // The event would come back at once, and again, until a descriptor is free.
                            eprintln!("echo: {error}");
                            epoll::modify(&epoll, &listener, word, epoll::EventFlags::empty())?;
                            rest = Some(REST);
                        }
                    }
                } else if let Some(connection) = connections.get_mut(&word.u64()) {
                    match connection.turn(&mut scratch) {
                        Ok(Some(awaited)) if awaited == connection.awaited => {}
                        Ok(Some(awaited)) => {
                            epoll::modify(&epoll, &connection.socket, word, awaited)?;
                            connection.awaited = awaited;
                        }
                        // FIN with nothing unsent, or an error: close(2) sends our FIN, and epoll forgets the socket.
                        Ok(None) | Err(_) => drop(connections.remove(&word.u64())),
                    }
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
