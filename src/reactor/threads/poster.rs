//! Typed messages of other threads to one service.
//!
//! Owns: [`Poster`], [`PostError`], and the way of a message through the mailbox. Must not know: the meaning of a message.
//!
//! Invariants:
//! 1. A message has the type that its receiver takes: another type does not compile.
//! 2. A message that was not accepted comes back to its sender.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError};

use super::handle::Handle;
use super::pool::{Kind, OffloadError, log_panic};
use crate::id::ServiceId;
use crate::resolver::{HostPort, ResolveError};
use crate::service::{Receive, ServiceContext};

/// A message in the mailbox.
pub(in crate::reactor) type Message = Box<dyn Any + Send>;

/// Calls `on_post` of a service, whose type this function knows.
type Deliver = fn(&mut dyn Any, &mut ServiceContext, Message);

/// The receiver of a message, and the call that delivers the message.
#[derive(Clone, Copy)]
pub(in crate::reactor) struct Receiver {
    /// The service.
    pub service: ServiceId,
    /// The call.
    pub deliver: Deliver,
}

impl Receiver {
    /// The service `id`, which is an `S`.
    pub fn new<S: Receive<M> + 'static, M: Send + 'static>(id: ServiceId) -> Self {
        Self { service: id, deliver: deliver::<S, M> }
    }
}

/// Delivers a message. The types are those that the receiver was made with.
fn deliver<S: Receive<M> + 'static, M: 'static>(service: &mut dyn Any, ctx: &mut ServiceContext, message: Message) {
    match (service.downcast_mut::<S>(), message.downcast()) {
        (Some(service), Ok(message)) => service.on_post(ctx, *message),
        _ => debug_assert!(false, "a receiver is made for the type of its service"),
    }
}

/// One message under way.
pub(in crate::reactor) struct Post {
    /// The receiver.
    pub to: Receiver,
    /// The message.
    pub message: Message,
}

/// Posts messages of the type `M` to one service: the way back for a thread that works for it. Cheap to clone.
///
/// A service gets its own poster from [`Reactor::add_service_with`](crate::reactor::Reactor::add_service_with), and
/// receives the messages in [`Receive::on_post`].
pub struct Poster<M> {
    handle: Handle,
    sender: SyncSender<Post>,
    to: Receiver,
    messages: PhantomData<fn(M)>,
}

