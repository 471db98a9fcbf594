//! The turn of a listener: from the backlog to a connection.
//!
//! Owns: the accept loop, admission, the pause after exhaustion. Must not know: the protocol of a connection.

use log::{debug, warn};

use crate::addr::Addr;
use crate::id::{ListenerId, SourceId};
use crate::limits::{ACCEPTS, BACKOFF};
use crate::reactor::Reactor;
use crate::reactor::source::connection::Connection;
use crate::reactor::source::sources::Source;
use crate::reactor::sys::open;
use crate::reactor::sys::outcome::Accepted;
use crate::reactor::sys::stream::{self, StreamSocket};
use crate::reactor::timers::Alarm;
use crate::service::ConnectionFacts;

impl Reactor {
    /// Accepts until the backlog is empty, within a budget. During a back-off the listener accepts nothing and only
    /// records events, because each failed attempt would set an alarm.
    pub(in crate::reactor) fn serve_listener(&mut self, id: ListenerId) {
        if !self.sources.listener(id).is_some_and(|listener| listener.wants_turn()) {
            return;
        }
        for _ in 0..ACCEPTS {
            if !self.accept(id) {
                break;
            }
        }
        self.sources.enqueue_if_wanted(id);
    }

    /// Accepts one connection. Returns true if the next one may be accepted at once.
    pub(in crate::reactor) fn accept(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.sources.listener(id) else {
            return false;
        };
        match stream::accept(&listener.socket, id.into(), &mut self.recorder) {
            Accepted::Connection(stream, peer) => {
                self.admit(id, stream, peer);
                true
            }
            Accepted::Died(_) if listener.skip_dead() => true,
            Accepted::Blocked => {
                listener.blocked();
                false
            }
            Accepted::Died(errno) | Accepted::Exhausted(errno) => {
                self.recorder.ledger.accept_backoffs += 1;
                if listener.back_off() {
                    warn!("{}: cannot accept: {errno}; trying again every {BACKOFF:?}", listener.name);
                }
                listener.backoff.take_request();
                self.set_alarm(self.now + BACKOFF, Alarm::Retry(id.into()));
                false
            }
        }
    }

    /// Makes a connection of an accepted socket, or refuses the socket above a limit of connections.
    fn admit(&mut self, listener: ListenerId, mut socket: StreamSocket, peer: Addr) {
        let is_full = self.sources.accepted() >= self.max_connections;
        let Some(from) = self.sources.listener(listener) else { return };
        if from.accepted() {
            warn!("{}: accepting again", from.name);
        }
        if is_full || from.is_full() {
            self.recorder.ledger.refused += 1;
            stream::refuse(socket, &mut self.scratch);
            return;
        }
        let (name, service, policy) = (from.name, from.service, from.policy.clone());
        open::prepare_accepted(&socket, &peer);
        let local = from.local.clone();
        let local = local.unwrap_or_else(|| socket.local_addr().unwrap_or_else(|_| peer.unspecified()).into());
        let mut facts = ConnectionFacts::new(peer.clone(), local, policy.high_water);
        if peer.is_unix() {
            facts.credentials = socket.peer_credentials().map(Box::new);
        }
        match self.register_connection(&mut socket, facts) {
            Ok(id) => {
                if let Some(listener) = self.sources.listener(listener) {
                    listener.admitted();
                }
                let mut accepted = Connection::accepted(socket, id, service, policy, self.now);
                accepted.set_listener(listener);
                if peer.is_unix() {
                    accepted.unwatch_writes();
                }
                self.sources.insert(id.into(), Source::Connection(accepted));
                debug!("{name}: {id} {peer} connected");
                self.call(id, &[], |service, ctx| service.on_open(ctx));
                self.after_event(id);
            }
            Err(error) => {
                self.recorder.ledger.refused += 1;
                warn!("{name}: cannot register {peer}: {error}");
            }
        }
    }

    /// Ends the back-off of a listener or a datagram socket.
    pub(in crate::reactor) fn end_backoff(&mut self, id: SourceId) {
        match self.sources.get_mut(id) {
            Some(Source::Listener(listener)) => listener.backoff.end(),
            Some(Source::Datagram(socket)) => socket.backoff.end(),
            Some(Source::Connection(_) | Source::Descriptor(_)) | None => self.recorder.ledger.stale_alarms += 1,
        }
        self.sources.enqueue_if_wanted(id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::id::ServiceId;
    use crate::limits::Policy;
    use crate::reactor::setup::register;
    use crate::reactor::source::listener::Listener;
    use crate::reactor::sys::stream::ListenSocket;

    #[test]
    fn a_listener_with_only_dead_connections_backs_off() {
        // accept(2) on a datagram socket fails with EOPNOTSUPP, an error that counts as a dead connection.
        let datagram = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let not_a_listener = std::net::TcpListener::from(datagram);
        not_a_listener.set_nonblocking(true).unwrap();
        let mut socket = ListenSocket::from(not_a_listener);
        let mut reactor = Reactor::new().unwrap();
        let id = reactor.context.directory_mut().insert_listener();
        register(reactor.poll.registry(), &mut socket, id.into()).unwrap();
        let listener = Listener::new(socket, ServiceId::new(0, 0), "dead", Policy::default());
        reactor.sources.insert(id.into(), Source::Listener(Box::new(listener)));
        // A datagram makes the socket readable, so that the listener tries to accept.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = reactor.sources.listener(id).unwrap().socket.local_addr().unwrap();
        peer.send_to(b"datagram", addr.as_socket().unwrap()).unwrap();
        // During a back-off the loop sleeps until the alarm: a busy loop would need far more turns.
        while reactor.ledger().accept_backoffs < 2 && reactor.ledger().turns < 20 {
            reactor.turn().unwrap();
        }
        let ledger = reactor.ledger();
        assert_eq!((ledger.accept_backoffs, ledger.accept_errors), (2, 2 * ACCEPTS as u64), "{ledger}");
    }
}
