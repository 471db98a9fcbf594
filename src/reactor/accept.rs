//! The turn of a listener: from the backlog to a connection.
//!
//! Owns: the accept loop, admission, the rest after exhaustion. Must not know: what is spoken on a connection.

use std::io;
use std::mem;
use std::net::SocketAddr;

use log::{debug, warn};
use mio::net::TcpStream;

use super::setup::register;
use super::source::connection::Connection;
use super::source::sources::Source;
use super::sys::open;
use super::sys::stream::{self as socket, Accepted};
use super::{Alarm, Reactor};
use crate::id::SourceId;
use crate::limits::{ACCEPTS, REST};

impl Reactor {
    /// Accepts until nobody is waiting, within a budget. An event for one that rests is remembered, and no more: each
    /// attempt that fails sets an alarm.
    pub(super) fn serve_listener(&mut self, id: SourceId) {
        if !self.sources.listener(id).is_some_and(|listener| listener.wants_turn()) {
            return;
        }
        for _ in 0..ACCEPTS {
            if !self.accept(id) {
                break;
            }
        }
        self.queue_listener(id);
    }

    fn queue_listener(&mut self, id: SourceId) {
        if let Some(listener) = self.sources.listener(id)
            && listener.wants_turn()
            && !mem::replace(&mut listener.queued, true)
        {
            self.ready.push(id);
        }
    }

    /// Accepts one connection; says whether to go on.
    pub(super) fn accept(&mut self, id: SourceId) -> bool {
        let Some(listener) = self.sources.listener(id) else {
            return false;
        };
        match socket::accept(&listener.socket, id, &mut self.recorder) {
            Accepted::Connection(stream, peer) => {
                self.admit(id, stream, peer);
                true
            }
            Accepted::Died(_) if listener.may_go_on() => true,
            Accepted::Blocked => {
                listener.blocked();
                false
            }
            Accepted::Died(errno) | Accepted::Exhausted(errno) => {
                self.recorder.ledger.accept_rests += 1;
                if listener.rest() {
                    warn!("{}: cannot accept: {errno}; trying again every {REST:?}", listener.name);
                }
                self.set_alarm(self.now + REST, Alarm::Listener(id));
                false
            }
        }
    }

    /// Makes an accepted socket a connection, if there is room for one more.
    fn admit(&mut self, listener: SourceId, mut stream: TcpStream, peer: SocketAddr) {
        if self.sources.connections() >= self.max_connections {
            self.recorder.ledger.refused += 1;
            socket::refuse(stream, &mut self.scratch);
            return;
        }
        let Some(listener) = self.sources.listener(listener) else {
            return;
        };
        if listener.recovered() {
            warn!("{}: accepting again", listener.name);
        }
        let (name, service, policy) = (listener.name, listener.service, listener.policy.clone());
        open::prepare_accepted(&stream);
        let (registry, now) = (self.poll.registry(), self.now);
        let registered = self.sources.insert(|id| {
            register(registry, &mut stream, id)?;
            let accepted = Connection::accepted(stream, id, peer, service, policy, now);
            Ok::<_, io::Error>(Source::Connection(accepted))
        });
        match registered {
            Ok(id) => {
                debug!("{name}: {id} {peer} connected");
                if let Some(mut connection) = self.sources.take_out(id) {
                    self.call(&mut connection, &[], |service, ctx| service.on_open(ctx));
                    self.settle(&mut connection);
                    self.sources.put_back(connection);
                }
            }
            Err(error) => {
                self.recorder.ledger.refused += 1;
                warn!("{name}: cannot register {peer}: {error}");
            }
        }
    }

    /// A listener has rested.
    pub(super) fn end_rest(&mut self, id: SourceId) {
        match self.sources.listener(id) {
            Some(listener) => listener.wake(),
            None => self.recorder.ledger.stale_alarms += 1,
        }
        self.queue_listener(id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::id::ServiceId;
    use crate::limits::Policy;
    use crate::reactor::source::listener::Listener;

    #[test]
    fn a_listener_that_finds_only_dead_connections_rests() {
        // From a socket that cannot accept, each accept fails as it may for one connection (EOPNOTSUPP).
        let deaf = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let deaf = std::net::TcpListener::from(deaf);
        deaf.set_nonblocking(true).unwrap();
        let mut socket = mio::net::TcpListener::from_std(deaf);
        let mut reactor = Reactor::new().unwrap();
        let inserted = reactor.sources.insert(|id| {
            register(reactor.poll.registry(), &mut socket, id)?;
            let listener = Listener::new(socket, ServiceId(0), "deaf", Policy::default());
            Ok::<_, io::Error>(Source::Listener(Box::new(listener)))
        });
        let id = inserted.unwrap();
        // A datagram socket is writable at once; that it is readable, too, takes a datagram.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = reactor.sources.listener(id).unwrap().socket.local_addr().unwrap();
        peer.send_to(b"knock", addr).unwrap();
        // It waits for an alarm, and not by turning.
        while reactor.ledger().accept_rests < 2 && reactor.ledger().turns < 20 {
            reactor.turn().unwrap();
        }
        let ledger = reactor.ledger();
        assert_eq!((ledger.accept_rests, ledger.accept_errors), (2, 2 * ACCEPTS as u64), "{ledger}");
    }
}
