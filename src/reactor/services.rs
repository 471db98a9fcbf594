//! The services of a reactor: they are added here, and the program finds them again.
//!
//! Owns: the public methods of [`Reactor`] about its services. Must not know: sources, the turn.

use std::any::Any;
use std::io;

use super::poster::{Poster, Receiver};
use super::{Reactor, ScheduledCall};
use crate::id::{Addressee, ServiceId, SocketId};
use crate::service::{DatagramService, Receive, Service, SocketContext};

impl Reactor {
    /// Adds a service, whose connections are accepted by a listener or dialed. Logs and reports show `name`.
    ///
    /// # Panics
    /// If the reactor has 65,536 services already.
    pub fn add_service(&mut self, name: &'static str, service: Box<dyn Service>) -> ServiceId {
        let id = self.next_service();
        self.push_service(id, name, service)
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
        let service = make(self.mailbox.poster(Receiver::service::<S, M>(id)));
        self.push_service(id, name, Box::new(service))
    }

    /// Returns the id of the next service.
    fn next_service(&self) -> ServiceId {
        let index = u16::try_from(self.services.len());
        // The services of a program are written in its source, so this number is a mistake there.
        ServiceId::new(self.number, index.expect("at most 65,536 services"))
    }

    fn push_service(&mut self, id: ServiceId, name: &'static str, service: Box<dyn Service>) -> ServiceId {
        self.services.push((name, service));
        self.scheduled.push((Addressee::Service(id), ScheduledCall::Start));
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
        S: Service + Receive<M>,
        M: Send + 'static,
    {
        self.service::<S>(service)?;
        Some(self.mailbox.poster(Receiver::service::<S, M>(service)))
    }

    /// Returns a poster of messages of the type `M` to the service of a datagram socket, whose type is `S`. `None` if the
    /// service has another type or the socket is gone. A message to a socket that is gone by then is dropped.
    pub fn socket_poster<S, M>(&mut self, socket: SocketId) -> Option<Poster<M>>
    where
        S: DatagramService + Receive<M, SocketContext>,
        M: Send + 'static,
    {
        let service: &dyn Any = self.sources.datagram(socket)?.service();
        service.is::<S>().then(|| self.mailbox.poster(Receiver::socket::<S, M>(socket)))
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
    pub fn service<S: Service>(&self, id: ServiceId) -> Option<&S> {
        self.check_service(id).ok()?;
        let service: &dyn Any = self.services[id.index()].1.as_ref();
        service.downcast_ref()
    }

    /// Returns a service for a change; see [`service`](Self::service). Verbs need a callback: post a message for that.
    pub fn service_mut<S: Service>(&mut self, id: ServiceId) -> Option<&mut S> {
        self.check_service(id).ok()?;
        let service: &mut dyn Any = self.services[id.index()].1.as_mut();
        service.downcast_mut()
    }

    /// Returns an error for a service that is not of this reactor.
    pub(super) fn check_service(&self, service: ServiceId) -> io::Result<()> {
        if service.reactor() == self.number && service.index() < self.services.len() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the service belongs to another reactor"))
        }
    }
}
