//! Lines that everybody hears.
//!
//! Owns: [`Chat`]: what speakers say, and whether each member hears each line once and in order. Must not know:
//! connections.
//!
//! A line ends in who has said it, the how-manieth of that speaker it is, and when it was due, so that whoever hears it
//! knows how long it took, whatever the server writes in front:
//!
//! ```text
//!     127.0.0.1:40312: ~~~~~~~~~ 1f3a 0002 0000004d 0000b2d05e00\n
//!     └─ the server's ─┘└ fill ┘ run  who  which    when (ns)
//!                      └──────────────── size ─────────────────┘
//! ```
//!
//! Invariants:
//! 1. A speaker's next line follows when the speaker has heard the one before.
//! 2. Every line is due to all who are connected when it is said, each of whom hears it in the order of that speaker.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{Answers, Talk};
use crate::load::Load;
use crate::load::stats::Stats;

/// The marks at the end of a line, each with the space before it.
const MARKS: usize = 5 + 5 + 9 + 13;

/// Sizes that a line may have, its line end included.
pub const SIZES: RangeInclusive<usize> = MARKS + 1..=64 * 1024;

/// As many as there are numbers for.
pub const SPEAKERS: usize = 0x1_0000;

/// Speaks and listens.
pub struct Chat {
    speakers: usize,
    /// Tells the lines of this run from those of another one in the same room.
    run: u16,
    line: Vec<u8>,
    /// For a member and a speaker: lines that are missing though later ones have come.
    missing: HashMap<(usize, usize), Vec<u32>>,
    /// How many lines each speaker has said: a higher number in the room is a forgery.
    said: Vec<u32>,
}

/// One member.
pub struct Row {
    number: usize,
    /// The server has said who it is: from now on it hears everything.
    greeted: bool,
    said: u32,
    /// The last line of each speaker that has come; empty until the first.
    heard: Vec<u32>,
}

/// What a line says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks {
    run: u16,
    speaker: u16,
    number: u32,
    since: u64,
}

impl Marks {
    /// Writes them.
    fn write(&self, line: &mut [u8]) {
        let Self { run, speaker, number, since } = *self;
        let fields = [(run.into(), 4), (speaker.into(), 4), (number.into(), 8), (since, 12)];
        let mut at = 0;
        for (value, digits) in fields {
            line[at] = b' ';
            for place in 0..digits {
                let digit = (value >> (4 * (digits - 1 - place))) & 0xf;
                line[at + 1 + place] = b"0123456789abcdef"[digit as usize];
            }
            at += 1 + digits;
        }
    }

    /// Reads them.
    fn read(marks: &[u8]) -> Option<Self> {
        let mut at = 0;
        let mut next = |digits: usize| {
            let field = marks.get(at..at + 1 + digits)?;
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
    /// As many speakers, and lines as long, as `load` asks for.
    pub fn new(load: &Load) -> Self {
        let mut line = vec![b'~'; load.size];
        line[load.size - 1] = b'\n';
        Self {
            speakers: load.speakers,
            run: std::process::id() as u16,
            line,
            missing: HashMap::new(),
            said: vec![0; load.speakers],
        }
    }

    /// What the marks of a line of ours say; `None` for the server's own lines and other people's.
    fn marks(&self, line: &[u8]) -> Option<Marks> {
        let (_, marks) = line.split_at_checked(line.len().checked_sub(MARKS)?)?;
        Marks::read(marks).filter(|marks| marks.run == self.run && usize::from(marks.speaker) < self.speakers)
    }

    fn hear(&mut self, row: &mut Row, line: &[u8], answers: &mut Answers<'_>) -> Result<(), String> {
        row.greeted |= line.starts_with(b"You are ");
        let Some(marks) = self.marks(line) else { return Ok(()) };
        let fill = self.line.len() - 1 - MARKS;
        let text = &line[..line.len() - MARKS];
        if !text.ends_with(&self.line[..fill]) {
            return Err("wrong bytes".to_owned());
        }
        if row.heard.is_empty() {
            row.heard = vec![0; self.speakers];
        }
        let speaker = usize::from(marks.speaker);
        if marks.number > self.said[speaker] {
            return Err("a line that nobody has said".to_owned());
        }
        let last = &mut row.heard[speaker];
        let deliveries = &mut answers.stats.deliveries;
        if marks.number > *last {
            if marks.number > *last + 1 {
                self.missing.entry((row.number, speaker)).or_default().extend(*last + 1..marks.number);
                deliveries.skipped += u64::from(marks.number - *last - 1);
            }
            *last = marks.number;
        } else {
            let missing = self.missing.get_mut(&(row.number, speaker));
            match missing.and_then(|lines| Some((lines.iter().position(|&line| line == marks.number)?, lines))) {
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
        deliveries.in_time += u64::from(answers.in_window);
        answers.stats.record(answers.now.saturating_sub(marks.since));
        if speaker == row.number { answers.release() } else { Ok(()) }
    }
}

impl Talk for Chat {
    type Row = Row;

    fn row(&mut self, number: usize) -> Row {
        Row { number, greeted: false, said: 0, heard: Vec::new() }
    }

    fn speaks(&self, number: usize) -> bool {
        number < self.speakers
    }

    fn is_greeted(&self, row: &Row) -> Option<bool> {
        Some(row.greeted)
    }

    fn request(&mut self, row: &mut Row, since: u64, stats: &mut Stats, members: usize) -> &[u8] {
        row.said += 1;
        self.said[row.number] = row.said;
        stats.deliveries.due += members as u64;
        let marks = Marks { run: self.run, speaker: row.number as u16, number: row.said, since };
        let from = self.line.len() - 1 - MARKS;
        marks.write(&mut self.line[from..]);
        &self.line
    }

    fn read(&mut self, row: &mut Row, input: &[u8], answers: &mut Answers<'_>) -> Result<usize, String> {
        let mut consumed = 0;
        while let Some(end) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let line = &input[consumed..consumed + end];
            self.hear(row, line.strip_suffix(b"\r").unwrap_or(line), answers)?;
            consumed += end + 1;
        }
        Ok(consumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        for marks in [
            Marks { run: 0, speaker: 0, number: 0, since: 0 },
            Marks { run: 0xabcd, speaker: 0xffff, number: u32::MAX, since: 0xffff_ffff_ffff },
            Marks { run: 1, speaker: 2, number: 3, since: 4 },
        ] {
            let mut text = [0; MARKS];
            marks.write(&mut text);
            assert_eq!(Marks::read(&text), Some(marks));
            text[7] = b'g';
            assert_eq!(Marks::read(&text), None);
        }
    }
}
