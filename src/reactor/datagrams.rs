//! The turn of a datagram socket, and the calls of its service that no datagram has caused.
//!
//! Owns: the steps around such a call: transmits are sent, commands applied, the registration brought in line. Must not
//! know: how a batch is received or sent.

use std::mem;

use log::warn;
use mio::Registry;

use super::setup::register;
use super::source::datagram::DatagramSocket;
use super::timers::Alarm;
use super::{Reactor, ScheduledCall};
use crate::id::{Addressee, SocketId};
use crate::limits::BACKOFF;
use crate::service::{Command, DatagramService, Errno, SocketContext};

impl Reactor {
    /// Gives a datagram socket its turn. Only a turn removes a finished socket: a call may precede the last turn, which
    /// receives the datagrams that have arrived.
    pub(super) fn serve_socket(&mut self, id: SocketId) {
        let Self { sources, socket_context, batch, recorder, now, .. } = self;
        let Some(socket) = sources.datagram(id) else { return };
        socket_context.set_now(*now);
        socket.work(batch, socket_context, recorder);
        self.after_socket_event(id);
        if self.sources.datagram(id).is_some_and(|socket| socket.is_over()) {
            self.remove_socket(id);
        }
    }

    /// Calls the service of a datagram socket, unless it is gone.
    pub(super) fn call_socket(
        &mut self,
        id: SocketId,
        callback: impl FnOnce(&mut dyn DatagramService, &mut SocketContext),
    ) {
        let Self { sources, socket_context, batch, recorder, now, .. } = self;
        let Some(socket) = sources.datagram(id) else { return };
        socket_context.set_now(*now);
        socket.call(batch, socket_context, recorder, callback);
        self.after_socket_event(id);
    }

    /// Connects a socket to another peer if its service has recorded that.
    fn connect_socket(&mut self, id: SocketId) {
        let Some(connect) = self.socket_context.outbox_mut().take_connect() else { return };
        let (registry, recorder) = (self.poll.registry(), &mut self.recorder);
        let Some(socket) = self.sources.datagram(id) else { return };
        if mem::replace(&mut socket.registered, false) {
            // The descriptor is closed next, and with it the registration, whatever the kernel answers here.
            let _ = registry.deregister(&mut socket.socket);
        }
        let outcome = socket.connect(connect, recorder).and_then(|local| {
            register(registry, &mut socket.socket, id.into())?;
            socket.registered = true;
            Ok(local)
        });
        socket.note_connect(outcome.map_err(Errno::from));
    }

    /// After a turn or a call: applies the commands, brings the registration in line, and finds out if the socket needs
    /// an alarm or wants a turn.
    fn after_socket_event(&mut self, id: SocketId) {
        self.apply_of_socket(id);
        self.connect_socket(id);
        let Some(socket) = self.sources.datagram(id) else { return };
        update_registration(self.poll.registry(), id, socket);
        if socket.backoff.take_request() {
            self.set_alarm(self.now + BACKOFF, Alarm::Retry(id.into()));
        }
        self.sources.enqueue_if_wanted(id);
    }

    /// Removes a datagram socket and its timers.
    pub(super) fn remove_socket(&mut self, id: SocketId) {
        self.cancel_timers_of(id);
        self.remove_source(id.into());
    }

    /// Applies the commands that the service of a socket has recorded besides transmits.
    fn apply_of_socket(&mut self, id: SocketId) {
        if self.socket_context.outbox().commands().is_empty() {
            return;
        }
        for command in self.socket_context.outbox_mut().take_commands() {
            self.recorder.command(&command);
            match command {
                Command::SetTimer { name, at, every } => self.set_timer(Addressee::Socket(id), name, at, every),
                Command::CancelTimer { name } => self.cancel_timer(Addressee::Socket(id), name),
                Command::Turn => self.scheduled.push((Addressee::Socket(id), ScheduledCall::Turn)),
                Command::Stop => self.stop.wanted = true,
                // The context of a socket offers no other command.
                _ => self.recorder.ledger.stale_commands += 1,
            }
        }
    }
}

/// Brings the registration of a socket in line with its state. If the kernel has no memory for it the socket backs off.
fn update_registration(registry: &Registry, id: SocketId, socket: &mut DatagramSocket) {
    let wanted = socket.wants_registration();
    if wanted == socket.registered || socket.backoff.is_pausing() {
        return;
    }
    let done = if wanted {
        register(registry, &mut socket.socket, id.into())
    } else {
        registry.deregister(&mut socket.socket)
    };
    if wanted && done.is_err() {
        // With debug assertions mio remembers a registration that the kernel has refused, and would refuse the next
        // attempt.
        let _ = registry.deregister(&mut socket.socket);
    }
    match done {
        Ok(()) => {
            socket.registered = wanted;
            socket.backoff.succeeded();
        }
        Err(error) => {
            if socket.backoff.begin() {
                warn!("{}: cannot change the registration: {error}; trying again every {BACKOFF:?}", socket.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::ListenOptions;
    use crate::service::DatagramContext;

    struct Silent;

    impl DatagramService for Silent {
        fn on_datagram(&mut self, _: &mut DatagramContext<'_>, _: &[u8]) {}
    }

    #[test]
    fn a_failed_registration_is_made_after_a_pause() {
        let mut reactor = Reactor::new().unwrap();
        let anywhere = ([127, 0, 0, 1], 0).into();
        let (id, _) = reactor.bind_datagram("silent", Box::new(Silent), anywhere, &ListenOptions::default()).unwrap();
        // The socket is registered and does not know it: to register it fails (EEXIST).
        reactor.sources.datagram(id).unwrap().registered = false;
        reactor.after_socket_event(id);
        let socket = reactor.sources.datagram(id).unwrap();
        assert!(!socket.registered && socket.backoff.is_pausing());
        let is_registered = |reactor: &mut Reactor| reactor.sources.datagram(id).unwrap().registered;
        while !is_registered(&mut reactor) && reactor.ledger().turns < 20 {
            reactor.turn().unwrap();
        }
        assert!(is_registered(&mut reactor), "{}", reactor.ledger());
    }
}
