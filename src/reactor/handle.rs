//! The way in for other threads: stop the loop, wake it, or post a message to one of its services.
//!
//! Owns: [`Handle`] and [`Poster`], and the [`Mailbox`] at the end of the loop. Must not know: the meaning of a message.
//!
//! Invariants:
//! 1. The loop never waits here. A thread waits only in [`Poster::post_blocking`].
//! 2. A message that was accepted is delivered in the turn after its wake-up, in order.
//! 3. A message that was not accepted comes back to its sender.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use mio::event::Event;
use mio::{Registry, Token, Waker};

use crate::id::Addressee;
use crate::limits::POSTS;

/// The word of the events of the waker: its generation is zero, so no source has it.
const WORD: Token = Token(1);

type Message = (Addressee, Box<dyn Any + Send>);

#[derive(Debug)]
struct Shared {
    waker: Waker,
    stop: AtomicBool,
    /// The number of the reactor within the process.
    reactor: u32,
}

impl Shared {
    /// Returns true if the addressee cannot be one of another reactor. The id of a socket does not tell.
    fn may_be_ours(&self, to: Addressee) -> bool {
        match to {
            Addressee::Service(service) => service.reactor() == self.reactor,
            Addressee::Socket(_) => true,
        }
    }
}

/// Reaches a running reactor from another thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
}

/// The reason for which a message was not accepted, with the message.
#[non_exhaustive]
pub enum PostError<M = Box<dyn Any + Send>> {
    /// The mailbox is full: the loop has not delivered the earlier messages yet.
    Full(M),
    /// The reactor is gone.
    Gone(M),
    /// The service belongs to another reactor.
    Foreign(M),
}

impl<M> PostError<M> {
    /// Returns the message.
    pub fn into_message(self) -> M {
        match self {
            PostError::Full(message) | PostError::Gone(message) | PostError::Foreign(message) => message,
        }
    }

    /// Returns true if a later attempt can succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, PostError::Full(_))
    }

    fn map<N>(self, map: impl FnOnce(M) -> N) -> PostError<N> {
        match self {
            PostError::Full(message) => PostError::Full(map(message)),
            PostError::Gone(message) => PostError::Gone(map(message)),
            PostError::Foreign(message) => PostError::Foreign(map(message)),
        }
    }
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "the mailbox is full",
            PostError::Gone(_) => "the reactor is gone",
            PostError::Foreign(_) => "the service belongs to another reactor",
        })
    }
}

impl<M> fmt::Debug for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M> std::error::Error for PostError<M> {}

impl Handle {
    /// Stops the reactor in an orderly way, as SIGTERM does. Further calls do nothing.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Posts `message` to `on_post` of a [`Service`](crate::service::Service), or of the
    /// [`DatagramService`](crate::service::DatagramService) of a datagram socket. A message to a socket that is gone by then
    /// is dropped.
    ///
    /// # Errors
    /// [`PostError`], with the message, if the mailbox is full, the reactor is gone, or the service belongs to another
    /// reactor.
    pub fn post(&self, to: impl Into<Addressee>, message: Box<dyn Any + Send>) -> Result<(), PostError> {
        let to = to.into();
        if !self.shared.may_be_ours(to) {
            return Err(PostError::Foreign(message));
        }
        self.sender.try_send((to, message)).map_err(|error| match error {
            TrySendError::Full((_, message)) => PostError::Full(message),
            TrySendError::Disconnected((_, message)) => PostError::Gone(message),
        })?;
        self.wake();
        Ok(())
    }

    /// Ends the wait of the loop: a turn follows soon.
    pub fn wake(&self) {
        // An eventfd fails only when it is closed, and then there is no loop to wake.
        let _ = self.shared.waker.wake();
    }

    /// Returns a poster to one service or datagram socket.
    pub fn poster(&self, to: impl Into<Addressee>) -> Poster {
        Poster { handle: self.clone(), to: to.into() }
    }
}

/// Posts messages to one service: the way back for a thread that works for it. Cheap to clone.
///
/// A service gets its own poster from [`Reactor::add_service_with`](crate::reactor::Reactor::add_service_with).
#[derive(Clone, Debug)]
pub struct Poster {
    handle: Handle,
    to: Addressee,
}

impl Poster {
    /// Posts `message` to `on_post` of the service.
    ///
    /// # Errors
    /// [`PostError`], with the message, if the mailbox is full or the reactor is gone.
    pub fn post<M: Any + Send>(&self, message: M) -> Result<(), PostError<M>> {
        self.handle.post(self.to, Box::new(message)).map_err(|error| error.map(unboxed))
    }

    /// Posts `message`, and waits while the mailbox is full. For threads other than that of the loop: there it would wait
    /// for itself.
    ///
    /// # Errors
    /// [`PostError::Gone`], with the message, if the reactor is gone.
    pub fn post_blocking<M: Any + Send>(&self, message: M) -> Result<(), PostError<M>> {
        // The loop is woken first: it may sleep while the mailbox is full of messages that it was woken for.
        self.handle.wake();
        self.handle.sender.send((self.to, Box::new(message))).map_err(|error| PostError::Gone(unboxed(error.0.1)))?;
        self.handle.wake();
        Ok(())
    }

    /// Returns the handle of the reactor.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Returns a message that [`Poster`] has boxed.
fn unboxed<M: Any>(message: Box<dyn Any + Send>) -> M {
    match message.downcast() {
        Ok(message) => *message,
        Err(_) => unreachable!("a message comes back with the type that it was boxed with"),
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The end of the reactor.
#[derive(Debug)]
pub(super) struct Mailbox {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    receiver: Receiver<Message>,
    woken: bool,
}

impl Mailbox {
    /// Returns an empty mailbox of the reactor number `reactor`, whose waker is registered.
    pub fn new(registry: &Registry, reactor: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared { waker: Waker::new(registry, WORD)?, stop: AtomicBool::new(false), reactor });
        let (sender, receiver) = sync_channel(POSTS);
        Ok(Self { shared, sender, receiver, woken: false })
    }

    /// Returns a handle to this mailbox.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), sender: self.sender.clone() }
    }

    /// Records an event, if it is one of the waker.
    pub fn note(&mut self, event: &Event) {
        self.woken |= event.token() == WORD;
    }

    /// Takes the wake-ups since the last call. Returns true if there were any.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Schedules another delivery: the mailbox may hold more messages than were taken.
    pub fn wake_again(&mut self) {
        self.woken = true;
    }

    /// Returns true if a wake-up was not taken yet.
    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// Returns true if a handle has requested a stop.
    pub fn stop_wanted(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Takes the next message.
    pub fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }
}
