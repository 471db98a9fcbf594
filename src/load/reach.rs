//! The address of a server with several addresses: the first that can be reached.
//!
//! Owns: [`reach`]. Must not know: the protocol, the run.
//!
//! All connections of a run go to one address, so that a run measures one server. Before the run, the addresses are tried
//! in turn. TCP: an address is reached when a dial succeeds; the connection is finished at once. UDP: when a datagram is
//! answered, because UDP has no handshake. If no address answers, the run measures the first that has not refused.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::connection::DIAL_TIMEOUT;
use super::{Error, Kind};
use crate::addr::Addr;
use crate::clients::Dialer;
use crate::id::SocketId;
use crate::limits::Policy;
use crate::reactor::{ListenOptions, Reactor};
use crate::service::{
    CloseReason, Context, DatagramContext, DatagramService, Errno, Service, ServiceContext, SocketContext, TimerName,
};

/// How long an address of UDP may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The datagram that asks an address for an answer.
const PROBE: [u8; 8] = *b"reactor\n";

/// The result, once it is known.
type Reached = Rc<RefCell<Option<Result<Addr, CloseReason>>>>;

/// Returns the first address of `addrs` that can be reached; `None` if the reactor is stopped before.
///
/// # Errors
/// [`Error::Unreachable`] with the reason of the last address.
pub fn reach(reactor: &mut Reactor, kind: Kind, addrs: Vec<Addr>) -> Result<Option<Addr>, Error> {
    let reached = Reached::default();
    if kind == Kind::EchoUdp {
        let next = addrs.iter().filter_map(Addr::as_socket).collect();
        let probe = DatagramProbe { socket: None, next, current: None, silent: None, reached: Rc::clone(&reached) };
        let service = reactor.add_datagram_service("reach", Box::new(probe));
        reactor
            .open_datagram(service, &ListenOptions::default())
            .map_err(|error| Error::Unreachable(CloseReason::Unreachable(error.into())))?;
    } else {
        let dialer = Dialer::new(DIAL_TIMEOUT, None, Policy::default());
        reactor.add_service("reach", Box::new(StreamProbe { addrs, dialer, reached: Rc::clone(&reached) }));
    }
    while reached.borrow().is_none() && reactor.ended().is_none() {
        reactor.turn().map_err(Error::Reactor)?;
    }
    reached.take().transpose().map_err(Error::Unreachable)
}

/// Dials the addresses in turn.
struct StreamProbe {
    addrs: Vec<Addr>,
    dialer: Dialer,
    reached: Reached,
}

impl StreamProbe {
    fn note_failure(&self, reason: Option<CloseReason>) {
        if let Some(reason) = reason {
            self.reached.replace(Some(Err(reason)));
        }
    }
}

impl Service for StreamProbe {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.dialer.begin(ctx.now());
        let failed = self.dialer.dial(ctx, std::mem::take(&mut self.addrs));
        self.note_failure(failed);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        self.reached.replace(Some(Ok(ctx.peer_addr())));
        ctx.finish();
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let failed = self.dialer.on_dial_error(ctx, reason);
        self.note_failure(failed);
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.abort();
    }
}

/// Sends a datagram to the addresses in turn, each time from a new socket.
struct DatagramProbe {
    socket: Option<SocketId>,
    next: VecDeque<SocketAddr>,
    current: Option<SocketAddr>,
    /// The first address that has neither answered nor refused.
    silent: Option<SocketAddr>,
    reached: Reached,
}

impl DatagramProbe {
    /// Tries the next address. `reason` is that of the current one.
    fn advance(&mut self, ctx: &mut SocketContext<'_>, reason: CloseReason) {
        self.current = self.next.pop_front();
        match (self.current, self.silent) {
            (Some(to), _) => ctx.connect(to, None),
            (None, Some(silent)) => self.finish(ctx, Ok(silent)),
            (None, None) => self.finish(ctx, Err(reason)),
        }
    }

    fn finish(&mut self, ctx: &mut SocketContext<'_>, result: Result<SocketAddr, CloseReason>) {
        ctx.cancel_timer(TimerName(0));
        self.current = None;
        self.reached.borrow_mut().get_or_insert(result.map(Addr::from));
    }
}

impl DatagramService for DatagramProbe {
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.socket = Some(ctx.id());
        self.advance(ctx, CloseReason::Unreachable(Errno(libc::EADDRNOTAVAIL)));
    }

    fn on_connect(&mut self, ctx: &mut SocketContext<'_>, outcome: Result<SocketAddr, Errno>) {
        match outcome {
            Ok(_) => {
                ctx.send(&PROBE);
                let due = ctx.now() + PROBE_TIMEOUT;
                ctx.set_timer(TimerName(0), due, Duration::ZERO);
            }
            Err(errno) => self.advance(ctx, CloseReason::Unreachable(errno)),
        }
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, _payload: &[u8]) {
        if let Some(to) = self.current {
            self.finish(ctx, Ok(to));
        }
    }

    fn on_error(&mut self, ctx: &mut SocketContext<'_>, errno: Errno) {
        if self.current.is_some() {
            self.advance(ctx, CloseReason::Unreachable(errno));
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        let Some(ctx) = &mut self.socket.and_then(|socket| ctx.socket(socket)) else { return };
        self.silent = self.silent.or(self.current);
        self.advance(ctx, CloseReason::Unreachable(Errno(libc::ETIMEDOUT)));
    }
}
