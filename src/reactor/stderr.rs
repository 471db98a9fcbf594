//! Standard error for a loop that must not wait for it.
//!
//! Owns: [`Stderr`]. Must not know: what is said.
//!
//! A pipe holds 64 KiB (pipe(7)). When its reader sleeps, whoever writes more sleeps with it, and a server that tells of
//! every peer that misbehaves could be put to sleep by its peers. A reader that is merely slow is waited for a moment; what
//! one that has stopped does not take is counted instead, and the count is told when there is room again.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::pipe::write_if_room;

/// The process's standard error, as a writer that takes everything and waits no longer than its patience: what finds no
/// room is lost. All of them share the count of the lines that were.
#[derive(Debug)]
pub struct Stderr {
    patience: Duration,
}

/// How it stands with the reader.
#[derive(Debug, Default)]
struct Reader {
    /// It has been waited for in vain: it will not be again before there is room.
    has_stopped: bool,
    /// The last line that it has been given has no end.
    was_cut_off: bool,
    /// Lines that it has not been given since, or not to their end.
    lost: usize,
}

static READER: Mutex<Reader> = Mutex::new(Reader { has_stopped: false, was_cut_off: false, lost: 0 });

impl Stderr {
    /// For what is said while the loop runs: long enough for a reader that has just lost its processor, and short enough
    /// for everybody else.
    pub const MOMENT: Duration = Duration::from_millis(10);

    /// One that waits at most for `patience`, once for each time that the reader stops.
    pub const fn new(patience: Duration) -> Self {
        Self { patience }
    }
}

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
        reader.give(&mut io::stderr().lock(), self.patience, text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    /// Gives it `text`, and before that the number of the lines that it has missed.
    fn give(&mut self, stream: &mut (impl Write + AsFd), patience: Duration, text: &[u8]) {
        if self.lost > 0 {
            let end = if self.was_cut_off { "\n" } else { "" };
            let note = format!("{end}standard error was full: {} lines are missing here\n", self.lost);
            if self.take(stream, patience, note.as_bytes()) > 0 {
                (self.lost, self.was_cut_off) = (0, false);
            }
        }
        let taken = if self.lost == 0 { self.take(stream, patience, text) } else { 0 };
        if taken < text.len() {
            self.lost += text[taken..].iter().filter(|&&byte| byte == b'\n').count().max(1);
            self.was_cut_off |= taken > 0;
        }
    }

    /// Takes as much as there is room for. What fails is as good as taken: nobody will ever read it.
    fn take(&mut self, stream: &mut (impl Write + AsFd), patience: Duration, text: &[u8]) -> usize {
        let mut taken = 0;
        while taken < text.len() {
            let patience = if self.has_stopped { Duration::ZERO } else { patience };
            let written = write_if_room(stream, &text[taken..], patience);
            self.has_stopped = matches!(written, Ok(None));
            match written {
                Ok(Some(n)) => taken += n,
                Ok(None) => break,
                Err(_) => return text.len(),
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read, pipe};

    use super::*;

    const NOBODY_WAITS: Duration = Duration::ZERO;

    /// Everything that is in the pipe.
    fn drain(mut pipe: PipeReader, writer: PipeWriter) -> String {
        drop(writer);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_the_count_is_told() {
        let (mut pipe, mut writer) = pipe().unwrap();
        let mut reader = Reader::default();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..1000 {
            reader.give(&mut writer, NOBODY_WAITS, &line);
        }
        let lost = reader.lost;
        assert!(reader.has_stopped && lost > 900, "{reader:?}");
        let mut some = vec![0; 32 * 1024];
        pipe.read_exact(&mut some).unwrap();
        reader.give(&mut writer, NOBODY_WAITS, b"again\n");
        assert!(!reader.has_stopped && reader.lost == 0, "{reader:?}");
        let rest = drain(pipe, writer);
        assert!(
            rest.ends_with(&format!("\nstandard error was full: {lost} lines are missing here\nagain\n")),
            "{rest}"
        );
        assert_eq!((some.len() + rest.len()) / 1000, 1000 - lost);
    }

    #[test]
    fn a_long_text_is_cut_off_and_the_next_line_begins_on_its_own() {
        let (mut pipe, mut writer) = pipe().unwrap();
        let mut reader = Reader::default();
        reader.give(&mut writer, NOBODY_WAITS, &b"0123456789abcde\n".repeat(65_536));
        assert!(reader.was_cut_off, "{reader:?}");
        let mut some = vec![0; 32 * 1024 + 5];
        pipe.read_exact(&mut some).unwrap();
        reader.give(&mut writer, NOBODY_WAITS, b"again\n");
        let rest = drain(pipe, writer);
        let last: Vec<_> = rest.lines().rev().take(3).collect();
        assert_eq!(last[0], "again");
        assert!(last[1].starts_with("standard error was full: "), "{last:?}");
        assert!("0123456789abcde".starts_with(last[2]), "{last:?}");
    }

    #[test]
    fn a_reader_that_has_gone_is_not_missed() {
        let (pipe, mut writer) = pipe().unwrap();
        drop(pipe);
        let mut reader = Reader::default();
        reader.give(&mut writer, NOBODY_WAITS, b"to nobody\n");
        assert_eq!((reader.lost, reader.has_stopped), (0, false));
    }
}
