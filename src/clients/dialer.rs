//! Several addresses in turn, and one deadline for all of them, as Go's `net.Dialer` has for a name.
//!
//! Owns: [`Dialer`]. Must not know: where the addresses come from.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::LocalAddr;
use crate::addr::Addr;
use crate::id::ConnId;
use crate::limits::Policy;
use crate::service::{CloseReason, Context, Dial, Errno, ServiceContext};
use crate::timer::{Time, Timeout};

/// The least time of an address, if that much is left (Go: `partialDeadline`).
const LEAST_SHARE: Duration = Duration::from_secs(2);

/// Dials addresses one after the other until a dial succeeds.
///
/// Each address gets an equal share of the time that is left, so an address that drops every packet leaves time for the
/// others. The time counts from [`begin`](Self::begin). A service that calls `begin` before it resolves a name includes
/// the resolving.
///
/// ```
/// use std::time::Duration;
/// use reactor::clients::Dialer;
/// use reactor::limits::Policy;
/// use reactor::service::{CloseReason, Errno, Probe};
///
/// let mut probe = Probe::new();
/// let mut dialer = Dialer::new(Duration::from_secs(10), None, Policy::default());
/// let refused = CloseReason::Unreachable(Errno(libc::ECONNREFUSED));
/// // on_start, or on_timer for another attempt:
/// probe.call(|ctx| {
///     dialer.begin(ctx.now());
///     dialer.dial(ctx, ["[::1]:7".parse().unwrap(), "127.0.0.1:7".parse().unwrap()])
/// });
/// let [(first, _)] = probe.take_dials()[..] else { panic!("not one dial") };
/// // on_dial_error:
/// let failed = probe.on(first, |ctx| dialer.on_dial_error(ctx, refused));
/// assert_eq!(failed, None, "there is another address");
/// let [(second, ref dial)] = probe.take_dials()[..] else { panic!("not one dial") };
/// assert_eq!(dial.to.to_string(), "127.0.0.1:7");
/// assert_eq!(probe.on(second, |ctx| dialer.on_dial_error(ctx, refused)), Some(refused));
/// ```
#[derive(Clone, Debug)]
pub struct Dialer {
    within: Timeout,
    from: Option<LocalAddr>,
    policy: Policy,
    due: Time,
    next: VecDeque<Addr>,
    current: Option<ConnId>,
}

impl Dialer {
    /// A dialer with the time `within` for all addresses together (zero leaves each to the kernel). It dials from the
    /// local address `from` if given. Each connection gets `policy`.
    pub fn new(within: Duration, from: Option<LocalAddr>, policy: Policy) -> Self {
        Self { within: within.into(), from, policy, due: Time::NEVER, next: VecDeque::new(), current: None }
    }

    /// Begins an attempt: its time counts from `now`.
    pub fn begin(&mut self, now: Time) {
        self.due = if self.within.is_on() { now + self.within } else { Time::NEVER };
        self.next.clear();
    }

    /// The deadline of the attempt; [`Time::NEVER`] without one.
    pub fn due(&self) -> Time {
        self.due
    }

    /// Dials the first of `addrs` and keeps the others. Addresses of another family than the local address are left
    /// out. Returns the reason of the failure if no address is left or the time is over.
    pub fn dial(&mut self, ctx: &mut ServiceContext, addrs: impl IntoIterator<Item = Addr>) -> Option<CloseReason> {
        let from = self.from;
        self.next = addrs.into_iter().filter(|to| from.is_none_or(|from| towards(from, to).is_some())).collect();
        self.dial_next(ctx, CloseReason::Unreachable(Errno(libc::EADDRNOTAVAIL)))
    }

    /// A dial of the service has failed: dials the next address. Returns the reason of the failure if that was the
    /// last. Other dials of the service, and dials of former attempts, are ignored.
    pub fn on_dial_error(&mut self, ctx: &mut Context<'_>, why: CloseReason) -> Option<CloseReason> {
        if self.current == Some(ctx.id()) { self.dial_next(ctx, why) } else { None }
    }

    fn dial_next(&mut self, ctx: &mut ServiceContext, why: CloseReason) -> Option<CloseReason> {
        let Some(to) = self.next.pop_front() else { return Some(why) };
        let left = self.due.since(ctx.now());
        if left.is_zero() {
            return Some(CloseReason::DialDeadline);
        }
        let from = self.from.and_then(|from| towards(from, &to));
        let mut dial = Dial::to(to).with(self.policy.clone());
        dial.from = from;
        if !self.due.is_never() {
            let share = left / (self.next.len() as u32 + 1);
            dial = dial.within(share.max(LEAST_SHARE).min(left));
        }
        self.current = Some(ctx.dial(dial));
        None
    }
}

