//! One row of the table of services: a service on streams or on datagrams.
//!
//! Owns: [`Entry`] and [`AnyService`], with the callbacks that both kinds have. Must not know: sources, the turn.

use std::any::Any;

use crate::id::DescriptorId;
use crate::service::{DatagramService, Ready, Service, ServiceContext, TimerName};

/// A service with its name.
pub struct Entry {
    /// The name in logs and reports.
    pub name: &'static str,
    /// The service.
    pub service: AnyService,
}

/// A service of either kind.
pub enum AnyService {
    /// A service on streams: it owns connections and listeners.
    Stream(Box<dyn Service>),
    /// A service on datagrams: it owns datagram sockets.
    Datagram(Box<dyn DatagramService>),
}

impl AnyService {
    /// Returns the service if it is one on streams.
    #[inline]
    pub fn stream(&mut self) -> Option<&mut dyn Service> {
        match self {
            AnyService::Stream(service) => Some(service.as_mut()),
            AnyService::Datagram(_) => None,
        }
    }

    /// Returns the service if it is one on datagrams.
    #[inline]
    pub fn datagram(&mut self) -> Option<&mut dyn DatagramService> {
        match self {
            AnyService::Datagram(service) => Some(service.as_mut()),
            AnyService::Stream(_) => None,
        }
    }

    /// Returns true for a service on streams.
    pub fn is_stream(&self) -> bool {
        matches!(self, AnyService::Stream(_))
    }

    /// Returns the service, whose type the caller knows.
    pub fn as_any(&self) -> &dyn Any {
        match self {
            AnyService::Stream(service) => service.as_ref(),
            AnyService::Datagram(service) => service.as_ref(),
        }
    }

    /// Returns the service for a change.
    pub fn as_any_mut(&mut self) -> &mut dyn Any {
        match self {
            AnyService::Stream(service) => service.as_mut(),
            AnyService::Datagram(service) => service.as_mut(),
        }
    }

    /// Calls `on_start`.
    pub fn on_start(&mut self, ctx: &mut ServiceContext) {
        match self {
            AnyService::Stream(service) => service.on_start(ctx),
            AnyService::Datagram(service) => service.on_start(ctx),
        }
    }

    /// Calls `on_timer`.
    pub fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match self {
            AnyService::Stream(service) => service.on_timer(ctx, timer),
            AnyService::Datagram(service) => service.on_timer(ctx, timer),
        }
    }

    /// Calls `on_turn`.
    pub fn on_turn(&mut self, ctx: &mut ServiceContext) {
        match self {
            AnyService::Stream(service) => service.on_turn(ctx),
            AnyService::Datagram(service) => service.on_turn(ctx),
        }
    }

    /// Calls `on_ready`.
    pub fn on_ready(&mut self, ctx: &mut ServiceContext, id: DescriptorId, ready: Ready) {
        match self {
            AnyService::Stream(service) => service.on_ready(ctx, id, ready),
            AnyService::Datagram(service) => service.on_ready(ctx, id, ready),
        }
    }

    /// Calls `on_signal`.
    pub fn on_signal(&mut self, ctx: &mut ServiceContext, signal: i32) {
        match self {
            AnyService::Stream(service) => service.on_signal(ctx, signal),
            AnyService::Datagram(service) => service.on_signal(ctx, signal),
        }
    }

    /// Calls `on_stopping`.
    pub fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        match self {
            AnyService::Stream(service) => service.on_stopping(ctx),
            AnyService::Datagram(service) => service.on_stopping(ctx),
        }
    }
}
