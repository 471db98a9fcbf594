//! Chat: every member of the room receives every line.
//!
//! Owns: [`Chat`], the lines of the speakers, and the check that each member receives each line once and in order. Must
//! not know: connections.
//!
//! A line ends in its speaker, its number among the lines of that speaker, and the instant at which the line was due. A
//! receiver can compute the latency from these, whatever prefix the server writes:
//!
//! ```text
//!     127.0.0.1:40312: ~~~~~~~~~ 1f3a 0002 0000004d 0000b2d05e00\n
//!     └─server's prefix┘└ fill ┘ run  speaker number  due (ns)
//!                      └──────────────── size ─────────────────┘
//! ```
//!
//! Invariants:
//! 1. A speaker sends its next line when its line before has come back.
//! 2. Every line is due to all members that are connected when it is sent. Each member receives the lines of one speaker in
//!    the order of sending.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{Completions, Protocol, ProtocolError, Redial};
use crate::load::Plan;
use crate::load::stats::Stats;

/// The length of a [`Stamp`]: four fields, each with the space before it.
const STAMP: usize = 5 + 5 + 9 + 13;

/// Sizes of a line in bytes, its line end included.
pub const SIZES: RangeInclusive<usize> = STAMP + 1..=64 * 1024;

/// The highest number of speakers: the speaker's field has 16 bits.
pub const SPEAKERS: usize = 0x1_0000;

/// Sends lines and checks the received ones.
pub struct Chat {
    speakers: usize,
    /// Distinguishes the lines of this run from those of another run in the same room.
    run: u16,
    line: Vec<u8>,
    /// By member and speaker: numbers of lines that have not arrived although later ones have.
    missing: HashMap<(usize, usize), Vec<u32>>,
    /// By speaker: the number of lines sent. A higher number in the room is a forgery.
    sent: Vec<u32>,
}

/// The state of one member.
pub struct State {
    number: usize,
    /// The greeting has arrived: from now on the server sends this member every line.
    greeted: bool,
    sent: u32,
    /// By speaker: the number of the last line received. Empty until the first line.
    received: Vec<u32>,
}

/// The fields at the end of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    run: u16,
    speaker: u16,
    number: u32,
    since: u64,
}

impl Stamp {
    /// Writes the fields in hexadecimal over `text`, which has [`STAMP`] bytes.
    fn encode(&self, text: &mut [u8]) {
        let Self { run, speaker, number, since } = *self;
        let fields = [(run.into(), 4), (speaker.into(), 4), (number.into(), 8), (since, 12)];
        let mut at = 0;
        for (value, digits) in fields {
            text[at] = b' ';
            for place in 0..digits {
                let digit = (value >> (4 * (digits - 1 - place))) & 0xf;
                text[at + 1 + place] = b"0123456789abcdef"[digit as usize];
            }
            at += 1 + digits;
        }
    }

