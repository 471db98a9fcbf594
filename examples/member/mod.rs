//! A member of a chat with threads: a socket, a queue of bytes to send, and a thread that sends them.
//!
//! A speaker puts bytes into the queues of all members, and waits for no peer. The three blocking chats share this file.
//! Their twins need no such file: there the queue, its two bounds and the writing belong to the reactor's connection.

use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use std::{mem, ptr, thread};

// The bounds of the twins: a speaker with `HIGH_WATER` bytes to read waits; a member with `OVERFLOW` bytes is dropped.
use reactor::limits::{HIGH_WATER, OVERFLOW};

/// The longest time that a queue may stay full before its member is dropped. The member's writer may only be waiting for
/// the processor, while its peer reads fast. With one thread for all there is no such doubt, and no such wait.
const MOMENT: Duration = Duration::from_millis(10);

/// The bytes not sent yet.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// No byte follows: the writer ends when the queue is empty.
    ended: bool,
}

pub struct Member {
    /// For reading. Bytes to send go through the queue.
    pub socket: TcpStream,
    pub name: SocketAddr,
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Member {
    /// Starts the thread that writes. It runs until [`end`](Self::end), or until the member is cut off.
    pub fn new(socket: TcpStream) -> io::Result<Arc<Self>> {
        socket.set_nodelay(true)?;
        let name = socket.peer_addr()?;
        let member = Arc::new(Self { socket, name, queue: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&member);
        thread::Builder::new().spawn(move || writer.write())?;
        Ok(member)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics with it")
    }

    fn wait_while(&self, condition: impl FnMut(&mut Queue) -> bool) -> MutexGuard<'_, Queue> {
        self.changed.wait_while(self.lock(), condition).expect("no thread panics with it")
    }

    fn write(&self) {
        let mut bytes = Vec::new();
        loop {
            // All bytes since the last write, in one call.
            mem::swap(&mut bytes, &mut self.wait_while(|queue| queue.bytes.is_empty() && !queue.ended).bytes);
            self.changed.notify_all();
            if bytes.is_empty() {
                // This fails if the peer has gone, and such a peer needs no FIN.
                let _ = self.socket.shutdown(Shutdown::Write);
                return;
            }
            if (&self.socket).write_all(&bytes).is_err() {
                return self.cut_off(&mut self.lock());
            }
            bytes.clear();
        }
    }

    /// Queues `bytes`. If the queue is at its bound, and stays there for `MOMENT`, the member is dropped: a member that does
    /// not read holds up the others once. The bytes that the writer is sending do not count.
    pub fn send(&self, bytes: &[u8]) {
        let is_full = |queue: &mut Queue| queue.bytes.len() >= OVERFLOW && !queue.ended;
        let waited = self.changed.wait_timeout_while(self.lock(), MOMENT, is_full);
        let (mut queue, _) = waited.expect("no thread panics with it");
        if is_full(&mut queue) {
            eprintln!("member {} dropped: it reads too slowly, or not at all", self.name);
            self.cut_off(&mut queue);
        }
        if !queue.ended {
            queue.bytes.extend_from_slice(bytes);
            self.changed.notify_all();
        }
    }

    /// Ends both threads of the member, in `read`, in `write_all`, or while they wait for the queue.
    fn cut_off(&self, queue: &mut Queue) {
        *queue = Queue { bytes: Vec::new(), ended: true };
        self.changed.notify_all();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Waits until the queue is below its first bound. Returns false if the member has been cut off.
    pub fn wait_for_room(&self) -> bool {
        !self.wait_while(|queue| queue.bytes.len() >= HIGH_WATER && !queue.ended).ended
    }

    /// Makes the writer send the queue, then FIN, and end.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// Sends `bytes` to each member of `to`.
pub fn broadcast(to: &[Arc<Member>], bytes: &[u8]) {
    to.iter().for_each(|member| member.send(bytes));
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Member {}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self, state);
    }
}
