//! Every bound of the reactor, in one place, each with its reason.
//!
//! Owns: numbers. An operator may change those in [`Policy`]. The constants follow from the design.

use std::time::Duration;

use crate::timer::{Deadline, Timeout};

/// The most bytes of one read, into scratch memory that the whole loop shares.
///
/// More than the 64 KiB that load tests and copying tools write at once: such a message is one read, which comes back
/// short and spares the next read. Small enough to stay in a second-level cache together with its use.
pub const SCRATCH: usize = 128 * 1024;

/// Events taken from the kernel per turn. The other events stay in the queue of the kernel, which serves sources
/// round-robin. The usual C servers take a similar number (nginx 512, redis: all).
pub const EVENTS: usize = 1024;

/// Connections accepted per listener and turn. A storm of new connections does not delay the established ones.
pub const ACCEPTS: usize = 256;

/// The pause of a listener or a datagram socket when descriptors or memory are used up, or an error lasts.
///
/// Long enough to cost nothing, and short enough that a client in the backlog is served soon after a descriptor is free
/// (nginx: 500 ms).
pub const BACKOFF: Duration = Duration::from_millis(100);

/// The wait for the FIN of the peer after ours. Closing earlier turns unread bytes into RST (nginx:
/// `lingering_time 30s`).
pub const LINGER: Duration = Duration::from_secs(30);

/// [`LINGER`] while the reactor is stopping: all output was sent, and the operator waits.
pub const LINGER_STOPPING: Duration = Duration::from_millis(500);

/// Connections accepted when the reactor stops, before a listener is closed.
///
/// Closing a listener resets the connections in its backlog, so the reactor accepts all of them: more than a backlog
/// holds (`net.core.somaxconn` is 4,096). A bound, because a storm has none.
pub const ACCEPTS_STOPPING: usize = 65_536;

/// The grace period of connections when the reactor stops, unless
/// [`Reactor::set_grace`](crate::reactor::Reactor::set_grace) sets another.
///
/// A peer that sends without end, or never reads, must not keep a program alive. Supervisors wait longer before they
/// kill a process (docker: 10 s, Kubernetes: 30 s).
pub const GRACE: Duration = Duration::from_secs(5);

/// During shutdown, the wait for more input: after the last byte of a peer whose reading was suspended; once, in total,
/// for any other peer.
///
/// A peer learns after one round trip that it may send again. A lost segment adds 200 ms (the least retransmission
/// timeout of Linux).
pub const CATCH_UP: Duration = Duration::from_millis(250);

/// Input bytes that a service may leave unread on one connection before the connection is closed, unless its [`Policy`] has
/// another bound.
///
/// Every protocol here has a smaller bound of its own, with an error message. This bound is for services without one.
pub const UNREAD: usize = 16 * 1024 * 1024;

/// Datagrams per system call (UIO_MAXIOV would allow 1024). At 64 the call costs below 2 % of each datagram.
pub const DATAGRAMS: usize = 64;

/// Bytes of memory for one datagram. 65,535 less the headers is below this for both families (RFC 768, RFC 8200), so no
/// datagram is ever truncated.
pub const DATAGRAM: usize = 65_536;

/// Bytes of datagrams that wait for a full send buffer, per socket. Further datagrams are dropped and counted, as a
/// router would do. UDP promises no more.
pub const DATAGRAM_QUEUE: usize = 4 * 1024 * 1024;

/// Full batches in a row after which a busy datagram socket is deregistered until it is found empty. More than one, so
/// that the two system calls of the change are spread over at least 256 datagrams.
pub const BUSY_BATCHES: u32 = 4;

/// Batches that a datagram socket receives when the reactor stops: more than a receive buffer of the usual size holds.
pub const LAST_BATCHES: usize = 64;

/// Bytes of memory that an outbox keeps for the next turn. A burst gives the rest back.
pub const OUTBOX: usize = 256 * 1024;

/// Messages from other threads that wait in the mailbox.
pub const POSTS: usize = 1024;

/// Threads that run the jobs of services, unless
/// [`Reactor::set_offload_threads`](crate::reactor::Reactor::set_offload_threads) sets another number.
///
/// Jobs that wait for a disk use no processor, so the number does not follow from that of the processors (libuv: 4).
pub const OFFLOAD_THREADS: usize = 4;

/// Jobs that wait for a thread. A job of one millisecond at the end of this queue waits a quarter of a second for one of four
/// threads. A service that has more jobs should refuse work, or leave input unread.
pub const JOBS: usize = 1024;

