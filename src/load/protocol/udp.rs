//! Echo over UDP (RFC 862): a service with a socket for each client.
//!
//! Owns: [`Clients`], the service, and [`Client`], one socket with its datagrams in flight. Must not know: batches, system
//! calls.
//!
//! A datagram begins with its number, so that an answer identifies its request even if an earlier one is lost. A datagram
//! without an answer after [`ANSWER_TIMEOUT`] is lost. In a closed loop the next datagram takes its place then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::pattern::Pattern;
use crate::id::SocketId;
use crate::load::Plan;
use crate::load::run::{ANSWER_TIMEOUT, Run};
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, DatagramContext, DatagramService, Errno, ServiceContext, SocketContext, TimerName};

/// The length of the number at the front of each datagram.
const NUMBER: usize = size_of::<u64>();

/// Sizes of a datagram in bytes (RFC 768, less the IPv4 header).
pub const SIZES: RangeInclusive<usize> = NUMBER..=65_507;

/// The interval of the search for lost datagrams.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes of datagrams that one callback sends: far less than the queue of a socket holds (`DATAGRAM_QUEUE`), so that
/// this process drops no datagram of its own.
const BURST: usize = 256 * 1024;

/// A search for lost datagrams is due. The other timers are those of clients: see [`due_timer`].
const SWEEP: TimerName = TimerName(u64::MAX);

/// Returns the timer for the next datagram of the client in this slot.
fn due_timer(slot: usize) -> TimerName {
    TimerName(slot as u64)
}

/// A datagram in flight.
struct Sent {
    number: u64,
    /// The instant at which the datagram was due: its latency counts from then.
    since: u64,
    /// The instant of sending: the answer timeout counts from then.
    at: u64,
}

/// One socket.
struct Client {
    run: Rc<RefCell<Run>>,
    pattern: Rc<Pattern>,
    schedule: Schedule,
    size: usize,
    pipeline: usize,
    /// The number of the next datagram.
    next: u64,
    /// Oldest first.
    in_flight: VecDeque<Sent>,
    answered: bool,
    refused: bool,
    /// A timer is set or a turn is requested.
    armed: bool,
}

/// All clients of a run.
pub struct Clients {
    run: Rc<RefCell<Run>>,
    pattern: Rc<Pattern>,
    connections: usize,
    size: usize,
    pipeline: usize,
    /// The number of sockets that have been opened.
    opened: usize,
    /// The clients, by the slots of their sockets.
    clients: Vec<Option<(SocketId, Client)>>,
    /// The slots of the clients that wait for the next turn.
    waiting: Vec<usize>,
}

