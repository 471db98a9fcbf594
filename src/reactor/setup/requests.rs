//! Sources that callbacks have requested, and closed.
//!
//! Owns: the application of the commands that make and close sources, and [`RequestOutcome`], which a service learns at the
//! end of the turn. Must not know: why a service makes a request.

use std::mem;

use log::error;

use crate::addr::Addr;
use crate::id::{ConnId, ListenerId, ServiceId, SocketId, SourceId};
use crate::reactor::Reactor;
use crate::service::{Bind, CloseReason, Errno, Listen};

/// The outcome of a request that was known at once.
pub(in crate::reactor) enum RequestOutcome {
    /// A dial has failed, without a socket or a route.
    DialFailed(ConnId, CloseReason),
    /// A listener was made, or has failed.
    Listening(ListenerId, Result<Addr, Errno>),
    /// A datagram socket could not be bound.
    BindFailed(SocketId, Errno),
}

impl Reactor {
    /// Returns true if `service` has the kind that owns a new source. Otherwise logs an error and frees the id: the source
    /// would have no callbacks.
    fn may_own(&mut self, service: ServiceId, id: SourceId, wants_stream: bool, request: &str) -> bool {
        let entry = &self.services[service.index()];
        let may_own = entry.service.is_stream() == wants_stream;
        if !may_own {
            let kind = if wants_stream { "datagrams" } else { "streams" };
            error!("{}: a service on {kind} has no callbacks for this {request}: dropped", entry.name);
            self.context.directory_mut().remove(id);
        }
        may_own
    }

    /// Dials on behalf of a service, which gets `on_dial_error` if that fails at once.
    pub(in crate::reactor) fn dial_for(&mut self, service: ServiceId, id: ConnId, dial: usize) {
        if !self.may_own(service, id.into(), true, "dial") {
            return;
        }
        if self.stop.is_draining() {
            self.outcomes.push((service, RequestOutcome::DialFailed(id, CloseReason::Aborted)));
            return;
        }
        let dial = self.context.outbox().dials()[dial].clone();
        if let Err(error) = self.dial_at(service, id, &dial, self.now) {
            let reason = CloseReason::Unreachable(error.into());
            self.outcomes.push((service, RequestOutcome::DialFailed(id, reason)));
        }
    }

    /// Listens on behalf of a service, which gets `on_listening`.
    pub(in crate::reactor) fn listen_for(&mut self, service: ServiceId, id: ListenerId, listen: usize) {
        if !self.may_own(service, id.into(), true, "listener") {
            return;
        }
        let Listen { addr, options, policy } = self.context.outbox().listens()[listen].clone();
        let outcome = if self.stop.is_draining() {
            Err(Errno(libc::ECANCELED))
        } else {
            self.listen_at(service, id, &addr, &options, policy).map_err(Errno::from)
        };
        if outcome.is_err() {
            self.context.directory_mut().remove(id.into());
        }
        self.outcomes.push((service, RequestOutcome::Listening(id, outcome)));
    }

    /// Binds a datagram socket on behalf of a service, which gets `on_open` or `on_open_error`.
    pub(in crate::reactor) fn bind_for(&mut self, service: ServiceId, id: SocketId, bind: usize) {
        if !self.may_own(service, id.into(), false, "datagram socket") {
            return;
        }
        let Bind { addr, options } = self.context.outbox().binds()[bind].clone();
        let outcome = if self.stop.is_draining() {
            Err(Errno(libc::ECANCELED))
        } else {
            self.bind_at(service, id, addr, &options).map_err(Errno::from)
        };
        if let Err(errno) = outcome {
            self.context.directory_mut().remove(id.into());
            self.outcomes.push((service, RequestOutcome::BindFailed(id, errno)));
        }
    }

    /// Closes a listener or a datagram socket on behalf of a service.
    pub(in crate::reactor) fn close_for(&mut self, id: SourceId) {
        if !self.close_source(id) {
            self.recorder.ledger.stale_commands += 1;
        }
    }

    /// Reports the outcomes of requests. The outcome of a request by such a callback is reported next turn, or the loop
    /// could go on for ever.
    pub(in crate::reactor) fn report_outcomes(&mut self) {
        for (service, outcome) in mem::take(&mut self.outcomes) {
            match outcome {
                RequestOutcome::DialFailed(id, reason) => {
                    self.recorder.ledger.count_close(reason);
                    self.call_about_end(service, id, |service, ctx| service.on_dial_error(ctx, reason));
                }
                // The service has closed the listener since.
                RequestOutcome::Listening(id, Ok(_)) if self.sources.listener(id).is_none() => {}
                RequestOutcome::Listening(id, outcome) => self.call_service(service, |service, ctx| {
                    if let Some(service) = service.stream() {
                        service.on_listening(ctx, id, outcome);
                    }
                }),
                RequestOutcome::BindFailed(id, errno) => self.call_service(service, |service, ctx| {
                    if let Some(service) = service.datagram() {
                        service.on_open_error(ctx, id, errno);
                    }
                }),
            }
        }
    }
}
