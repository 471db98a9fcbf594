//! `stale-event`: descriptors and slots are used again at once, while an event or a command for the former owner is
//! still on its way. A simple loop closes the wrong connection; the same loop with generations does not. Then this loop
//! meets a command and a kernel event for a closed connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::fixture::{Fixture, LOOPBACK, connect, holds_within, wait_until};
use super::kernel;
use super::spy::SpyService;
use super::transcript::{Claims, Error, Result, Transcript};
use crate::id::{ConnId, SourceId};
use crate::limits::Policy;
use crate::reactor::{Ledger, ListenOptions};
use crate::service::{Context, Service};

/// The time without bytes after which no more are expected.
const SILENCE: Duration = Duration::from_millis(100);

/// Remembers the first connection, and writes to it for each input of any connection. The input `bye` closes its
/// connection.
#[derive(Default)]
struct WritesToFirst {
    first: Option<ConnId>,
}

impl Service for WritesToFirst {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        self.first.get_or_insert(id);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        if input == b"bye" {
            ctx.abort();
        } else if let Some(first) = self.first {
            ctx.broadcast(&[first], b"a secret for the first");
            ctx.send(b"done");
        }
        input.len()
    }
}

#[derive(Clone, Debug)]
struct Measured {
    naive: ByHand,
    checked: ByHand,
    old: ConnId,
    new: ConnId,
    /// The bytes that the new connection reads after the service has written to the old id.
    received: Vec<u8>,
    stale_commands: u64,
    /// The part with a kernel event, on systems where one can be provoked.
    event: Option<StaleEvent>,
}

#[derive(Clone, Debug)]
struct ByHand {
    events: usize,
    same_slot: bool,
    new_one_survives: bool,
}

#[derive(Clone, Debug)]
struct StaleEvent {
    same_slot: bool,
    before: Ledger,
    after: Ledger,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    transcript.we("by hand: A in slot 0 sends `kick B`, and the peer of B, in slot 1, closes; one poll for both");
    let naive = by_hand(transcript, false)?;
    transcript.we("the same with ids of slot and generation");
    let checked = by_hand(transcript, true)?;
    transcript.go("its poll records are used again, too: the event carries pollDesc.fdseq, a sequence number");

    let (service, events) = SpyService::new(WritesToFirst::default());
    let (fixture, addr) = Fixture::listening(service, Policy::default(), ListenOptions::default())?;
    let mut first = connect(addr)?;
    let old = events.next_open()?;
    first.write_all(b"bye")?;
    events.next_close(old)?;
    let mut second = connect(addr)?;
    let new = events.next_open()?;
    transcript
        .reactor(format_args!("{old} is closed, and the next connection is {new}: the same slot, another generation"));
    second.write_all(b"anything")?;
    let received = read_for(&mut second, SILENCE)?;
    let stale_commands = fixture.ledger()?.stale_commands;
    transcript.we(format_args!("a service sends a secret to {old}, which it has remembered"));
    let text = String::from_utf8_lossy(&received);
    transcript.reactor(format_args!("stale_commands = {stale_commands}; {new} reads {text:?} and no secret"));
    drop((first, second));
    fixture.stop()?;

    let event = stale_event(transcript)?;
    Ok(judge(&Measured { naive, checked, old, new, received, stale_commands, event }))
}

