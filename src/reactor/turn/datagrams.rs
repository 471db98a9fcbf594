//! The turn of a datagram socket, and the calls of its service.
//!
//! Owns: the steps of the turn, and the steps around each call: transmits are sent, commands applied, the registration
//! brought in line. Must not know: how a batch is received or sent.

use std::mem;

use log::warn;
use mio::Registry;

use crate::id::{ServiceId, SocketId};
use crate::limits::{BACKOFF, LAST_BATCHES};
use crate::reactor::Reactor;
use crate::reactor::setup::register;
use crate::reactor::source::datagram::DatagramSocket;
use crate::reactor::timers::Alarm;
use crate::service::{DatagramContext, DatagramService, Directory, Errno, SocketContext, Span};

/// Copies the length of the queue into the facts that services may know.
fn publish(id: SocketId, socket: &mut DatagramSocket, directory: &mut Directory) {
    if let Some(queued) = socket.take_unpublished()
        && let Some(facts) = directory.socket_mut(id)
    {
        facts.queued = queued;
    }
}

impl Reactor {
    /// Gives a datagram socket its turn: sends the queue, receives one batch, sends the answers. The last turn receives all
    /// datagrams that have arrived, within a bound. Only a turn removes a finished socket: a call may precede the last turn.
    pub(in crate::reactor) fn serve_socket(&mut self, id: SocketId) {
        let Some(socket) = self.sources.datagram(id) else { return };
        let is_finishing = socket.is_finishing();
        if socket.owes_callback() {
            self.deliver_owed_to_socket(id);
        }
        for _ in 0..if is_finishing { LAST_BATCHES } else { 1 } {
            self.receive_batch(id);
        }
        self.after_socket_event(id);
        if is_finishing && self.sources.datagram(id).is_some_and(|socket| socket.is_over()) {
            self.close_source(id.into());
        }
    }

    /// Delivers the result of a connect and an error, and sends the queue.
    #[inline(never)]
    fn deliver_owed_to_socket(&mut self, id: SocketId) {
        // Commands of an earlier callback of this turn may have bound the socket and given it work.
        self.open_socket(id);
        if let Some(outcome) = self.sources.datagram(id).and_then(|socket| socket.take_connect_outcome()) {
            self.call_socket(id, |service, ctx| service.on_connect(ctx, outcome));
        }
        if let Some(errno) = self.sources.datagram(id).and_then(|socket| socket.take_error()) {
            self.call_socket(id, |service, ctx| service.on_error(ctx, errno));
        }
        let Self { sources, context, recorder, .. } = self;
        let Some(socket) = sources.datagram(id) else { return };
        if socket.flush(recorder) {
            publish(id, socket, context.directory_mut());
            self.call_socket(id, |service, ctx| service.on_drain(ctx));
        }
    }

    /// Receives one batch, and calls the service for each datagram.
    fn receive_batch(&mut self, id: SocketId) {
        let Self { sources, services, context, batch, recorder, .. } = self;
        let Some(socket) = sources.datagram(id) else { return };
        if !socket.receive(batch, recorder) {
            return;
        }
        let owner = socket.service();
        // Only a service on datagrams has sockets.
        let Some(service) = services[owner.index()].service.datagram() else { return };
        context.outbox_mut().begin_transmits(id);
        for n in 0..batch.len() {
            let Some(sender) = batch.sender(n) else { continue };
            service.on_datagram(&mut DatagramContext::new(context, id, n, sender), batch.payload(n));
            if context.outbox().socket_at_hand().is_none() {
                // The service has closed the socket: no further callback about it follows.
                break;
            }
        }
        self.end_call(id, owner);
    }

