//! The machinery that Go's netpoller hides, in the open: one thread, one poll loop, a slab of connection states,
//! nonblocking sockets, and a timer wheel for deadlines.
//!
//! A server is a [`Service`] on a [`Reactor`]. The names that it needs are re-exported here:
//!
//! ```no_run
//! use reactor::{Context, ListenOptions, Policy, Reactor, Service};
//!
//! struct Upper;
//!
//! impl Service for Upper {
//!     fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
//!         ctx.send(&input.to_ascii_uppercase());
//!         input.len()
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let mut reactor = Reactor::new()?;
//! let upper = reactor.add_service("upper", Box::new(Upper));
//! reactor.listen(upper, ([127, 0, 0, 1], 0), &ListenOptions::default(), Policy::default())?;
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! | to … | see |
//! |---|---|
//! | listen, dial, adopt a socket | [`Reactor::listen`], [`ServiceContext::dial`], [`Reactor::adopt`] |
//! | answer, answer another connection, all | [`Context::send`], [`ServiceContext::connection`], [`ServiceContext::broadcast`] |
//! | end a connection | [`Context::finish`], [`Context::half_close`], [`Context::reset`] |
//! | hold back a peer | [`Context::is_congested`], [`Context::pause`], [`Context::forward`], [`Context::await_drain`], [`Policy`] |
//! | bound a wait | [`Context::set_timeout`], [`Context::set_deadline`], [`ServiceContext::set_timer`] |
//! | keep state | [`ConnMap`], [`PerConnection`] |
//! | do work that blocks | [`Poster::offload`], [`Receive`] |
//! | stop, reload | [`Reactor::handle_signals`], [`Service::on_stop`], [`Reactor::handle_signal`] |
//! | serve datagrams | [`DatagramService`], [`Reactor::bind_datagram`] |
//! | wait for other descriptors, or inside another loop | [`Reactor::add_source`], [`Reactor::turn_for`] |
//! | test without a socket | [`Probe`] |
//! | count | [`Reactor::ledger`], [`Reactor::report`] |
//!
//! The chapter `docs/library.md` of the repository describes the life of a connection and its ends, and has more rows of this table.
//!
//! The floors, from the bottom; each knows only those below it:
//!
//! | floor | modules | knows |
//! |---|---|---|
//! | 1 | [`addr`], [`buffer`], [`id`], [`limits`], [`timer`] | data structures: no socket, no clock |
//! | 1 | [`resolver`] | the names of hosts, looked up by the system; no loop |
//! | 1 | [`stdio`] | standard streams for a thread that must not wait; no loop |
//! | 2 | [`service`] (the contract), [`protocol`] | bytes in, bytes out |
//! | 3 | [`reactor`](mod@reactor) | sockets and the contract, no protocol |
//! | 3 | [`services`], [`clients`] | the contract and protocols, no socket |
//! | 4 | [`console`] | the standard streams of a client, on threads |
//! | 4 | [`lab`] | everything above, and the other end of each connection |
//! | 4 | `load` (feature `cli`) | everything above: the load generator |
//! | 5 | the `cli` of the binary | everything below |
//!
//! [`reactor`](mod@reactor) and [`services`] never import each other: they meet at the contract.

pub mod addr;
pub mod buffer;
pub mod clients;
pub mod console;
pub mod id;
pub mod lab;
pub mod limits;
#[cfg(feature = "cli")]
pub mod load;
pub mod protocol;
pub mod reactor;
pub mod resolver;
pub mod service;
pub mod services;
pub mod stdio;
pub mod timer;

pub use crate::addr::{Addr, Credentials, ParseAddrError, UnixAddr};
pub use crate::id::{ConnId, ConnMap, DescriptorId, ListenerId, ServiceId, SocketId, SourceId};
pub use crate::limits::{Policy, WhileDraining};
pub use crate::reactor::{
    ConnectionStatus, Handle, Interest, Ledger, ListenOptions, OffloadError, PostError, Poster, Reactor, RunOutcome,
};
pub use crate::resolver::{HostPort, ParseHostPortError, ResolveError};
pub use crate::service::{
    CloseReason, Command, Context, Conversation, DatagramContext, DatagramService, Dial, Errno, PerConnection, Probe,
    Ready, Receive, SentDatagram, Service, ServiceContext, SocketContext, Span, TimerName,
};
pub use crate::timer::{Deadline, Time, Timeout};

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are the examples of the chapter on servers.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Library;