impl Clients {
    /// The clients of `plan`: the program connects a socket for each of them.
    pub fn new(plan: &Plan, run: &Rc<RefCell<Run>>) -> Self {
        let Plan { connections, size, pipeline, .. } = *plan;
        run.borrow_mut().served = connections;
        Self {
            run: Rc::clone(run),
            pattern: Rc::new(Pattern::new(size)),
            connections,
            size,
            pipeline,
            opened: 0,
            clients: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Makes the client of a new socket.
    fn open(&mut self, socket: SocketId) {
        let schedule = {
            let mut run = self.run.borrow_mut();
            run.begin();
            run.schedule(self.opened, self.connections)
        };
        self.opened += 1;
        let client = Client {
            run: Rc::clone(&self.run),
            pattern: Rc::clone(&self.pattern),
            schedule,
            size: self.size,
            pipeline: self.pipeline,
            next: 0,
            in_flight: VecDeque::with_capacity(self.pipeline.min(1024)),
            answered: false,
            refused: false,
            armed: false,
        };
        if self.clients.len() <= socket.slot() {
            self.clients.resize_with(socket.slot() + 1, || None);
        }
        self.clients[socket.slot()] = Some((socket, client));
    }

    fn client(&mut self, socket: SocketId) -> Option<&mut Client> {
        match self.clients.get_mut(socket.slot()) {
            Some(Some((owner, client))) if *owner == socket => Some(client),
            _ => None,
        }
    }

    /// Sends the due datagrams of the socket at hand.
    fn send_due(&mut self, ctx: &mut SocketContext<'_>) {
        let socket = ctx.id();
        if let Some(client) = self.client(socket)
            && client.send_due(ctx)
        {
            self.waiting.push(socket.slot());
        }
    }

    /// The wait of a client is over: sends its due datagrams.
    fn resume(&mut self, ctx: &mut ServiceContext, slot: usize) {
        if let Some(Some((socket, client))) = self.clients.get_mut(slot)
            && let Some(mut ctx) = ctx.socket(*socket)
        {
            client.armed = false;
            self.send_due(&mut ctx);
        }
    }

    /// Counts the datagrams that are lost, and sends others in their place.
    fn sweep(&mut self, ctx: &mut ServiceContext) {
        for slot in 0..self.clients.len() {
            if let Some(Some((socket, client))) = self.clients.get_mut(slot)
                && let Some(mut ctx) = ctx.socket(*socket)
            {
                client.drop_lost();
                self.send_due(&mut ctx);
            }
        }
    }
}

impl Client {
    /// Sends the due datagrams, at most `pipeline` in flight and [`BURST`] bytes at a time. None is sent while the queue of
    /// the socket waits for the kernel. Returns true if a turn is requested for further datagrams.
    fn send_due(&mut self, ctx: &mut SocketContext<'_>) -> bool {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return false;
        }
        let now = run.now();
        let mut left = BURST;
        while self.in_flight.len() < self.pipeline
            && left >= self.size
            && !ctx.is_congested()
            && let Some(since) = run.take(&mut self.schedule, now)
        {
            left -= self.size;
            let number = self.next;
            self.next += 1;
            let mut datagram = std::mem::take(&mut run.scratch);
            datagram.clear();
            datagram.extend_from_slice(&number.to_le_bytes());
            datagram.extend_from_slice(self.pattern.slice(number, self.size - NUMBER));
            ctx.send(&datagram);
            run.count_sent(datagram.len(), now);
            run.scratch = datagram;
            self.in_flight.push_back(Sent { number, since, at: now });
        }
        if self.armed || self.in_flight.len() == self.pipeline || ctx.is_congested() {
            return false;
        }
        let wake = if left < self.size { Some(Wake::Turn) } else { self.schedule.wake(now) };
        self.armed = wake.is_some();
        match wake {
            Some(Wake::Timer(after)) => {
                let (timer, due) = (due_timer(ctx.id().slot()), ctx.now() + after);
                ctx.set_timer(timer, due, Duration::ZERO);
            }
            Some(Wake::Turn) => ctx.request_turn(),
            None => {}
        }
        wake == Some(Wake::Turn)
    }

    /// Counts the datagrams without an answer after [`ANSWER_TIMEOUT`].
    fn drop_lost(&mut self) {
        let run = &mut *self.run.borrow_mut();
        let timeout = ANSWER_TIMEOUT.as_nanos() as u64;
        let lost = run.now().saturating_sub(timeout);
        while self.in_flight.front().is_some_and(|sent| sent.at < lost)
            && let Some(sent) = self.in_flight.pop_front()
        {
            run.count_unanswered(sent.since);
        }
    }

    /// Returns the number of an answer; `None` if the answer differs from every datagram that was sent.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let (number, rest) = payload.split_first_chunk::<NUMBER>()?;
        let number = u64::from_le_bytes(*number);
        (payload.len() == self.size && number < self.next && self.pattern.matches(number, rest)).then_some(number)
    }

    /// Checks and counts one answer.
    fn receive(&mut self, payload: &[u8]) {
        let run = &mut *self.run.borrow_mut();
        let now = run.now();
        run.count_received(payload.len(), now);
        let Some(number) = self.number(payload) else { return run.stats.count_error("wrong bytes") };
        let Some(place) = self.in_flight.iter().position(|sent| sent.number == number) else {
            run.stats.strays += 1;
            return;
        };
        if let Some(sent) = self.in_flight.remove(place) {
            run.stats.record(now.saturating_sub(sent.since));
            run.count_answered(1, now);
        }
    }
}

impl DatagramService for Clients {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(SWEEP, ctx.now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    }

    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.open(ctx.id());
        self.send_due(ctx);
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        if let Some(client) = self.client(ctx.id()) {
            client.answered = true;
            client.receive(payload);
        }
        self.send_due(ctx);
    }

    fn on_drain(&mut self, ctx: &mut SocketContext<'_>) {
        self.send_due(ctx);
    }

    fn on_error(&mut self, ctx: &mut SocketContext<'_>, errno: Errno) {
        let Some(client) = self.client(ctx.id()) else { return };
        let run = &mut *client.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        run.stats.count_error(errno);
        // A port that refuses the first datagrams has no server: waiting for answers would be pointless.
        if errno.0 == libc::ECONNREFUSED && !client.answered && !std::mem::replace(&mut client.refused, true) {
            run.unreachable = Some(CloseReason::Unreachable(errno));
            run.deactivate();
        }
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        for slot in std::mem::take(&mut self.waiting) {
            self.resume(ctx, slot);
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            SWEEP => self.sweep(ctx),
            TimerName(slot) => self.resume(ctx, slot as usize),
        }
    }

    fn on_stopping(&mut self, _ctx: &mut ServiceContext) {
        self.run.borrow_mut().note_stop();
    }
}

impl Drop for Client {
    /// Counts the datagrams that are due and not answered: the run is over.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.count_unsent(&self.schedule);
        self.in_flight.iter().for_each(|sent| run.count_unanswered(sent.since));
    }
}
