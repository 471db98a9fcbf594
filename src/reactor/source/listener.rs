//! A listening socket and its state.
//!
//! Owns: [`Listener`]. Must not know: what becomes of the connections.
//!
//! Invariants:
//! 1. It is accepted from until the kernel says that nobody is waiting; a budget only interrupts that.
//! 2. Connections that have died in the backlog are passed over, but not without end: an error that is said to be one
//!    connection's and comes each time is the listener's.
//! 3. While it rests an alarm is set that ends the rest. The edge is spent: without the alarm it would sleep for ever.

use std::rc::Rc;

use mio::event::Event;
use mio::net::TcpListener;

use crate::id::ServiceId;
use crate::limits::{ACCEPTS, Policy};
use crate::reactor::source::readiness::Readiness;

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What is spoken on its connections.
    pub service: ServiceId,
    /// Its name in logs.
    pub name: &'static str,
    /// What applies to its connections.
    pub policy: Rc<Policy>,
    /// It stands in a ready queue.
    pub queued: bool,
    readiness: Readiness,
    resting: bool,
    /// Connections in a row that were dead when they were to be accepted.
    dead: usize,
    /// An operator has been told that it rests; once is enough.
    told: bool,
}

impl Listener {
    /// A listener on `socket`.
    pub fn new(socket: TcpListener, service: ServiceId, name: &'static str, policy: Policy) -> Self {
        let (policy, readiness) = (Rc::new(policy), Readiness::default());
        Self { socket, service, name, policy, queued: false, readiness, resting: false, dead: 0, told: false }
    }

    /// What is known of its readiness.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Adds what an event says.
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Whether somebody may be waiting to be accepted, and it is not resting.
    pub fn wants_turn(&self) -> bool {
        self.readiness.readable() && !self.resting
    }

    /// Nobody is waiting any more.
    pub fn blocked(&mut self) {
        self.dead = 0;
        self.readiness.read_blocked();
    }

    /// A connection was dead when it was to be accepted. Says whether the next one may be well: not after as many as are
    /// accepted in a turn. Somebody who forbids to accept (a security module, accept(2): EPERM) forbids it for each.
    pub fn may_go_on(&mut self) -> bool {
        self.dead += 1;
        self.dead < ACCEPTS
    }

    /// Nothing can be accepted for a while. The caller sets the alarm. Says whether that is news.
    pub fn rest(&mut self) -> bool {
        self.resting = true;
        self.dead = 0;
        !std::mem::replace(&mut self.told, true)
    }

    /// A connection has been accepted. Says whether that is news, after a rest.
    pub fn recovered(&mut self) -> bool {
        self.dead = 0;
        std::mem::take(&mut self.told)
    }

    /// The alarm has rung.
    pub fn wake(&mut self) {
        self.resting = false;
    }
}