/// The silence after which TCP probes a peer. Probes find peers that vanished without a FIN (Go's net package: 15 s,
/// nine probes 15 s apart). The kernel sends them; the loop does not wake up.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// The longest time without an acknowledgement for sent bytes (`TCP_USER_TIMEOUT`, tcp(7); RFC 5482), unless the [`Policy`]
/// has another.
///
/// The kernel sends no keepalive probes while bytes are unacknowledged, and repeats those bytes for about 15 minutes
/// (`net.ipv4.tcp_retries2`). With this bound, the kernel gives up a vanished peer as soon as it gives up an idle one: after
/// [`KEEPALIVE`] and nine probes.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(10 * KEEPALIVE.as_secs());

/// Unsent bytes that the kernel keeps for a connection (`TCP_NOTSENT_LOWAT`, tcp(7)), unless its [`Policy`] has another
/// bound.
///
/// Without this bound, a peer that does not read makes the loop fill megabytes of kernel memory (`net.ipv4.tcp_wmem`)
/// before a write blocks, at the expense of the other connections. Bytes in flight do not count, so a long path is not
/// slowed down. The bound is twice the high-water mark, and equals one read.
pub const NOT_SENT: u32 = 128 * 1024;

/// Output bytes at which a connection is congested and no longer read, unless its [`Policy`] has another mark. The
/// kernel already holds more of a slow reader's output, so a higher mark would only cost memory.
pub const HIGH_WATER: usize = 64 * 1024;

/// Queued output bytes at which a broadcast drops a connection, unless its [`Policy`] has another bound.
///
/// A peer that reads falls behind by this much when its process loses the processor for some milliseconds. Redis allows
/// a subscriber 8 MiB for a minute, and 32 MiB at once.
pub const OVERFLOW: usize = 1024 * 1024;

/// Full reads in a row ([`SCRATCH`] bytes each) after which spliced input is bulk, and passes through a pipe. A copy is
/// cheaper for less.
pub const SPLICE_AFTER: u32 = 2;

/// Empty pipes that a reactor keeps. Each has two descriptors.
pub const SPARE_PIPES: usize = 16;

/// The input of a connection whose output drains: from the high-water mark, at which the connection is congested, to the
/// low-water mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WhileDraining {
    /// Reading is suspended. The output of a server follows from its input, so this bounds the memory of a server.
    HoldBack,
    /// Reading goes on. The output of a client comes from elsewhere, and its service bounds it
    /// ([`Context::await_drain`](crate::service::Context::await_drain)). If both ends suspended reading, an
    /// echo longer than all buffers between them would never end.
    Listen,
}

/// The limits and timeouts of the connections of a listener or a dial.
///
/// ```
/// use std::time::Duration;
/// use reactor::limits::Policy;
///
/// let policy = Policy::default().with_idle_timeout(Duration::from_secs(3)).with_high_water(16 * 1024);
/// assert_eq!(policy.low_water, 4 * 1024);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Output bytes at which a connection is congested: its input is not read until the output has fallen to
    /// [`Policy::low_water`], unless [`Policy::while_draining`] allows it.
    pub high_water: usize,
    /// Output bytes at which a connection that was congested has drained: reading is resumed.
    pub low_water: usize,
    /// Queued output bytes at which a broadcast drops a connection ([`CloseReason::Overflow`]). More than the high-water mark,
    /// or the answers to its own input would leave no capacity for broadcasts. Other output drops no connection.
    ///
    /// [`CloseReason::Overflow`]: crate::service::CloseReason::Overflow
    pub overflow: usize,
    /// Input bytes that the service may leave unread before the connection is dropped ([`CloseReason::Unread`]).
    ///
    /// The bound counts all input that is left, also while the connection is congested or paused. One read has up to
    /// 128 KiB ([`SCRATCH`]). A bound below one read plus the longest item of the protocol ends healthy connections. The
    /// service bounds the length of an item itself, in [`on_data`](crate::service::Service::on_data).
    ///
    /// [`CloseReason::Unread`]: crate::service::CloseReason::Unread
    pub max_unread: usize,
    /// Unsent bytes that the kernel keeps for a connection (`TCP_NOTSENT_LOWAT`, tcp(7); Linux only). `None` leaves the
    /// bound to the send buffer. A socket that the program has made keeps its own.
    pub max_unsent: Option<u32>,
    /// The longest time without an acknowledgement for sent bytes (`TCP_USER_TIMEOUT`, tcp(7); Linux only). The connection
    /// then ends with ETIMEDOUT. The kernel applies the bound also to a peer whose receive window stays closed: a peer that
    /// reads nothing for this time is given up although it is alive. `None` leaves the time to the system.
    pub max_unacknowledged: Option<Duration>,
    /// The input of a connection while its output drains from the high-water mark to the low-water mark.
    pub while_draining: WhileDraining,
    /// The longest silence of the peer, while the connection is read ([`Deadline::Read`]).
    pub read_timeout: Timeout,
    /// The longest time without progress of queued output ([`Deadline::Write`]).
    pub write_timeout: Timeout,
    /// The longest time without a byte in either direction ([`Deadline::Idle`]).
    pub idle_timeout: Timeout,
    /// The wait for the FIN of the peer after ours.
    pub linger: Duration,
}