/// Returns the address to bind for a dial to `to`; `None` if the address families differ.
fn towards(from: LocalAddr, to: &Addr) -> Option<SocketAddr> {
    from.towards(to.as_socket()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Probe;

    const REFUSED: CloseReason = CloseReason::Unreachable(Errno(libc::ECONNREFUSED));

    fn addr(n: u8) -> Addr {
        ([127, 0, 0, n], 9).into()
    }

    fn dialer(secs: u64) -> Dialer {
        Dialer::new(Duration::from_secs(secs), None, Policy::default())
    }

    /// The recorded dial.
    fn dialed(probe: &mut Probe) -> (ConnId, Dial) {
        let [dial] = <[_; 1]>::try_from(probe.take_dials()).expect("one dial");
        dial
    }

    #[test]
    fn time_is_shared_and_the_last_address_gets_what_is_left() {
        let (mut probe, mut dialer) = (Probe::new(), dialer(12));
        dialer.begin(Time::ZERO);
        probe.advance(Duration::from_secs(3));
        assert_eq!(probe.call(|ctx| dialer.dial(ctx, [1, 2, 3].map(addr))), None);
        let first = dialed(&mut probe);
        assert_eq!((first.1.to, first.1.timeout), (addr(1), Duration::from_secs(3).into()));
        probe.advance(Duration::from_secs(6));
        assert_eq!(probe.on(first.0, |ctx| dialer.on_dial_error(ctx, REFUSED)), None);
        let second = dialed(&mut probe);
        assert_eq!((second.1.to, second.1.timeout), (addr(2), LEAST_SHARE.into()));
        probe.advance(Duration::from_secs(2));
        probe.on(second.0, |ctx| dialer.on_dial_error(ctx, REFUSED));
        assert_eq!(dialed(&mut probe).1.timeout, Duration::from_secs(1).into());
    }

    #[test]
    fn no_dial_follows_the_end_of_the_time() {
        let (mut probe, mut dialer) = (Probe::new(), dialer(1));
        dialer.begin(Time::ZERO);
        probe.call(|ctx| dialer.dial(ctx, [1, 2].map(addr)));
        let first = dialed(&mut probe);
        probe.advance(Duration::from_secs(1));
        let deadline = CloseReason::DialDeadline;
        assert_eq!(probe.on(first.0, |ctx| dialer.on_dial_error(ctx, deadline)), Some(deadline));
        assert!(probe.outbox().dials().is_empty());
    }

    #[test]
    fn other_dials_and_former_attempts_are_ignored() {
        let (mut probe, mut dialer) = (Probe::new(), dialer(0));
        dialer.begin(Time::ZERO);
        probe.call(|ctx| dialer.dial(ctx, [1, 2].map(addr)));
        let old = dialed(&mut probe);
        assert!(!old.1.timeout.is_on());
        dialer.begin(Time::ZERO);
        probe.call(|ctx| dialer.dial(ctx, [3].map(addr)));
        let new = dialed(&mut probe);
        assert_eq!(probe.on(old.0, |ctx| dialer.on_dial_error(ctx, REFUSED)), None);
        assert!(probe.outbox().dials().is_empty());
        assert_eq!(probe.on(new.0, |ctx| dialer.on_dial_error(ctx, REFUSED)), Some(REFUSED));
    }

    #[test]
    fn only_addresses_of_the_family_of_the_local_one_are_dialed() {
        let mut probe = Probe::new();
        let mut dialer = Dialer::new(Duration::ZERO, addr(2).as_socket().map(LocalAddr::from), Policy::default());
        dialer.begin(Time::ZERO);
        let others = || ["[::1]:9", "unix:/run/x.sock"].map(|addr| addr.parse().unwrap());
        assert_eq!(probe.call(|ctx| dialer.dial(ctx, others().into_iter().chain([addr(1)]))), None);
        let dial = dialed(&mut probe);
        assert_eq!((dial.1.to, dial.1.from), (addr(1), addr(2).as_socket()));
        let none = probe.call(|ctx| dialer.dial(ctx, others()));
        assert_eq!(none, Some(CloseReason::Unreachable(Errno(libc::EADDRNOTAVAIL))));
    }
}
