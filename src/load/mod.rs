//! The load generator: clients of the services, on the same reactor, that measure.
//!
//! Owns: the start of a run and its result ([`run()`]). Must not know: the command line, the terminal. This module prints
//! nothing; an [`Observer`] receives the [`Progress`].
//!
//! ```text
//!     plan           the load on a server               error     why a run has no result
//!     run            the state that all clients share: clock, window, outcomes
//!     progress       observes the run and ends it; nothing else stops the reactor
//!     connection     persistent connections: a pool, a dial queue, the state of each
//!     protocol       bytes: echo, chat, http; services of their own: time, udp
//!     resolve        the addresses of a server that has a name
//!     reach          the address of a server that has several
//!     schedule       when requests are due              stats     the counters
//!     report         the result, in words and JSON      plot      lines on a plane, as SVG
//! ```
//!
//! How latency is measured: the run's clock is read when the reactor delivers input, once per read. Once per turn would be
//! too seldom: a turn may hold fifty exchanges, and the last would count as early as the first. The latency of a request
//! begins with the clock reading after which the reactor got the request, which it writes as soon as the callback has
//! returned. In an open loop the latency begins when the request was due (`schedule`). The latency ends with the clock
//! reading after which the answer was decoded. In between lie the kernel, the server and the queue of this process, as for
//! any client.

mod connection;
mod error;
mod plan;
pub mod plot;
mod progress;
mod protocol;
mod reach;
mod report;
mod resolve;
mod run;
mod schedule;
mod stats;

use std::cell::RefCell;
use std::rc::Rc;

use rustix::process::{Resource, getrlimit, setrlimit};

pub use self::error::Error;
pub use self::plan::{Kind, Plan, PlanError};
pub use self::progress::{Observer, Progress};
pub use self::report::{End, Report};
pub use self::resolve::resolve;
pub use self::run::SETUP_TIMEOUT;
pub use self::stats::{Deliveries, Stats};

use self::connection::ConnectionPool;
use self::progress::Monitor;
use self::protocol::{chat, echo, http, time, udp};
use self::run::Run;
use crate::reactor::{ListenOptions, Reactor};
use crate::service::{CloseReason, Errno, Service};

/// Runs `plan` and returns its result. `observer` receives the progress from the first dial on. The first SIGINT or SIGTERM
/// ends the run early.
///
/// # Errors
/// The reason why nothing could be measured.
pub fn run(plan: &Plan, observer: impl Observer + 'static) -> Result<Report, Error> {
    let mut plan = plan.clone();
    let mut reactor = Reactor::new().map_err(Error::Reactor)?;
    reactor.handle_signals().map_err(Error::Reactor)?;
    let run = Rc::new(RefCell::new(Run::new(&plan)));
    let observer = Rc::new(RefCell::new(observer));
    reactor.add_service("monitor", Box::new(Monitor::new(&run, &observer)));
    reactor.report_to(move |text| observer.borrow_mut().on_report(text));
    if !plan.fallbacks.is_empty() {
        let addrs = std::iter::once(plan.to.clone()).chain(plan.fallbacks.drain(..)).collect();
        let interrupted = Error::Interrupted { served: 0, connections: plan.connections };
        plan.to = reach::reach(&mut reactor, plan.kind, addrs)?.ok_or(interrupted)?;
        // The clock of the run starts with its first connection.
        run.replace(Run::new(&plan));
    }
    add_clients(&mut reactor, &plan, &run)?;
    reactor.run().map_err(Error::Reactor)?;
    // The reactor owns the services, which count their last requests when they are dropped.
    drop(reactor);
    run.borrow_mut().report(&plan)
}

/// Adds the clients of `plan`.
fn add_clients(reactor: &mut Reactor, plan: &Plan, run: &Rc<RefCell<Run>>) -> Result<(), Error> {
    let service: Box<dyn Service> = match plan.kind {
        Kind::Echo => Box::new(ConnectionPool::new(plan, run, echo::Echo::new(plan))),
        Kind::Chat => Box::new(ConnectionPool::new(plan, run, chat::Chat::new(plan))),
        Kind::Http => Box::new(ConnectionPool::new(plan, run, http::Http::new(plan))),
        Kind::Time => Box::new(time::Time::new(plan, run)),
        Kind::EchoUdp => {
            let unreachable = |errno| Error::Unreachable(CloseReason::Unreachable(errno));
            let to = plan.to.as_socket().ok_or_else(|| unreachable(Errno(libc::EAFNOSUPPORT)))?;
            let clients = Box::new(udp::Clients::new(plan, run));
            let service = reactor.add_datagram_service(plan.kind.name(), clients);
            for _ in 0..plan.connections {
                let connected = reactor.connect_datagram(service, to, None, &ListenOptions::default());
                connected.map_err(|error| unreachable(error.into()))?;
            }
            return Ok(());
        }
    };
    reactor.add_service(plan.kind.name(), service);
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one, for this process and its children: the usual soft limit is 1,024. A
/// program calls this before a [`run()`] with many connections: the dials past the limit fail and are counted as errors.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
