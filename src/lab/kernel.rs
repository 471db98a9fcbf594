//! The kernel's table of sockets, which `ss` and `netstat` print, and the names of its errors.
//!
//! Owns: the reading of `/proc/net/tcp` (proc(5), and the kernel's Documentation/networking/proc_net_tcp.rst). Must not
//! know: the claims of any scenario.
//!
//! Only Linux has such a table that needs neither privileges nor unsafe code. Elsewhere each query returns `None`, and
//! a scenario leaves out the claims about it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// One socket in the kernel's table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// The local address.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The TCP state.
    pub state: State,
    /// Bytes that have been written and not acknowledged (`SIOCOUTQ`; Send-Q of `ss`).
    pub send_q: u64,
    /// Bytes that have arrived and not been read (`SIOCINQ`; Recv-Q of `ss`). For a listener, the connections that wait
    /// for accept(2).
    pub recv_q: u64,
    /// The time until the socket's timer expires.
    pub timer: Duration,
    /// The inode, by which `/proc/PID/fd` names the socket; 0 without a descriptor.
    pub inode: u64,
}

/// A state of RFC 9293, figure 5, by its number in the kernel's `tcp_states.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(u8);

impl State {
    /// Both directions are open.
    pub const ESTABLISHED: State = State(1);
    /// The SYN has no answer yet.
    pub const SYN_SENT: State = State(2);
    /// Our FIN has been acknowledged, the peer's has not come.
    pub const FIN_WAIT2: State = State(5);
    /// Both FINs are acknowledged; a late segment may still arrive.
    pub const TIME_WAIT: State = State(6);
    /// The peer's FIN has come, ours has not been sent.
    pub const CLOSE_WAIT: State = State(8);
    /// The socket listens.
    pub const LISTEN: State = State(10);

    const NAMES: [&'static str; 13] = [
        "?",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.get(usize::from(self.0)).unwrap_or(&"?"))
    }
}

/// The reads of the table after which a missing socket counts as absent. The kernel does not hand out the table in one
/// piece: while other sockets come and go, a read can lack a row or have it twice.
const READS: usize = 3;

/// The first TCP socket over IPv4 with this port that `wanted` accepts. `None` also where the kernel has no table.
fn find(port: u16, wanted: impl Fn(&Row) -> bool) -> Option<Row> {
    (0..READS).find_map(|_| rows(port).into_iter().find(&wanted))
}

/// The TCP sockets over IPv4 in `state` with the peer `peer`. `None` where the kernel has no table.
pub fn all_towards(peer: SocketAddr, state: State) -> Option<Vec<Row>> {
    let mut found: Vec<Row> = Vec::new();
    for row in (0..READS).flat_map(|_| rows(peer.port())).filter(|row| row.peer == peer && row.state == state) {
        if !found.iter().any(|other| (other.local, other.peer) == (row.local, row.peer)) {
            found.push(row);
        }
    }
    shows_sockets().then_some(found)
}

/// The socket at `local` with the peer `peer`.
pub fn between(local: SocketAddr, peer: SocketAddr) -> Option<Row> {
    find(local.port(), |row| row.local == local && row.peer == peer)
}

/// The socket that listens at `local`.
pub fn listener(local: SocketAddr) -> Option<Row> {
    find(local.port(), |row| row.local == local && row.state == State::LISTEN)
}

/// The bytes between the two ends of a connection, in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Bytes in the sender's send buffer.
    pub sent: u64,
    /// Bytes in the receiver's receive buffer.
    pub received: u64,
}

impl Held {
    /// The bytes that have been written and not read. Bytes that have arrived and are not acknowledged yet count twice.
    pub fn sum(self) -> u64 {
        self.sent + self.received
    }
}

/// The bytes that have been written at `from` and not read at `to`.
pub fn held_between(from: SocketAddr, to: SocketAddr) -> Option<Held> {
    Some(Held { sent: between(from, to)?.send_q, received: between(to, from)?.recv_q })
}

/// Returns true if the buffers hold `bytes` bytes, or if this system does not show it.
pub fn is_settled(held: Option<u64>, bytes: u64) -> bool {
    held.map_or(!shows_sockets(), |held| held == bytes)
}

/// Returns true if this system has a table of its sockets.
pub fn shows_sockets() -> bool {
    cfg!(target_os = "linux") && std::path::Path::new("/proc/net/tcp").exists()
}

/// Each TCP socket over IPv4 with this port at either end; empty where the kernel has no table.
fn rows(port: u16) -> Vec<Row> {
    let table = if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/net/tcp") } else { return Vec::new() };
    // A busy machine has tens of thousands of rows: parse only those with the port.
    let wanted = format!(":{port:04X} ");
    table.unwrap_or_default().lines().filter(|line| line.contains(&wanted)).filter_map(parse).collect()
}

/// A kernel setting (sysctl(8)), such as `net/core/somaxconn`.
pub fn setting(name: &str) -> Option<String> {
    let path = if cfg!(target_os = "linux") { format!("/proc/sys/{name}") } else { return None };
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// `sl local peer st tx:rx tr:tm ...`, in hexadecimal; addresses in the byte order of the machine.
fn parse(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace().skip(1);
    let (local, peer) = (address(words.next()?)?, address(words.next()?)?);
    let state = State(u8::from_str_radix(words.next()?, 16).ok()?);
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (send_q, recv_q) = words.next()?.split_once(':')?;
    let (_, timer) = words.next()?.split_once(':')?;
    // In units of USER_HZ, which is 100 wherever Linux runs today.
    let timer = Duration::from_millis(number(timer)?.saturating_mul(10));
    // The columns between are the retransmissions, the owner, and the unanswered probes.
    let inode = words.nth(3)?.parse().ok()?;
    Some(Row { local, peer, state, send_q: number(send_q)?, recv_q: number(recv_q)?, timer, inode })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

macro_rules! names {
    ($($name:ident)+) => {
        /// The name of an error number (errno(3)); the number itself for an error that no scenario meets.
        pub fn name(errno: i32) -> String {
            match errno {
                $(libc::$name => stringify!($name).to_owned(),)+
                other => format!("errno {other}"),
            }
        }
    };
}

names! {
    EAGAIN ECONNREFUSED ECONNRESET EADDRINUSE EADDRNOTAVAIL EINPROGRESS EMFILE ENFILE EPIPE ETIMEDOUT ENOTCONN
    EPERM EINVAL ENOSYS EHOSTUNREACH ENETUNREACH EINTR
}

/// The name of an error that std has returned.
pub fn name_of(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_parsed() {
        let line =
            "   7: 0100007F:E120 0200007F:A803 02 00000001:0000000A 01:0000005A 00000000     0        0 705656 2 0";
        let row = parse(line).expect("a row");
        assert_eq!(row.local, ([127, 0, 0, 1], 0xE120).into());
        assert_eq!(row.peer, ([127, 0, 0, 2], 0xA803).into());
        assert_eq!((row.state, row.send_q, row.recv_q), (State::SYN_SENT, 1, 10));
        assert_eq!((row.timer, row.inode), (Duration::from_millis(900), 705656));
        assert_eq!(row.state.to_string(), "SYN_SENT");
        assert_eq!(parse("nonsense"), None);
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(parse(head), None);
    }

    #[test]
    fn errors_have_names() {
        assert_eq!(name(libc::EAGAIN), "EAGAIN");
        assert_eq!(name(9999), "errno 9999");
        let error = std::io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(name_of(&error), "ECONNREFUSED");
    }
}