impl Default for Policy {
    /// [`HIGH_WATER`] and a quarter of it, which keeps suspensions of reading apart; [`OVERFLOW`]; [`UNREAD`]; [`NOT_SENT`];
    /// [`UNACKNOWLEDGED`]; no timeouts.
    fn default() -> Self {
        Self {
            high_water: HIGH_WATER,
            low_water: HIGH_WATER / 4,
            overflow: OVERFLOW,
            max_unread: UNREAD,
            max_unsent: Some(NOT_SENT),
            max_unacknowledged: Some(UNACKNOWLEDGED),
            while_draining: WhileDraining::HoldBack,
            read_timeout: Timeout::OFF,
            write_timeout: Timeout::OFF,
            idle_timeout: Timeout::OFF,
            linger: LINGER,
        }
    }
}

impl Policy {
    /// Returns a policy for both connections of a forwarder ([`Context::forward`](crate::service::Context::forward)). Each
    /// connection is read while its own output waits, or two peers that send much before they read could stop each other.
    /// A low-water mark of zero: the rest of a piece leaves before the next piece is read, so little is ever copied. The
    /// kernel keeps as many unsent bytes as its send buffer takes: a smaller bound wakes the forwarder more often than the
    /// peers do.
    pub fn relay() -> Self {
        Self { low_water: 0, max_unsent: None, while_draining: WhileDraining::Listen, ..Self::default() }
    }

    /// Sets the high-water mark, in bytes, and the low-water mark to a quarter of it. Call this before
    /// [`with_low_water`](Self::with_low_water).
    #[must_use]
    pub fn with_high_water(self, high_water: usize) -> Self {
        Self { high_water, low_water: high_water / 4, ..self }
    }

    /// Sets the low-water mark, in bytes.
    #[must_use]
    pub fn with_low_water(self, low_water: usize) -> Self {
        Self { low_water, ..self }
    }

    /// Sets the bound for the output of broadcasts, in bytes.
    #[must_use]
    pub fn with_overflow(self, overflow: usize) -> Self {
        Self { overflow, ..self }
    }

    /// Sets the bound for input that the service leaves unread, in bytes: at least one read ([`SCRATCH`]) and the longest
    /// item, because input that is left during congestion or a pause counts, too.
    #[must_use]
    pub fn with_max_unread(self, max_unread: usize) -> Self {
        Self { max_unread, ..self }
    }

    /// Sets the unsent bytes that the kernel keeps; with `None` its send buffer is the bound.
    #[must_use]
    pub fn with_max_unsent(self, max_unsent: Option<u32>) -> Self {
        Self { max_unsent, ..self }
    }

    /// Sets the longest time without an acknowledgement for sent bytes, in whole milliseconds; with `None` the system decides.
    #[must_use]
    pub fn with_max_unacknowledged(self, max_unacknowledged: Option<Duration>) -> Self {
        Self { max_unacknowledged, ..self }
    }

    /// Decides about the input of a connection while its output drains.
    #[must_use]
    pub fn with_while_draining(self, while_draining: WhileDraining) -> Self {
        Self { while_draining, ..self }
    }

    /// Sets the read timeout; zero switches it off.
    #[must_use]
    pub fn with_read_timeout(self, timeout: impl Into<Timeout>) -> Self {
        Self { read_timeout: timeout.into(), ..self }
    }

    /// Sets the write timeout; zero switches it off.
    #[must_use]
    pub fn with_write_timeout(self, timeout: impl Into<Timeout>) -> Self {
        Self { write_timeout: timeout.into(), ..self }
    }

    /// Sets the idle timeout; zero switches it off.
    #[must_use]
    pub fn with_idle_timeout(self, timeout: impl Into<Timeout>) -> Self {
        Self { idle_timeout: timeout.into(), ..self }
    }

    /// Sets the wait for the FIN of the peer after ours.
    #[must_use]
    pub fn with_linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// Returns the policy with marks that can work: at least one byte may be queued, a congested connection can drain,
    /// and output from other connections has capacity.
    #[must_use]
    pub fn clamped(self) -> Self {
        let high_water = self.high_water.max(1);
        let low_water = self.low_water.min(high_water - 1);
        Self { high_water, low_water, overflow: self.overflow.max(1), ..self }
    }

    /// Returns the timeout for deadlines of this kind.
    pub fn timeout(&self, which: Deadline) -> Timeout {
        match which {
            Deadline::Read => self.read_timeout,
            Deadline::Write => self.write_timeout,
            Deadline::Idle => self.idle_timeout,
        }
    }

    /// Returns true if the policy has a timeout that bytes renew.
    pub fn is_timed(&self) -> bool {
        self.read_timeout.is_on() || self.write_timeout.is_on() || self.idle_timeout.is_on()
    }
}