/// A loop over a table of slots, whose events name a slot. With `checked`, each slot and each event have a generation,
/// too.
fn by_hand(transcript: &mut Transcript<'_>, checked: bool) -> Result<ByHand> {
    let listener = std::net::TcpListener::bind(LOOPBACK)?;
    let addr = listener.local_addr()?;
    let mut poll = Poll::new()?;
    let mut generation = NonZeroU32::MIN;
    let mut admit = |poll: &Poll, slot: u32| -> Result<(TcpStream, (SourceId, mio::net::TcpStream))> {
        let peer = connect(addr)?;
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let id = SourceId::new(slot, generation);
        generation = generation.saturating_add(1);
        poll.registry().register(&mut stream, Token(id.to_word()), Interest::READABLE)?;
        Ok((peer, (id, stream)))
    };
    let (mut a, source) = admit(&poll, 0)?;
    let mut table = vec![Some(source)];
    let (b, source) = admit(&poll, 1)?;
    let old = source.0;
    table.push(Some(source));
    let mut events = Events::with_capacity(8);
    a.write_all(b"kick B")?;
    drop(b);
    let is_unreadable = |stream: &mio::net::TcpStream| matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    wait_until("both sockets are readable", || Ok(!table.iter().flatten().any(|(_, stream)| is_unreadable(stream))))?;
    poll.poll(&mut events, Some(SILENCE))?;
    let named = events.iter().filter_map(|event| Some((SourceId::from_word(event.token().0)?, event.is_read_closed())));
    let mut batch: Vec<_> = named.collect();
    batch.sort_unstable_by_key(|(id, _)| id.slot());

    let mut second = None;
    for &(id, is_over) in &batch {
        if id.slot() == 0 {
            table[1] = None;
            let (peer, source) = admit(&poll, 1)?;
            second = Some((peer, source.0));
            table[1] = Some(source);
        } else if let Some((owner, _)) = &table[id.slot()]
            && (!checked || *owner == id)
            && is_over
        {
            table[id.slot()] = None;
        }
    }
    let Some((mut peer, new)) = second else { return Err(Error::new("the input of A has no event")) };
    peer.set_read_timeout(Some(SILENCE))?;
    let new_one_survives = matches!(peer.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    transcript.kernel(format_args!("{} events in one batch: bytes of A, the end of B", batch.len()));
    transcript.we(format_args!(
        "handle the first: close B, {old}, and let C in, {new}. Handle the second, for slot {}",
        new.slot()
    ));
    if new_one_survives {
        transcript.we(format_args!("it is for {old}, and the slot is {new}'s: discarded. C stays open"));
    } else {
        transcript.we("it reports the end of slot 1, so close it. C is the wrong one: its peer reads the end of file");
    }
    Ok(ByHand { events: batch.len(), same_slot: old.slot() == new.slot(), new_one_survives })
}

/// Provokes an event for a connection that the loop has closed. The kernel removes a registration with the last
/// descriptor of a socket (epoll(7), question 6). A duplicate keeps it, as a child process may inherit one.
fn stale_event(transcript: &mut Transcript<'_>) -> Result<Option<StaleEvent>> {
    let (service, events) = SpyService::new(WritesToFirst::default());
    let (fixture, addr) = Fixture::listening(service, Policy::default(), ListenOptions::default())?;
    let mut first = connect(addr)?;
    let old = events.next_open()?;
    let _copy = match duplicate(addr, first.local_addr()?) {
        Some(Ok(copy)) => copy,
        Some(Err(error)) => {
            transcript
                .kernel(format_args!("a stale event needs pidfd_getfd(2), which fails: {}", kernel::name_of(&error)));
            return Ok(None);
        }
        None => {
            transcript.kernel("a stale event needs pidfd_getfd(2) of Linux: this part is left out");
            return Ok(None);
        }
    };
    transcript.we("duplicate the descriptor of a connection, as a child inherits one; the loop closes its own");
    first.write_all(b"bye")?;
    events.next_close(old)?;
    let mut second = connect(addr)?;
    let new = events.next_open()?;
    let before = fixture.ledger()?;
    first.write_all(b"too late")?;
    wait_until("the stale event arrives", || Ok(fixture.ledger()?.stale_events > before.stale_events))?;
    let after = fixture.ledger()?;
    transcript.we(format_args!("its peer writes: {old} is closed, {new} has its slot"));
    transcript.kernel("reports the bytes under the old number: only the last close ends a registration");
    let (stale, reads) = (after.stale_events, after.reads - before.reads);
    transcript.reactor(format_args!("stale_events = {stale}, and {reads} reads: {new} is not touched"));
    second.write_all(b"bye")?;
    events.next_close(new)?;
    drop((first, second));
    fixture.stop()?;
    Ok(Some(StaleEvent { same_slot: old.slot() == new.slot(), before, after }))
}

/// Duplicates the descriptor of this process's socket at `local` with the peer `peer`. `None` if there is none.
#[cfg(target_os = "linux")]
fn duplicate(local: SocketAddr, peer: SocketAddr) -> Option<std::io::Result<std::os::fd::OwnedFd>> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let name = format!("socket:[{}]", kernel::between(local, peer)?.inode);
    let links = std::fs::read_dir("/proc/self/fd").ok()?.flatten();
    let mut found = links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to.as_os_str() == &*name));
    let number = found.next()?.file_name().to_str()?.parse().ok()?;
    let copy = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|this_process| pidfd_getfd(this_process, number, PidfdGetfdFlags::empty()));
    Some(copy.map_err(std::io::Error::from))
}

