//! Every bound of the reactor, in one place, each with its reason.
//!
//! Owns: numbers. What an operator may change is in [`Policy`]; what follows from the design is a constant.

use std::time::Duration;

use crate::timer::Timeout;

/// One read takes at most this much, into scratch memory that the whole loop shares. More than the 64 KiB that
/// load tests and copying tools write at once, so that such a message is one read and the read after it is spared
/// (it comes back short); small enough to stay in a second-level cache together with what is done with it.
pub const SCRATCH: usize = 128 * 1024;

/// Events taken from the kernel per turn; what is left stays in its queue, which is served round-robin. As many as the
/// usual C servers take (nginx 512, redis: all).
pub const EVENTS: usize = 1024;

/// Connections accepted per listener and turn: a storm of newcomers does not hold up those who are served.
pub const ACCEPTS: usize = 256;

/// How long a listener or a datagram socket rests when descriptors or memory have run out, or an error lasts: long enough
/// to cost nothing, short enough that a client that waits in the backlog is served soon after a descriptor is free (nginx:
/// 500 ms).
pub const BACKOFF: Duration = Duration::from_millis(100);

/// How long we wait for the peer's FIN after ours, so that its unread bytes do not turn into RST (nginx:
/// `lingering_time 30s`).
pub const LINGER: Duration = Duration::from_secs(30);

/// The same while the reactor is stopping: everything has been sent, and the operator waits.
pub const LINGER_STOPPING: Duration = Duration::from_millis(500);

/// Connections accepted when the reactor stops, before a listener is closed: closing it resets those who wait, so all of
/// them, and that is more than a backlog holds (`net.core.somaxconn` is 4,096). A bound, because a storm has none.
pub const ACCEPTS_STOPPING: usize = 65_536;

/// How long connections may take to finish when the reactor stops, unless it is told otherwise
/// ([`Reactor::set_grace`](crate::reactor::Reactor::set_grace)): a peer that never stops talking, or never reads, must not
/// keep a program alive for ever. Less than those who stop programs wait before they kill them (docker: 10 s, Kubernetes:
/// 30 s).
pub const GRACE: Duration = Duration::from_secs(5);

/// When the reactor stops: how long a peer that we have held back may be silent until we believe that it has nothing
/// left in its send buffer, and how long others have whose bytes are still coming. It takes a round trip to learn that
/// one may send again; 200 ms more if a segment is lost (the least retransmission timeout of Linux).
pub const CATCH_UP: Duration = Duration::from_millis(250);

/// What a service may leave unread on one connection before it is closed. Every protocol here has a smaller bound of
/// its own and an error message that goes with it; this one is for services that have forgotten theirs.
pub const UNREAD: usize = 16 * 1024 * 1024;

/// Datagrams per system call (UIO_MAXIOV would allow 1024). At 64 the cost of the call is below 2 % of each.
pub const DATAGRAMS: usize = 64;

/// The longest datagram: 65,535 less the IPv6 header's share is below this for both families (RFC 768, RFC 8200), so
/// nothing is ever truncated.
pub const DATAGRAM: usize = 65_536;

/// Bytes of datagrams that wait for a full send buffer, per socket. Past it they are dropped and counted, as a router
/// would; UDP promises no more.
pub const DATAGRAM_QUEUE: usize = 4 * 1024 * 1024;

/// After so many full batches in a row a datagram socket is so busy that it is not watched until it is found empty.
/// More than one, so that the two system calls of the change are spread over at least 256 datagrams.
pub const BUSY_BATCHES: u32 = 4;

/// Batches that a datagram socket takes when the reactor stops: more than a receive buffer of the usual size holds.
pub const LAST_BATCHES: usize = 64;

/// An outbox keeps up to this much memory for the next turn, so that a burst is not paid for ever after.
pub const OUTBOX: usize = 256 * 1024;

/// Messages from other threads that have not been taken yet.
pub const POSTS: usize = 1024;

/// A TCP probe after this much silence finds peers that have vanished without a FIN (Go's net package: 15 s, nine of
/// them 15 s apart). The kernel sends it; the loop does not wake up.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// Bytes that the kernel keeps for a connection before they are on their way to the peer (`TCP_NOTSENT_LOWAT`). Without
/// it a peer that does not read makes us fill megabytes of kernel memory (`net.ipv4.tcp_wmem`) before we notice, at
/// the expense of those who read. What is in flight does not count, so a long path is not slowed down; twice as much
/// as a congested connection is left with, and as much as one read brings.
pub const NOT_SENT: u32 = 128 * 1024;

/// Output bytes at which a connection is congested and no longer read, unless its [`Policy`] says otherwise. The kernel
/// holds as much and more of a slow reader's output already, so more here would only be memory.
pub const HIGH_WATER: usize = 64 * 1024;

/// Output bytes that others may leave with a connection that does not take them. One that reads falls behind by this
/// much when it loses its processor for some milliseconds; one that does not is nobody's loss (redis takes 8 MiB for a
/// minute, and 32 MiB at once, of a subscriber).
pub const OVERFLOW: usize = 1024 * 1024;

/// What becomes of a connection's input while its output is congested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhileCongested {
    /// It is not read. What a server says is caused by what it hears, so this is what bounds its memory.
    HoldBack,
    /// It is read all the same. What a client says comes from elsewhere, and its service bounds it
    /// ([`ServiceContext::await_drain`](crate::service::ServiceContext::await_drain)); if both ends held back the other,
    /// an echo longer than all buffers between them would never end.
    Listen,
}

/// What an operator may set for the connections of a listener.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Output bytes at which a connection is congested: until [`Policy::low_water`], unless
    /// [`Policy::while_congested`] says otherwise, its input is not read.
    pub high_water: usize,
    /// Output bytes at which a congested connection has drained: it is read again.
    pub low_water: usize,
    /// Output bytes at which a connection that others write to (a broadcast) is dropped. More than the high-water mark,
    /// or what it has asked for itself would leave no room for the others.
    pub overflow: usize,
    /// Whether its input is read while it is congested.
    pub while_congested: WhileCongested,
    /// Silence from the peer, while it is being read, that ends the connection.
    pub read_timeout: Timeout,
    /// No progress of queued output for so long ends the connection.
    pub write_timeout: Timeout,
    /// No byte in either direction for so long ends the connection.
    pub idle_timeout: Timeout,
    /// How long to wait for the peer's FIN after ours.
    pub linger: Duration,
}

impl Policy {
    /// The same with marks that can work: something may be queued, a congested connection can drain, and what others send
    /// has room.
    #[must_use]
    pub fn clamped(self) -> Self {
        let high_water = self.high_water.max(1);
        let low_water = self.low_water.min(high_water - 1);
        Self { high_water, low_water, overflow: self.overflow.max(1), ..self }
    }
}

impl Default for Policy {
    /// [`HIGH_WATER`] and a quarter of it, which keeps pause and resume apart; [`OVERFLOW`]; no timeouts.
    fn default() -> Self {
        Self {
            high_water: HIGH_WATER,
            low_water: HIGH_WATER / 4,
            overflow: OVERFLOW,
            while_congested: WhileCongested::HoldBack,
            read_timeout: Timeout::OFF,
            write_timeout: Timeout::OFF,
            idle_timeout: Timeout::OFF,
            linger: LINGER,
        }
    }
}

impl Policy {
    /// Whether there is a timeout that bytes renew.
    pub fn is_timed(&self) -> bool {
        self.read_timeout.is_on() || self.write_timeout.is_on() || self.idle_timeout.is_on()
    }
}