    /// Calls the service of a datagram socket about it, unless the socket is gone.
    pub(in crate::reactor) fn call_socket(
        &mut self,
        id: SocketId,
        callback: impl FnOnce(&mut dyn DatagramService, &mut SocketContext<'_>),
    ) {
        let Self { sources, services, context, .. } = self;
        let Some(owner) = sources.datagram(id).map(|socket| socket.service()) else { return };
        let Some(service) = services[owner.index()].service.datagram() else { return };
        context.outbox_mut().begin_transmits(id);
        callback(service, &mut SocketContext::new(context, id));
        self.end_call(id, owner);
    }

    /// After callbacks about a socket: sends its datagrams, and applies the commands of its service.
    fn end_call(&mut self, id: SocketId, owner: ServiceId) {
        let Self { sources, context, batch, recorder, .. } = self;
        let transmits = context.outbox().transmits();
        if let Some(socket) = sources.datagram(id)
            && !transmits.as_slice().is_empty()
        {
            socket.transmit(batch, transmits, Span::of(transmits.as_slice()), recorder);
            publish(id, socket, context.directory_mut());
        }
        context.outbox_mut().end_transmits();
        if !context.outbox().commands().is_empty() {
            self.apply(owner, None, &[]);
        }
    }

    /// Opens a socket: calls `on_open`, once.
    pub(in crate::reactor) fn open_socket(&mut self, id: SocketId) {
        let Some(socket) = self.sources.datagram(id) else { return };
        if !mem::replace(&mut socket.is_open, true) {
            self.call_socket(id, |service, ctx| service.on_open(ctx));
            self.after_socket_event(id);
        }
    }

    /// Calls `on_stop` of a socket, and makes the next turn its last.
    pub(in crate::reactor) fn stop_socket(&mut self, id: SocketId) {
        // A callback of the last turn may have bound the socket.
        self.open_socket(id);
        self.call_socket(id, |service, ctx| service.on_stop(ctx));
        if let Some(socket) = self.sources.datagram(id) {
            socket.finish();
        }
        self.after_socket_event(id);
    }

    /// Sends datagrams by a socket that the callback was not about.
    pub(in crate::reactor) fn transmit_by(&mut self, of: SocketId, transmits: Span) {
        let Self { sources, context, batch, recorder, .. } = self;
        let Some(socket) = sources.datagram(of) else {
            recorder.ledger.stale_commands += 1;
            return;
        };
        socket.transmit(batch, context.outbox().other_transmits(), transmits, recorder);
        publish(of, socket, context.directory_mut());
        self.after_socket_event(of);
    }

    /// Connects a socket to another peer.
    pub(in crate::reactor) fn connect_socket(&mut self, of: SocketId, connect: usize) {
        let Self { sources, context, poll, recorder, .. } = self;
        let connect = context.outbox().connects()[connect];
        let Some(socket) = sources.datagram(of) else {
            recorder.ledger.stale_commands += 1;
            return;
        };
        if mem::replace(&mut socket.registered, false) {
            // The descriptor is closed next, and with it the registration, whatever the kernel answers here.
            let _ = poll.registry().deregister(&mut socket.socket);
        }
        let outcome = socket.connect(connect, recorder).and_then(|local| {
            register(poll.registry(), &mut socket.socket, of.into())?;
            socket.registered = true;
            Ok(local)
        });
        // After an error there may be a new socket as well, without an address.
        if let Ok(local) = socket.socket.local_addr()
            && let Some(facts) = context.directory_mut().socket_mut(of)
        {
            facts.local = local;
        }
        socket.note_connect(outcome.map_err(Errno::from));
        publish(of, socket, context.directory_mut());
        self.after_socket_event(of);
    }

    /// After a turn or a command: brings the registration in line, and finds out if the socket needs an alarm or wants a
    /// turn.
    fn after_socket_event(&mut self, id: SocketId) {
        let Some(socket) = self.sources.datagram(id) else { return };
        update_registration(self.poll.registry(), id, socket);
        if socket.backoff.take_request() {
            self.set_alarm(self.now + BACKOFF, Alarm::Retry(id.into()));
        }
        self.sources.enqueue_if_wanted(id);
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
    use std::cell::RefCell;
    use std::net::{SocketAddr, UdpSocket};
    use std::rc::Rc;

    use super::*;
    use crate::reactor::ListenOptions;
    use crate::reactor::source::readiness::Readiness;

    /// Sends two datagrams on each socket, and reports at each drain if the socket is congested.
    struct Drained(SocketAddr, Rc<RefCell<Vec<bool>>>);

    impl DatagramService for Drained {
        fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
            for text in [&b"first"[..], b"second"] {
                ctx.send_to(self.0, text);
            }
        }

        fn on_drain(&mut self, ctx: &mut SocketContext<'_>) {
            self.1.borrow_mut().push(ctx.is_congested());
        }

        fn on_datagram(&mut self, _: &mut DatagramContext<'_>, _: &[u8]) {}
    }

    fn bind(reactor: &mut Reactor, service: impl DatagramService) -> SocketId {
        let service = reactor.add_datagram_service("test", Box::new(service));
        let anywhere = ([127, 0, 0, 1], 0).into();
        reactor.bind_datagram(service, anywhere, &ListenOptions::default()).unwrap().0
    }

    #[test]
    fn a_congested_socket_reports_its_drain() {
        let (peer, drains) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Rc::default());
        let mut reactor = Reactor::new().unwrap();
        let id = bind(&mut reactor, Drained(peer.local_addr().unwrap(), Rc::clone(&drains)));
        let is_congested = |reactor: &mut Reactor| reactor.context.socket(id).unwrap().is_congested();
        // A full send buffer is a matter of the link: the loopback has none.
        reactor.sources.datagram(id).unwrap().set_readiness(Readiness::default());
        reactor.open_socket(id);
        assert!(is_congested(&mut reactor));
        // By a socket that is not at hand, the datagrams wait in the same queue.
        let to = peer.local_addr().unwrap();
        reactor.context.socket(id).unwrap().send_to(to, b"third");
        let owner = reactor.sources.datagram(id).unwrap().service();
        reactor.apply(owner, None, &[]);
        let queued = reactor.sources.datagram(id).unwrap().queued();
        assert_eq!((queued.0, queued.1), (3, reactor.context.socket(id).unwrap().queued()));
        reactor.serve_socket(id);
        assert!(drains.borrow().is_empty() && is_congested(&mut reactor));

        reactor.sources.datagram(id).unwrap().set_readiness(Readiness::WRITABLE_ONLY);
        reactor.serve_socket(id);
        assert!(!is_congested(&mut reactor));
        assert_eq!(*drains.borrow(), [false]);
        let mut buffer = [0; 16];
        for text in [&b"first"[..], b"second", b"third"] {
            let n = peer.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text);
        }
    }

    struct Silent;

    impl DatagramService for Silent {
        fn on_datagram(&mut self, _: &mut DatagramContext<'_>, _: &[u8]) {}
    }

    #[test]
    fn a_failed_registration_is_made_after_a_pause() {
        let mut reactor = Reactor::new().unwrap();
        let id = bind(&mut reactor, Silent);
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
