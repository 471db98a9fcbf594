//! A member of a room as threads have it: a socket, what it has yet to be sent, and a thread that sends it.
//!
//! Whoever speaks puts bytes into the queues of all, and waits for no peer. The three blocking chats share this file; their
//! twins have nothing like it, because there the queue, its two bounds and the writing belong to the reactor's connection.

use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use std::{mem, ptr, thread};

// The bounds of the twins: a speaker with so much of its own to read has to wait, a listener with so much is dropped.
use reactor::limits::{HIGH_WATER, OVERFLOW};

/// How long a full queue may stay full until its member is dropped. The writer may only be waiting for the processor, and
/// the peer be as fast as anybody; where one thread does it all there is no such doubt, and no such wait.
const MOMENT: Duration = Duration::from_millis(10);

/// What has yet to be sent.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Nothing will be added: the writer ends when it has written what there is.
    ended: bool,
}

pub struct Member {
    /// To be read from; whoever has something to send puts it into the queue.
    pub socket: TcpStream,
    pub name: SocketAddr,
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Member {
    /// Starts the thread that writes, which goes on until [`end`](Self::end) or until the member is cut off.
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
            // All that has come since the last time, in one call.
            mem::swap(&mut bytes, &mut self.wait_while(|queue| queue.bytes.is_empty() && !queue.ended).bytes);
            self.changed.notify_all();
            if bytes.is_empty() {
                // It fails if the peer has gone, and then nobody waits for a FIN.
                let _ = self.socket.shutdown(Shutdown::Write);
                return;
            }
            if (&self.socket).write_all(&bytes).is_err() {
                return self.cut_off(&mut self.lock());
            }
            bytes.clear();
        }
    }

    /// Queues `bytes`. One for whom the bound waits already, besides what its writer has in hand, is dropped if that does not
    /// change within a moment: so one who does not read holds up the others once.
    pub fn send(&self, bytes: &[u8]) {
        let is_full = |queue: &mut Queue| queue.bytes.len() >= OVERFLOW && !queue.ended;
        let waited = self.changed.wait_timeout_while(self.lock(), MOMENT, is_full);
        let (mut queue, _) = waited.expect("no thread panics with it");
        if is_full(&mut queue) {
            eprintln!("member {} is dropped: it reads too slowly, or not at all", self.name);
            self.cut_off(&mut queue);
        }
        if !queue.ended {
            queue.bytes.extend_from_slice(bytes);
            self.changed.notify_all();
        }
    }

    /// Ends both threads, wherever they wait: for the queue, in `read` or in `write_all`.
    fn cut_off(&self, queue: &mut Queue) {
        *queue = Queue { bytes: Vec::new(), ended: true };
        self.changed.notify_all();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Waits until the member has read enough to be sent more. Says whether it is still there.
    pub fn wait_for_room(&self) -> bool {
        !self.wait_while(|queue| queue.bytes.len() >= HIGH_WATER && !queue.ended).ended
    }

    /// Lets the writer send what there is, then FIN, and end.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// Sends the same to each of `to`.
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