impl<M: Send + 'static> Poster<M> {
    /// Returns a poster to the receiver `to`, which must take messages of the type `M`.
    pub(in crate::reactor) fn new(handle: Handle, sender: SyncSender<Post>, to: Receiver) -> Self {
        Self { handle, sender, to, messages: PhantomData }
    }

    /// Posts `message` to `on_post` of the service. Never waits.
    ///
    /// # Errors
    /// [`PostError`], with the message, if the mailbox is full or the reactor is gone.
    pub fn post(&self, message: M) -> Result<(), PostError<M>> {
        self.sender.try_send(self.wrap(message)).map_err(|error| match error {
            TrySendError::Full(post) => PostError::Full(unwrap(post)),
            TrySendError::Disconnected(post) => PostError::Gone(unwrap(post)),
        })?;
        self.handle.wake();
        Ok(())
    }

    /// Posts `message`, and waits while the mailbox is full. For threads other than that of the loop: there it would wait
    /// for itself.
    ///
    /// # Errors
    /// [`PostError::Gone`], with the message, if the reactor is gone.
    pub fn post_blocking(&self, message: M) -> Result<(), PostError<M>> {
        let post = match self.post(message) {
            Err(PostError::Full(message)) => self.wrap(message),
            outcome => return outcome,
        };
        // The loop is woken first: it may sleep while the mailbox is full of messages that it was woken for.
        self.handle.wake();
        self.sender.send(post).map_err(|error| PostError::Gone(unwrap(error.0)))?;
        self.handle.wake();
        Ok(())
    }

    /// Runs `job` on a thread of the reactor; `on_post` of the service receives the result. For work that blocks or takes
    /// long: a file, the lookup of a name, a hash. Results arrive in the order in which jobs end.
    ///
    /// The threads are a small pool ([`Reactor::set_offload_threads`](crate::reactor::Reactor::set_offload_threads)). A job that
    /// never ends keeps its thread for ever. (libuv: `uv_queue_work`; tokio: `spawn_blocking`. Go's runtime does it for each
    /// system call that blocks.)
    ///
    /// ```
    /// use reactor::{ConnId, Context, Poster, Receive, Service, ServiceContext};
    ///
    /// struct Answer(ConnId, Vec<u8>);
    ///
    /// /// Sends a file to each peer.
    /// struct Motd(Poster<Answer>);
    ///
    /// impl Service for Motd {
    ///     fn on_open(&mut self, ctx: &mut Context<'_>) {
    ///         let to = ctx.id();
    ///         let job = move || Answer(to, std::fs::read("/etc/motd").unwrap_or_default());
    ///         if self.0.offload(job).is_err() {
    ///             ctx.finish();
    ///         }
    ///         // A paused connection waits for its answer when the reactor stops.
    ///         ctx.pause();
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
    ///         input.len()
    ///     }
    /// }
    ///
    /// impl Receive<Answer> for Motd {
    ///     fn on_post(&mut self, ctx: &mut ServiceContext, Answer(to, text): Answer) {
    ///         // `None` if the peer has gone meanwhile.
    ///         if let Some(mut connection) = ctx.connection(to) {
    ///             connection.send(&text);
    ///             connection.finish();
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// A result that comes after the end of the run is dropped: a stopping reactor waits for connections, not for jobs. If
    /// `job` panics, the thread logs an error and goes on, and the service gets no message: see
    /// [`offload_or`](Self::offload_or).
    ///
    /// # Errors
    /// [`OffloadError`], with the job, if [`JOBS`](crate::limits::JOBS) jobs wait for a thread, the reactor is gone, or no
    /// thread could be started.
    pub fn offload<J: FnOnce() -> M + Send + 'static>(&self, job: J) -> Result<(), OffloadError<J>> {
        let poster = self.clone();
        self.handle.pool().push(Kind::Work, job, |job| Box::new(move || poster.deliver(job())))
    }

    /// Runs `job` as [`offload`](Self::offload) does, and posts `fallback` if the job panics. A service that waits for the
    /// result of each job learns of every end this way.
    ///
    /// # Errors
    /// As [`offload`](Self::offload).
    pub fn offload_or<J: FnOnce() -> M + Send + 'static>(&self, fallback: M, job: J) -> Result<(), OffloadError<J>> {
        let poster = self.clone();
        self.handle.pool().push(Kind::Work, job, |job| {
            Box::new(move || {
                let result = catch_unwind(AssertUnwindSafe(job));
                poster.deliver(result.unwrap_or_else(|panic| {
                    log_panic(panic.as_ref());
                    fallback
                }));
            })
        })
    }

    /// Looks up the addresses of `name` on a thread of the reactor. `message` makes them, or the reason why there are none,
    /// into the message that `on_post` of the service receives.
    ///
    /// getaddrinfo(3) may wait many seconds for a name server. So lookups use at most half of the threads, rounded up: the
    /// other jobs go on.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use reactor::{ConnId, HostPort, OffloadError, Poster, ResolveError};
    ///
    /// /// The addresses for the connection that waits for them.
    /// struct Found(ConnId, Result<Vec<SocketAddr>, ResolveError>);
    ///
    /// fn look_up(poster: &Poster<Found>, host: &str, id: ConnId) -> Result<(), OffloadError<HostPort>> {
    ///     let name = HostPort { host: host.to_owned(), port: 80 };
    ///     poster.resolve(name, move |found| Found(id, found))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`OffloadError`], with the name, as [`offload`](Self::offload).
    pub fn resolve(
        &self,
        name: HostPort,
        message: impl FnOnce(Result<Vec<SocketAddr>, ResolveError>) -> M + Send + 'static,
    ) -> Result<(), OffloadError<HostPort>> {
        let poster = self.clone();
        self.handle.pool().push(Kind::Lookup, name, |name| Box::new(move || poster.deliver(message(name.resolve()))))
    }

    /// Posts the result of a job. Without a reactor, there is no service that could use it.
    fn deliver(&self, result: M) {
        let _ = self.post_blocking(result);
    }

    fn wrap(&self, message: M) -> Post {
        Post { to: self.to, message: Box::new(message) }
    }
}

impl<M> Poster<M> {
    /// Returns the handle of the reactor.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Returns the message of a post that a [`Poster`] of `M` has made.
fn unwrap<M: 'static>(post: Post) -> M {
    match post.message.downcast() {
        Ok(message) => *message,
        Err(_) => unreachable!("a message comes back with the type that it was posted with"),
    }
}

impl<M> Clone for Poster<M> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), sender: self.sender.clone(), to: self.to, messages: PhantomData }
    }
}

impl<M> fmt::Debug for Poster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("to", &self.to.service).finish_non_exhaustive()
    }
}

/// The reason for which a message was not accepted, with the message.
#[non_exhaustive]
pub enum PostError<M> {
    /// The mailbox is full: the loop has not delivered the earlier messages yet.
    Full(M),
    /// The reactor is gone.
    Gone(M),
}

impl<M> PostError<M> {
    /// Returns the message.
    pub fn into_message(self) -> M {
        match self {
            PostError::Full(message) | PostError::Gone(message) => message,
        }
    }

    /// Returns true if a later attempt can succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, PostError::Full(_))
    }
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "the mailbox is full",
            PostError::Gone(_) => "the reactor is gone",
        })
    }
}

impl<M> fmt::Debug for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M> std::error::Error for PostError<M> {}
