//! The turn of a datagram socket, and the calls of its service that no datagram has caused.
//!
//! Owns: what happens around such a call: letters are sent, commands applied, the registration brought in line. Must not
//! know: how a batch is received or sent.

use std::mem;

use log::warn;

use super::setup::register;
use super::source::datagram::DatagramSocket;
use super::source::sources::Source;
use super::{Alarm, Invitation, Reactor};
use crate::id::{Addressee, SourceId};
use crate::limits::REST;
use crate::service::{Command, DatagramService, Errno, SocketContext};

impl Reactor {
    /// Gives a datagram socket its turn.
    pub(super) fn serve_socket(&mut self, id: SourceId) {
        self.with_socket(id, |socket, reactor| {
            socket.queued = false;
            socket.work(&mut reactor.batch, &mut reactor.socket_context, &mut reactor.recorder);
        });
    }

    /// Calls the service of a datagram socket, unless it is gone.
    pub(super) fn call_socket(
        &mut self,
        id: SourceId,
        callback: impl FnOnce(&mut dyn DatagramService, &mut SocketContext),
    ) {
        self.with_socket(id, |socket, reactor| {
            socket.call(&reactor.batch, &mut reactor.socket_context, &mut reactor.recorder, callback);
        });
    }

    /// Takes a socket out, lets something happen to it, and does what follows from that.
    fn with_socket(&mut self, id: SourceId, happen: impl FnOnce(&mut DatagramSocket, &mut Reactor)) {
        let Some(mut socket) = self.sources.take_socket(id) else { return };
        self.socket_context.set_now(self.now);
        happen(&mut socket, self);
        self.apply_of_socket(id);
        self.connect_socket(id, &mut socket);
        self.settle_socket(id, &mut socket);
        let is_over = socket.is_over();
        self.sources.put_socket_back(id, socket);
        if is_over {
            self.remove_socket(id);
        }
    }

    /// Removes a datagram socket and whatever might still call it.
    pub(super) fn remove_socket(&mut self, id: SourceId) {
        self.cancel_timers_of(id);
        self.sources.remove(id);
    }

    /// Applies what the service of a socket has recorded besides letters.
    fn apply_of_socket(&mut self, id: SourceId) {
        if self.socket_context.outbox().commands().is_empty() {
            return;
        }
        for command in self.socket_context.outbox_mut().take_commands() {
            self.recorder.command(&command);
            match command {
                Command::SetTimer { name, at, every } => self.set_timer(Addressee::Socket(id), name, at, every),
                Command::CancelTimer { name } => self.cancel_timer(Addressee::Socket(id), name),
                Command::Turn => self.invited.push((Addressee::Socket(id), Invitation::Turn)),
                Command::Stop => self.stop.wanted = true,
                // A socket's context offers no other.
                _ => self.recorder.ledger.stale_commands += 1,
            }
        }
    }

    /// Connects a socket anew if its service has recorded that.
    fn connect_socket(&mut self, id: SourceId, socket: &mut DatagramSocket) {
        let Some(connect) = self.socket_context.outbox_mut().take_connect() else { return };
        let registry = self.poll.registry();
        if mem::replace(&mut socket.watched, false) {
            // The descriptor is closed next, and with it the registration, whatever the kernel answers here.
            let _ = registry.deregister(&mut socket.socket);
        }
        let outcome = socket.connect(connect, &mut self.recorder).and_then(|local| {
            register(registry, &mut socket.socket, id)?;
            socket.watched = true;
            Ok(local)
        });
        socket.note_connect(outcome.map_err(Errno::from));
    }

    /// After anything has happened to a socket: its registration, and whether it wants a turn or a rest.
    fn settle_socket(&mut self, id: SourceId, socket: &mut DatagramSocket) {
        self.watch(id, socket);
        if socket.begins_rest() {
            self.set_alarm(self.now + REST, Alarm::Socket(id));
        }
        if socket.wants_turn() && !mem::replace(&mut socket.queued, true) {
            self.ready.push(id);
        }
    }

    /// Brings the registration of a socket in line with its state. If the kernel has no room for it the socket rests.
    fn watch(&mut self, id: SourceId, socket: &mut DatagramSocket) {
        let wanted = socket.wants_watch();
        if wanted == socket.watched || socket.is_resting() {
            return;
        }
        let registry = self.poll.registry();
        let done =
            if wanted { register(registry, &mut socket.socket, id) } else { registry.deregister(&mut socket.socket) };
        if wanted && done.is_err() {
            // With debug assertions mio takes for registered what the kernel had no room for, and would refuse the next
            // attempt.
            let _ = registry.deregister(&mut socket.socket);
        }
        match done {
            Ok(()) => {
                socket.watched = wanted;
                socket.recovered();
            }
            Err(error) => {
                if socket.rest() {
                    warn!("{}: cannot change the registration: {error}; trying again every {REST:?}", socket.name);
                }
            }
        }
    }

    /// A datagram socket has rested.
    pub(super) fn end_socket_rest(&mut self, id: SourceId) {
        match self.sources.get_mut(id) {
            Some(Source::Datagram(socket)) => {
                socket.wake();
                if socket.wants_turn() && !mem::replace(&mut socket.queued, true) {
                    self.ready.push(id);
                }
            }
            _ => self.recorder.ledger.stale_alarms += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::ListenOptions;
    use crate::service::DatagramContext;

    struct Deaf;

    impl DatagramService for Deaf {
        fn on_datagram(&mut self, _: &mut DatagramContext<'_>, _: &[u8]) {}
    }

    #[test]
    fn a_registration_that_has_failed_is_made_after_a_rest() {
        let mut reactor = Reactor::new().unwrap();
        let anywhere = ([127, 0, 0, 1], 0).into();
        let (id, _) = reactor.bind_datagram("deaf", Box::new(Deaf), anywhere, &ListenOptions::default()).unwrap();
        // It is registered, and nobody knows: to register it fails (EEXIST).
        let mut socket = reactor.sources.take_socket(id).unwrap();
        socket.watched = false;
        reactor.settle_socket(id, &mut socket);
        assert!(!socket.watched && socket.is_resting());
        reactor.sources.put_socket_back(id, socket);
        let is_watched = |reactor: &mut Reactor| matches!(reactor.sources.get_mut(id), Some(Source::Datagram(socket)) if socket.watched);
        while !is_watched(&mut reactor) && reactor.ledger().turns < 20 {
            reactor.turn().unwrap();
        }
        assert!(is_watched(&mut reactor), "{}", reactor.ledger());
    }
}
