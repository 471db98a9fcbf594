//! A listening socket and its state.
//!
//! Owns: [`Listener`]. Must not know: what becomes of the connections.
//!
//! Invariants:
//! 1. Connections are accepted until accept(2) returns EAGAIN. A budget only interrupts that.
//! 2. Dead connections in the backlog are skipped, up to a bound: an error of one connection that comes each time is an
//!    error of the listener.
//! 3. During a back-off an alarm is set. The edge is spent: without the alarm the listener would sleep for ever.

use std::rc::Rc;

use mio::event::Event;

use super::backoff::Backoff;
use super::readiness::Readiness;
use crate::addr::Addr;
use crate::id::ServiceId;
use crate::limits::{ACCEPTS, Policy};
use crate::reactor::sys::stream::ListenSocket;

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: ListenSocket,
    /// The local address of its connections, if they all have the same. Connections of a wildcard address have not, nor
    /// may those of a socket that the program has made.
    pub local: Option<Rc<Addr>>,
    /// The service of its connections.
    pub service: ServiceId,
    /// Its name in logs.
    pub name: &'static str,
    /// The policy of its connections.
    pub policy: Rc<Policy>,
    /// Its pause when descriptors or memory are used up.
    pub backoff: Backoff,
    readiness: Readiness,
    /// Connections in a row that were dead in the backlog.
    dead: usize,
    /// Open connections that the listener has accepted.
    open: usize,
    /// The most of them at a time.
    pub max_connections: usize,
}

impl Listener {
    /// Returns a listener on `socket`.
    pub fn new(socket: ListenSocket, service: ServiceId, name: &'static str, policy: Policy) -> Self {
        let (policy, readiness) = (Rc::new(policy), Readiness::default());
        Self {
            socket,
            local: None,
            service,
            name,
            policy,
            backoff: Backoff::Off,
            readiness,
            dead: 0,
            open: 0,
            max_connections: usize::MAX,
        }
    }

    /// Returns the known readiness.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Records the readiness that an event announces.
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Returns true if a connection may wait in the backlog and the listener is not backing off.
    pub fn wants_turn(&self) -> bool {
        self.readiness.readable() && !self.backoff.is_pausing()
    }

    /// The backlog is empty.
    pub fn blocked(&mut self) {
        self.dead = 0;
        self.readiness.read_blocked();
    }

    /// A connection was dead in the backlog. Returns true if the next one may be well: for [`ACCEPTS`] connections in a row.
    /// A security module that forbids accept(2) (EPERM) forbids it for each.
    pub fn skip_dead(&mut self) -> bool {
        self.dead += 1;
        self.dead < ACCEPTS
    }

    /// accept(2) cannot succeed for a while. Returns true if the operator is to be warned.
    pub fn back_off(&mut self) -> bool {
        self.dead = 0;
        self.backoff.begin()
    }

    /// Returns true if a further connection is above the limit of the listener.
    pub fn is_full(&self) -> bool {
        self.open >= self.max_connections
    }

    /// An accepted connection becomes a source.
    pub fn admitted(&mut self) {
        self.open += 1;
    }

    /// A connection of the listener was closed.
    pub fn released(&mut self) {
        self.open -= 1;
    }

    /// A connection was accepted. Returns true if the listener had backed off before.
    pub fn accepted(&mut self) -> bool {
        self.dead = 0;
        self.backoff.succeeded()
    }
}
