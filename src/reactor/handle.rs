//! The way in for other threads: stop the loop, or post a message to one of its services.
//!
//! Owns: [`Handle`], and the [`Mailbox`] at the loop's end. Must not know: what a message says.
//!
//! Invariants:
//! 1. Nothing here blocks: a full mailbox is an error of the sender's.
//! 2. A message that was accepted is taken in the turn after its wake-up, in order.

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

/// The word of the waker's events: its generation is zero, so it is no source's.
const WORD: Token = Token(1);

type Message = (Addressee, Box<dyn Any + Send>);

#[derive(Debug)]
struct Shared {
    waker: Waker,
    stop: AtomicBool,
}

/// Reaches a running reactor from another thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
}

/// Why a message was not accepted; it is given back.
pub enum PostError {
    /// As many as the mailbox holds have not been taken yet.
    Full(Box<dyn Any + Send>),
    /// The reactor is gone.
    Gone(Box<dyn Any + Send>),
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "the mailbox is full",
            PostError::Gone(_) => "the reactor is gone",
        })
    }
}

impl fmt::Debug for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for PostError {}

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
    /// [`PostError`], with the message, if the mailbox is full or the reactor is gone.
    pub fn post(&self, to: impl Into<Addressee>, message: Box<dyn Any + Send>) -> Result<(), PostError> {
        self.sender.try_send((to.into(), message)).map_err(|error| match error {
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
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The reactor's end.
#[derive(Debug)]
pub(super) struct Mailbox {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    receiver: Receiver<Message>,
    woken: bool,
}

impl Mailbox {
    /// An empty mailbox whose waker is registered.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let shared = Arc::new(Shared { waker: Waker::new(registry, WORD)?, stop: AtomicBool::new(false) });
        let (sender, receiver) = sync_channel(POSTS);
        Ok(Self { shared, sender, receiver, woken: false })
    }

    /// A handle to this mailbox.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), sender: self.sender.clone() }
    }

    /// Adds what an event says, if it is the waker's.
    pub fn note(&mut self, event: &Event) {
        self.woken |= event.token() == WORD;
    }

    /// Whether somebody has called since this was last asked.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// There may be more messages than were taken.
    pub fn wake_again(&mut self) {
        self.woken = true;
    }

    /// Whether somebody has called and has not been heard.
    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// Whether the reactor shall stop.
    pub fn stop_wanted(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// The next message.
    pub fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }
}