    /// Reads the fields; `None` if `text` is not a stamp.
    fn decode(text: &[u8]) -> Option<Self> {
        let mut at = 0;
        let mut next = |digits: usize| {
            let field = text.get(at..at + 1 + digits)?;
            at += 1 + digits;
            let (b' ', hex) = (field[0], &field[1..]) else { return None };
            hex.iter().try_fold(0u64, |value, &byte| Some(value << 4 | u64::from(nibble(byte)?)))
        };
        let (run, speaker, number) = (next(4)? as u16, next(4)? as u16, next(8)? as u32);
        Some(Self { run, speaker, number, since: next(12)? })
    }
}

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl Chat {
    /// A room with `plan.speakers` speakers and lines of `plan.size` bytes.
    pub fn new(plan: &Plan) -> Self {
        let mut line = vec![b'~'; plan.size];
        line[plan.size - 1] = b'\n';
        Self {
            speakers: plan.speakers,
            run: std::process::id() as u16,
            line,
            missing: HashMap::new(),
            sent: vec![0; plan.speakers],
        }
    }

    /// Returns the stamp of a line of this run; `None` for the server's own lines and those of other clients.
    fn stamp(&self, line: &[u8]) -> Option<Stamp> {
        let (_, stamp) = line.split_at_checked(line.len().checked_sub(STAMP)?)?;
        Stamp::decode(stamp).filter(|stamp| stamp.run == self.run && usize::from(stamp.speaker) < self.speakers)
    }

    /// Checks and counts one received line.
    fn receive(
        &mut self,
        state: &mut State,
        line: &[u8],
        completions: &mut Completions<'_>,
    ) -> Result<(), ProtocolError> {
        state.greeted |= line.starts_with(b"You are ");
        let Some(stamp) = self.stamp(line) else { return Ok(()) };
        let fill = self.line.len() - 1 - STAMP;
        let text = &line[..line.len() - STAMP];
        if !text.ends_with(&self.line[..fill]) {
            return Err(ProtocolError::WrongBytes);
        }
        if state.received.is_empty() {
            state.received = vec![0; self.speakers];
        }
        let speaker = usize::from(stamp.speaker);
        if stamp.number > self.sent[speaker] {
            return Err(ProtocolError::UnsentLine);
        }
        let last = &mut state.received[speaker];
        let deliveries = &mut completions.stats.deliveries;
        if stamp.number > *last {
            if stamp.number > *last + 1 {
                self.missing.entry((state.number, speaker)).or_default().extend(*last + 1..stamp.number);
                deliveries.skipped += u64::from(stamp.number - *last - 1);
            }
            *last = stamp.number;
        } else {
            let missing = self.missing.get_mut(&(state.number, speaker));
            match missing.and_then(|lines| Some((lines.iter().position(|&line| line == stamp.number)?, lines))) {
                Some((place, lines)) => {
                    lines.remove(place);
                    deliveries.skipped -= 1;
                    deliveries.reordered += 1;
                }
                None => {
                    deliveries.duplicated += 1;
                    return Ok(());
                }
            }
        }
        deliveries.came += 1;
        deliveries.in_time += u64::from(completions.in_window);
        completions.stats.record(completions.now.saturating_sub(stamp.since));
        if speaker == state.number { completions.complete_unrecorded() } else { Ok(()) }
    }
}

impl Protocol for Chat {
    type State = State;

    const REDIAL: Redial = Redial::Never;

    fn request_len(&self) -> usize {
        self.line.len()
    }

    fn new_state(&mut self, number: usize) -> State {
        State { number, greeted: false, sent: 0, received: Vec::new() }
    }

    fn sends_requests(&self, number: usize) -> bool {
        number < self.speakers
    }

    fn has_greeting(&self, state: &State) -> Option<bool> {
        Some(state.greeted)
    }

    fn encode_request(&mut self, state: &mut State, since: u64, stats: &mut Stats, members: usize) -> &[u8] {
        state.sent += 1;
        self.sent[state.number] = state.sent;
        stats.deliveries.due += members as u64;
        let stamp = Stamp { run: self.run, speaker: state.number as u16, number: state.sent, since };
        let from = self.line.len() - 1 - STAMP;
        stamp.encode(&mut self.line[from..]);
        &self.line
    }

    fn decode(
        &mut self,
        state: &mut State,
        input: &[u8],
        completions: &mut Completions<'_>,
    ) -> Result<usize, ProtocolError> {
        let mut consumed = 0;
        while let Some(end) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let line = &input[consumed..consumed + end];
            self.receive(state, line.strip_suffix(b"\r").unwrap_or(line), completions)?;
            consumed += end + 1;
        }
        Ok(consumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_encoding_and_decoding() {
        for stamp in [
            Stamp { run: 0, speaker: 0, number: 0, since: 0 },
            Stamp { run: 0xabcd, speaker: 0xffff, number: u32::MAX, since: 0xffff_ffff_ffff },
            Stamp { run: 1, speaker: 2, number: 3, since: 4 },
        ] {
            let mut text = [0; STAMP];
            stamp.encode(&mut text);
            assert_eq!(Stamp::decode(&text), Some(stamp));
            text[7] = b'g';
            assert_eq!(Stamp::decode(&text), None);
        }
    }
}
