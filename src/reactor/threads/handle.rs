//! The way in for other threads: stop the loop, wake it, or post a message to one of its services.
//!
//! Owns: [`Handle`], and the [`Mailbox`] at the end of the loop. Must not know: the meaning of a message.
//!
//! Invariants:
//! 1. The loop never waits here. A thread waits only in [`Poster::post_blocking`].
//! 2. A message that was accepted is delivered in the turn after its wake-up, in order.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::event::Event;
use mio::{Registry, Token, Waker};

use super::pool::Pool;
use super::poster::{self, Post, Poster};
use crate::limits::POSTS;

/// The word of the events of the waker: its generation is zero, so no source has it.
const WORD: Token = Token(1);

struct Shared {
    waker: Waker,
    /// A wake-up is under way: further ones need no system call.
    is_woken: AtomicBool,
    stop: AtomicBool,
    pool: Arc<Pool>,
}

/// Reaches a running reactor from another thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Stops the reactor in an orderly way, as SIGTERM does. Further calls do nothing.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends the wait of the loop: a turn follows soon.
    pub fn wake(&self) {
        // Read and written as one: whatever this thread did before, the loop finds it when it takes the wake-up.
        if !self.shared.is_woken.swap(true, Ordering::AcqRel) {
            // An eventfd fails only when it is closed, and then there is no loop to wake.
            let _ = self.shared.waker.wake();
        }
    }

    /// Returns the threads for jobs.
    pub(in crate::reactor) fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The end of the reactor.
pub(in crate::reactor) struct Mailbox {
    shared: Arc<Shared>,
    sender: SyncSender<Post>,
    receiver: Receiver<Post>,
    woken: bool,
}

impl Mailbox {
    /// Returns an empty mailbox, whose waker is registered.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waker: Waker::new(registry, WORD)?,
            is_woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            pool: Arc::new(Pool::new()),
        });
        let (sender, receiver) = sync_channel(POSTS);
        Ok(Self { shared, sender, receiver, woken: false })
    }

    /// Returns a handle to this mailbox.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Returns a poster to the receiver `to`, which must take messages of the type `M`.
    pub fn poster<M: Send + 'static>(&self, to: poster::Receiver) -> Poster<M> {
        Poster::new(self.handle(), self.sender.clone(), to)
    }

    /// Returns the threads for jobs.
    pub fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Records an event, if it is one of the waker.
    pub fn note(&mut self, event: &Event) {
        self.woken |= event.token() == WORD;
    }

    /// Takes the wake-ups since the last call. Returns true if there were any. Messages must be taken after this call: a
    /// message that comes later has a wake-up of its own.
    pub fn take_woken(&mut self) -> bool {
        let woken = std::mem::take(&mut self.woken);
        if woken {
            self.shared.is_woken.swap(false, Ordering::AcqRel);
        }
        woken
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
    pub fn take(&self) -> Option<Post> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Mailbox {
    /// The jobs that wait would have no receiver for their results.
    fn drop(&mut self) {
        self.shared.pool.close();
    }
}