#[cfg(not(target_os = "linux"))]
fn duplicate(_local: SocketAddr, _peer: SocketAddr) -> Option<std::io::Result<std::os::fd::OwnedFd>> {
    None
}

/// Reads until no byte has come for `span`.
fn read_for(stream: &mut TcpStream, span: Duration) -> Result<Vec<u8>> {
    stream.set_nonblocking(true)?;
    let (mut all, mut piece) = (Vec::new(), [0; 256]);
    while holds_within(span, || match stream.read(&mut piece) {
        Ok(n) => {
            all.extend_from_slice(&piece[..n]);
            n > 0
        }
        Err(_) => false,
    }) {}
    Ok(all)
}

fn judge(m: &Measured) -> Claims {
    let Measured { naive, checked, old, new, .. } = m;
    Claims::new()
        .claim(
            naive.events == 2 && checked.events == 2 && naive.same_slot && checked.same_slot,
            format!("two events in a batch, and a slot that changes hands between them: {}", naive.events),
        )
        .claim(!naive.new_one_survives, "an event with a slot alone closes the new connection")
        .claim(checked.new_one_survives, "an event with a generation does not")
        .claim(
            old.slot() == new.slot() && old != new,
            format!("this loop uses slots again, and never an id: {old}, {new}"),
        )
        .claim(m.stale_commands == 1, format!("a command for a closed connection is counted: {}", m.stale_commands))
        .claim(m.received == b"done", format!("and has no effect: the new connection has {} bytes", m.received.len()))
        .claim_if_known(m.event.as_ref(), |event| {
            let stale = event.after.stale_events - event.before.stale_events;
            (event.same_slot && stale >= 1, format!("an event for a closed connection is counted: {stale}"))
        })
        .claim_if_known(m.event.as_ref(), |event| {
            let calls = |ledger: &Ledger| ledger.reads + ledger.read_blocked + ledger.eofs;
            let calls = calls(&event.after) - calls(&event.before);
            (calls == 0, format!("and causes no read: {calls} calls"))
        })
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let id = |generation| ConnId::new(1, NonZeroU32::new(generation).unwrap());
        let good = Measured {
            naive: ByHand { events: 2, same_slot: true, new_one_survives: false },
            checked: ByHand { events: 2, same_slot: true, new_one_survives: true },
            old: id(2),
            new: id(3),
            received: b"done".to_vec(),
            stale_commands: 1,
            event: Some(StaleEvent {
                same_slot: true,
                before: Ledger { reads: 3, ..Ledger::default() },
                after: Ledger { reads: 3, stale_events: 1, ..Ledger::default() },
            }),
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.naive.events = 1,
                |m| m.naive.new_one_survives = true,
                |m| m.checked.new_one_survives = false,
                |m| m.new = m.old,
                |m| m.new = ConnId::new(2, NonZeroU32::MIN),
                |m| m.stale_commands = 0,
                |m| m.received = b"a secret for the first".to_vec(),
                |m| m.event.as_mut().unwrap().after.stale_events = 0,
                |m| m.event.as_mut().unwrap().after.reads = 4,
            ],
        );
    }
}
