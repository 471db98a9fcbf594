//! Standard error for a loop that must not wait for it.
//!
//! Owns: [`Stderr`]. Must not know: what is said.
//!
//! A pipe holds 64 KiB (pipe(7)). When its reader sleeps, whoever writes more sleeps with it, and a server that tells of
//! every peer that misbehaves could be put to sleep by its peers. A reader that is merely slow is waited for a moment; what
//! one that has stopped does not take is counted instead, and the count is told when there is room again.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Pipe;

/// The process's standard error, as a writer that takes everything and waits no longer than its patience: what finds no
/// room is lost. All of them share the count of the lines that were.
#[derive(Debug)]
pub struct Stderr {
    patience: Duration,
}

/// The way to the reader.
#[derive(Debug)]
struct Channel {
    /// Not std's, whose lock somebody may hold who waits. `None`: standard error is closed.
    pipe: Option<Pipe>,
    /// The reader has been waited for in vain: it will not be again before there is room.
    has_stopped: bool,
    /// The last line that was written has no end.
    was_cut_off: bool,
    /// Lines that were not written since, or not to their end.
    lost: usize,
}

static CHANNEL: LazyLock<Mutex<Channel>> =
    LazyLock::new(|| Mutex::new(Channel::to(Pipe::of(io::stderr().as_fd()).ok())));

impl Stderr {
    /// For a line that is said while the loop runs: long enough for a reader that has just lost its processor, and short
    /// enough for everybody else.
    pub const MOMENT: Duration = Duration::from_millis(10);

    /// One that waits at most for `patience` for each text, and only once for each time that the reader stops.
    pub fn new(patience: Duration) -> Self {
        // Now, while there are descriptors.
        LazyLock::force(&CHANNEL);
        Self { patience }
    }

    /// Writes `text` if there is room at once; if not, nobody will miss it.
    pub fn offer(text: &str) {
        if let Some(pipe) = &mut Self::channel().pipe {
            let _ = pipe.write_if_room(text.as_bytes(), Duration::ZERO);
        }
    }

    fn channel() -> MutexGuard<'static, Channel> {
        CHANNEL.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Self::channel().tell(text, self.patience);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Channel {
    const fn to(pipe: Option<Pipe>) -> Self {
        Self { pipe, has_stopped: false, was_cut_off: false, lost: 0 }
    }

    /// Tells the reader `text`, and before that the number of the lines that it has missed.
    fn tell(&mut self, text: &[u8], patience: Duration) {
        let until = Instant::now() + patience;
        if self.lost > 0 {
            let end = if self.was_cut_off { "\n" } else { "" };
            let note = format!("{end}standard error was full: {} lines are missing here\n", self.lost);
            if self.write(note.as_bytes(), until) > 0 {
                (self.lost, self.was_cut_off) = (0, false);
            }
        }
        let written = if self.lost == 0 { self.write(text, until) } else { 0 };
        if written < text.len() {
            self.lost += text[written..].iter().filter(|&&byte| byte == b'\n').count().max(1);
            self.was_cut_off |= written > 0;
        }
    }

    /// Writes as much as there is room for, and says how much. What fails is as good as written: nobody will ever read it.
    fn write(&mut self, text: &[u8], until: Instant) -> usize {
        let Some(pipe) = &mut self.pipe else { return text.len() };
        let mut written = 0;
        while written < text.len() {
            let patience =
                if self.has_stopped { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
            let outcome = pipe.write_if_room(&text[written..], patience);
            self.has_stopped = matches!(outcome, Ok(None));
            match outcome {
                Ok(Some(n)) => written += n,
                Ok(None) => break,
                Err(_) => return text.len(),
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    const NOBODY_WAITS: Duration = Duration::ZERO;

    /// Everything that is in the pipe.
    fn drain(mut pipe: PipeReader, channel: Channel) -> String {
        drop(channel);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_the_count_is_told() {
        let (mut pipe, writer) = pipe().unwrap();
        let mut channel = Channel::to(Some(Pipe::of(writer.as_fd()).unwrap()));
        drop(writer);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..1000 {
            channel.tell(&line, NOBODY_WAITS);
        }
        let lost = channel.lost;
        assert!(channel.has_stopped && lost > 900, "{channel:?}");
        let mut some = vec![0; 32 * 1024];
        pipe.read_exact(&mut some).unwrap();
        channel.tell(b"again\n", NOBODY_WAITS);
        assert!(!channel.has_stopped && channel.lost == 0, "{channel:?}");
        let rest = drain(pipe, channel);
        assert!(
            rest.ends_with(&format!("\nstandard error was full: {lost} lines are missing here\nagain\n")),
            "{rest}"
        );
        assert_eq!((some.len() + rest.len()) / 1000, 1000 - lost);
    }

    #[test]
    fn a_long_text_is_cut_off_and_the_next_line_begins_on_its_own() {
        let (mut pipe, writer) = pipe().unwrap();
        let mut channel = Channel::to(Some(Pipe::of(writer.as_fd()).unwrap()));
        drop(writer);
        channel.tell(&b"0123456789abcde\n".repeat(65_536), NOBODY_WAITS);
        assert!(channel.was_cut_off, "{channel:?}");
        let mut some = vec![0; 32 * 1024 + 5];
        pipe.read_exact(&mut some).unwrap();
        channel.tell(b"again\n", NOBODY_WAITS);
        let rest = drain(pipe, channel);
        let last: Vec<_> = rest.lines().rev().take(3).collect();
        assert_eq!(last[0], "again");
        assert!(last[1].starts_with("standard error was full: "), "{last:?}");
        assert!("0123456789abcde".starts_with(last[2]), "{last:?}");
    }

    #[test]
    fn a_reader_that_has_gone_is_not_missed() {
        let (pipe, writer) = pipe().unwrap();
        drop(pipe);
        let mut channel = Channel::to(Some(Pipe::of(writer.as_fd()).unwrap()));
        drop(writer);
        channel.tell(b"to nobody\n", NOBODY_WAITS);
        assert_eq!((channel.lost, channel.has_stopped), (0, false));
    }
}
