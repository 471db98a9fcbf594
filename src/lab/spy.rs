//! A service that tells the scenario what it is told, and leaves the rest to another service.
//!
//! Owns: [`Witness`] and what it hands over, [`News`]. Must not know: any scenario.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::fixture::STEP_TIMEOUT;
use super::transcript::{Error, Result};
use crate::id::ConnId;
use crate::service::{CloseReason, Context, DialName, Service, ServiceContext, TimerName};
use crate::timer::{Deadline, Time};

/// What a service has been told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Told {
    /// `on_open`, or `on_dialed`.
    Open,
    /// `on_dial_error`.
    DialError(CloseReason),
    /// `on_data`, with so many bytes.
    Bytes(usize),
    /// `on_eof`.
    Eof,
    /// `on_deadline`.
    Deadline(Deadline),
    /// `on_close`.
    Close(CloseReason),
}

/// What a service has been told, when, and about whom.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// The turn's time.
    pub at: Time,
    /// The connection; none for a dial that has failed.
    pub id: Option<ConnId>,
    /// What.
    pub what: Told,
}

/// A service that is overheard.
#[derive(Debug)]
pub struct Witness<S> {
    service: S,
    news: Sender<News>,
}

/// Where the news arrives.
#[derive(Debug)]
pub struct Ear(Receiver<News>);

impl<S: Service> Witness<S> {
    /// Overhears `service`.
    pub fn of(service: S) -> (Self, Ear) {
        let (news, ear) = channel();
        (Self { service, news }, Ear(ear))
    }

    fn tell(&self, ctx: &Context<'_>, what: Told) {
        // A scenario that is gone does not listen any more.
        let _ = self.news.send(News { at: ctx.now(), id: Some(ctx.id()), what });
    }
}

impl<S: Service> Service for Witness<S> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.service.on_start(ctx);
    }

    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.tell(ctx, Told::Open);
        self.service.on_open(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, dial: DialName) {
        self.tell(ctx, Told::Open);
        self.service.on_dialed(ctx, dial);
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        let _ = self.news.send(News { at: ctx.now(), id: None, what: Told::DialError(reason) });
        self.service.on_dial_error(ctx, dial, reason);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.tell(ctx, Told::Bytes(input.len()));
        self.service.on_data(ctx, input)
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        self.tell(ctx, Told::Eof);
        self.service.on_eof(ctx, rest);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        self.service.on_drain(ctx);
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        self.tell(ctx, Told::Deadline(which));
        self.service.on_deadline(ctx, which);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        self.service.on_timer(ctx, timer);
    }

    fn on_post(&mut self, ctx: &mut ServiceContext, message: Box<dyn Any + Send>) {
        self.service.on_post(ctx, message);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.service.on_stop(ctx);
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let _ = self.news.send(News { at: ctx.now(), id: Some(id), what: Told::Close(reason) });
        self.service.on_close(ctx, id, reason);
    }
}

impl Ear {
    /// The next news that `wanted` takes; what comes before it is not kept.
    pub fn hear<T>(&self, what: &str, mut wanted: impl FnMut(&News) -> Option<T>) -> Result<T> {
        loop {
            let news = self.0.recv_timeout(STEP_TIMEOUT);
            let news = news.map_err(|_| Error::new(format!("the service was never told: {what}")))?;
            if let Some(found) = wanted(&news) {
                return Ok(found);
            }
        }
    }

    /// The next connection.
    pub fn opened(&self) -> Result<ConnId> {
        self.hear("a connection is open", |news| news.id.filter(|_| news.what == Told::Open))
    }

    /// The end of a connection: when, and why.
    pub fn closed(&self, id: ConnId) -> Result<(Time, CloseReason)> {
        self.hear("a connection is closed", |news| match news.what {
            Told::Close(reason) if news.id == Some(id) => Some((news.at, reason)),
            _ => None,
        })
    }

    /// The end of a dial that has failed: when, and why.
    pub fn failed(&self) -> Result<(Time, CloseReason)> {
        self.hear("a dial has failed", |news| match news.what {
            Told::DialError(reason) => Some((news.at, reason)),
            _ => None,
        })
    }

    /// Everything that has been told by now.
    pub fn so_far(&self) -> Vec<News> {
        self.0.try_iter().collect()
    }
}
