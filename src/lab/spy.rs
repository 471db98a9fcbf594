//! A service that reports each of its callbacks to the scenario and passes the call on to another service.
//!
//! Owns: [`SpyService`] and the [`Event`]s that it reports. Must not know: any scenario.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::fixture::STEP_TIMEOUT;
use super::transcript::{Error, Result};
use crate::id::ConnId;
use crate::service::{CloseReason, Context, Receive, Service, ServiceContext, TimerName};
use crate::timer::{Deadline, Time};

/// A callback of a service.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Callback {
    /// `on_open` or `on_dialed`.
    Open,
    /// `on_dial_error`.
    DialError(CloseReason),
    /// `on_data`, with the length of its input in bytes.
    Data(usize),
    /// `on_eof`.
    Eof,
    /// `on_deadline`.
    Deadline(Deadline),
    /// `on_close`.
    Close(CloseReason),
}

/// One callback: its time and its connection.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The turn's time.
    pub at: Time,
    /// The connection.
    pub id: Option<ConnId>,
    /// The callback.
    pub callback: Callback,
}

/// A service whose callbacks are reported.
#[derive(Debug)]
pub struct SpyService<S> {
    service: S,
    events: Sender<Event>,
}

/// The scenario's end of the reports.
#[derive(Debug)]
pub struct Events(Receiver<Event>);

impl<S: Service> SpyService<S> {
    /// Reports the callbacks of `service` to the returned [`Events`].
    pub fn new(service: S) -> (Self, Events) {
        let (events, receiver) = channel();
        (Self { service, events }, Events(receiver))
    }

    fn report(&self, ctx: &ServiceContext, id: Option<ConnId>, callback: Callback) {
        // The send fails once the scenario has dropped its end.
        let _ = self.events.send(Event { at: ctx.now(), id, callback });
    }
}

impl<S: Service> Service for SpyService<S> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.service.on_start(ctx);
    }

    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.report(ctx, Some(ctx.id()), Callback::Open);
        self.service.on_open(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        self.report(ctx, Some(ctx.id()), Callback::Open);
        self.service.on_dialed(ctx);
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        self.report(ctx, Some(ctx.id()), Callback::DialError(reason));
        self.service.on_dial_error(ctx, reason);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.report(ctx, Some(ctx.id()), Callback::Data(input.len()));
        self.service.on_data(ctx, input)
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        self.report(ctx, Some(ctx.id()), Callback::Eof);
        self.service.on_eof(ctx, rest);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        self.service.on_drain(ctx);
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        self.report(ctx, Some(ctx.id()), Callback::Deadline(which));
        self.service.on_deadline(ctx, which);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        self.service.on_timer(ctx, timer);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.service.on_stop(ctx);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        self.report(ctx, Some(id), Callback::Close(reason));
        self.service.on_close(ctx, reason);
    }
}

impl<S: Service + Receive<M>, M> Receive<M> for SpyService<S> {
    fn on_post(&mut self, ctx: &mut ServiceContext, message: M) {
        self.service.on_post(ctx, message);
    }
}

impl Events {
    /// Waits for the next event that `wanted` accepts; the events before it are discarded.
    ///
    /// # Errors
    /// If no such event comes within [`STEP_TIMEOUT`] of the one before; `what` names it in the message.
    pub fn wait_for<T>(&self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        loop {
            let event = self.0.recv_timeout(STEP_TIMEOUT);
            let event = event.map_err(|_| Error::timeout(what))?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
        }
    }

    /// Waits for the next connection to open.
    pub fn next_open(&self) -> Result<ConnId> {
        self.wait_for("a connection opens", |event| event.id.filter(|_| event.callback == Callback::Open))
    }

    /// Waits for the end of connection `id`; returns its time and reason.
    pub fn next_close(&self, id: ConnId) -> Result<(Time, CloseReason)> {
        self.wait_for("a connection closes", |event| match event.callback {
            Callback::Close(reason) if event.id == Some(id) => Some((event.at, reason)),
            _ => None,
        })
    }

    /// Waits for the next dial to fail; returns its time and reason.
    pub fn next_dial_error(&self) -> Result<(Time, CloseReason)> {
        self.wait_for("a dial fails", |event| match event.callback {
            Callback::DialError(reason) => Some((event.at, reason)),
            _ => None,
        })
    }

    /// Takes the events that have arrived, without waiting.
    pub fn received(&self) -> Vec<Event> {
        self.0.try_iter().collect()
    }
}
