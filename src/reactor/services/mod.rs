//! The services of a reactor, on streams and on datagrams, in one table: they are added here, and the program finds them
//! again.
//!
//! Owns: the public methods of [`Reactor`] about its services. Must not know: sources, the turn.

mod entry;

use std::any::Any;
use std::io;

pub(super) use self::entry::{AnyService, Entry};

use super::threads::poster::{Poster, Receiver};
use super::{Reactor, ScheduledCall};
use crate::id::ServiceId;
use crate::service::{DatagramService, Receive, Service};

impl Reactor {
    /// Adds a service on streams, whose connections are accepted by a listener or dialed. Logs and reports show `name`.
    ///
    /// # Panics
    /// If the reactor has 65,536 services already.
    pub fn add_service(&mut self, name: &'static str, service: Box<dyn Service>) -> ServiceId {
        let id = self.next_service();
        self.push_service(id, name, AnyService::Stream(service))
    }

    /// Adds a service on datagrams; [`bind_datagram`](Self::bind_datagram) and its siblings give it sockets. Logs and
    /// reports show `name`.
    ///
    /// # Panics
    /// As [`add_service`](Self::add_service).
    pub fn add_datagram_service(&mut self, name: &'static str, service: Box<dyn DatagramService>) -> ServiceId {
        let id = self.next_service();
        self.push_service(id, name, AnyService::Datagram(service))
    }

    /// Adds a service that gets a [`Poster`] to itself: the way back for the threads that work for it.
    ///
    /// ```
    /// use reactor::{Context, Poster, Reactor, Receive, Service, ServiceContext};
    ///
    /// struct Worker(Poster<String>);
    ///
    /// impl Service for Worker {
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         let poster = self.0.clone();
    ///         std::thread::spawn(move || poster.post_blocking("done".to_owned()));
    ///         input.len()
    ///     }
    /// }
    ///
    /// impl Receive<String> for Worker {
    ///     fn on_post(&mut self, _: &mut ServiceContext, message: String) {
    ///         println!("{message}");
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let worker = reactor.add_service_with("worker", Worker);
    /// # let _ = worker;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// As [`add_service`](Self::add_service).
    pub fn add_service_with<S, M>(&mut self, name: &'static str, make: impl FnOnce(Poster<M>) -> S) -> ServiceId
    where
        S: Service + Receive<M>,
        M: Send + 'static,
    {
        let id = self.next_service();
        let service = make(self.mailbox.poster(Receiver::new::<S, M>(id)));
        self.push_service(id, name, AnyService::Stream(Box::new(service)))
    }

    /// Adds a service on datagrams that gets a [`Poster`] to itself, as [`add_service_with`](Self::add_service_with).
    ///
    /// # Panics
    /// As [`add_service`](Self::add_service).
    pub fn add_datagram_service_with<S, M>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(Poster<M>) -> S,
    ) -> ServiceId
    where
        S: DatagramService + Receive<M>,
        M: Send + 'static,
    {
        let id = self.next_service();
        let service = make(self.mailbox.poster(Receiver::new::<S, M>(id)));
        self.push_service(id, name, AnyService::Datagram(Box::new(service)))
    }

    /// Returns the id of the next service.
    fn next_service(&self) -> ServiceId {
        let index = u16::try_from(self.services.len());
        // The services of a program are written in its source, so this number is a mistake there.
        ServiceId::new(self.number, index.expect("at most 65,536 services"))
    }

    fn push_service(&mut self, id: ServiceId, name: &'static str, service: AnyService) -> ServiceId {
        self.services.push(Entry { name, service });
        self.scheduled.push((id, ScheduledCall::Start));
        id
    }

    /// Limits the threads that run the jobs of services ([`Poster::offload`]) to `most`, at least 1. The default is
    /// [`OFFLOAD_THREADS`](crate::limits::OFFLOAD_THREADS). A thread starts when a job finds all others busy. Surplus threads
    /// end after their job.
    pub fn set_offload_threads(&mut self, most: usize) {
        self.mailbox.pool().set_threads(most);
    }

    /// Returns a poster of messages of the type `M` to `service`, whose type is `S`. `None` if the service has another
    /// type or belongs to another reactor.
    ///
    /// A service can receive messages of several types: each has a poster of its own.
    pub fn poster<S, M>(&self, service: ServiceId) -> Option<Poster<M>>
    where
        S: Receive<M> + 'static,
        M: Send + 'static,
    {
        self.service::<S>(service)?;
        Some(self.mailbox.poster(Receiver::new::<S, M>(service)))
    }

    /// Returns a service, whose type is `S`: between two turns, and also when the run has ended. `None` if the service has
    /// another type or belongs to another reactor.
    ///
    /// ```
    /// use reactor::{Context, Reactor, Service};
    ///
    /// #[derive(Default)]
    /// struct Count(usize);
    ///
    /// impl Service for Count {
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         self.0 += input.len();
    ///         input.len()
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let count = reactor.add_service("count", Box::new(Count::default()));
    /// reactor.handle().stop();
    /// reactor.run()?;
    /// assert_eq!(reactor.service::<Count>(count).map(|count| count.0), Some(0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn service<S: Any>(&self, id: ServiceId) -> Option<&S> {
        self.entry(id).ok()?.service.as_any().downcast_ref()
    }

    /// Returns a service for a change; see [`service`](Self::service). Verbs need a callback: post a message for that.
    pub fn service_mut<S: Any>(&mut self, id: ServiceId) -> Option<&mut S> {
        self.entry(id).ok()?;
        self.services[id.index()].service.as_any_mut().downcast_mut()
    }

    fn entry(&self, service: ServiceId) -> io::Result<&Entry> {
        let entry = self.services.get(service.index()).filter(|_| service.reactor() == self.number);
        entry.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the service belongs to another reactor"))
    }

    /// Returns an error for a service of another reactor.
    pub(super) fn check_service(&self, service: ServiceId) -> io::Result<()> {
        self.entry(service).map(drop)
    }

    /// Returns an error for a service that is not one on streams of this reactor.
    pub(super) fn check_stream(&self, service: ServiceId) -> io::Result<()> {
        if self.entry(service)?.service.is_stream() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a service on datagrams owns no connections"))
    }

    /// Returns an error for a service that is not one on datagrams of this reactor.
    pub(super) fn check_datagram(&self, service: ServiceId) -> io::Result<()> {
        if !self.entry(service)?.service.is_stream() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a service on streams owns no datagram sockets"))
    }
}
