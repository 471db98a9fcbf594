//! Standard error for a loop that must not wait for it.
//!
//! Owns: [`Stderr`]. Must not know: the text.
//!
//! A pipe holds 64 KiB (pipe(7)). If its reader stalls, a blocking writer of more stalls with it, and a server that
//! logs each misbehaving peer could be stalled by its peers. So a write waits a moment for a slow reader. Lines that a
//! stalled reader does not take are dropped and counted, and the count is written when there is room again.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Pipe;

/// The process's standard error, as a writer that accepts all text and waits at most its timeout. Text without
/// room is dropped. All values of this type share one count of the dropped lines.
#[derive(Debug)]
pub struct Stderr {
    timeout: Duration,
}

/// A writer that drops and counts the lines for which there is no room.
#[derive(Debug)]
struct LossyWriter {
    /// Not std's handle, whose lock a blocked thread may hold. `None` if standard error is closed.
    pipe: Option<Pipe>,
    /// The last wait for the reader timed out. The next write does not wait, until there is room.
    stalled: bool,
    /// The last line was written in part.
    truncated: bool,
    /// Lines dropped since, those in part included.
    dropped: usize,
}

static WRITER: LazyLock<Mutex<LossyWriter>> =
    LazyLock::new(|| Mutex::new(LossyWriter::new(Pipe::open(io::stderr().as_fd()).ok())));

impl Stderr {
    /// The timeout of a line that is logged while the loop runs. A reader that has just lost its processor catches up
    /// within it, and the peers that wait meanwhile are hardly delayed.
    pub const LINE_TIMEOUT: Duration = Duration::from_millis(10);

    /// A writer that waits at most `timeout` for each text, and only once each time the reader stalls.
    pub fn with_timeout(timeout: Duration) -> Self {
        // Opened now, while there are descriptors.
        LazyLock::force(&WRITER);
        Self { timeout }
    }

    /// Writes `text` if there is room at once; otherwise discards it uncounted, as a progress bar may.
    pub fn try_write(text: &str) {
        if let Some(pipe) = &mut Self::writer().pipe {
            let _ = pipe.write_within(text.as_bytes(), Duration::ZERO);
        }
    }

    fn writer() -> MutexGuard<'static, LossyWriter> {
        WRITER.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Self::writer().write(text, self.timeout);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LossyWriter {
    const fn new(pipe: Option<Pipe>) -> Self {
        Self { pipe, stalled: false, truncated: false, dropped: 0 }
    }

    /// Writes `text` within `timeout`, and before it the number of the dropped lines.
    fn write(&mut self, text: &[u8], timeout: Duration) {
        let until = Instant::now() + timeout;
        if self.dropped > 0 {
            let end = if self.truncated { "\n" } else { "" };
            let notice = format!("{end}standard error was full: {} lines are missing here\n", self.dropped);
            if self.write_until(notice.as_bytes(), until) > 0 {
                (self.dropped, self.truncated) = (0, false);
            }
        }
        let written = if self.dropped == 0 { self.write_until(text, until) } else { 0 };
        if written < text.len() {
            self.dropped += text[written..].iter().filter(|&&byte| byte == b'\n').count().max(1);
            self.truncated |= written > 0;
        }
    }

    /// Writes the front of `text` until `until`. Returns the number of bytes. After an error all bytes count as
    /// written: no reader can miss them.
    fn write_until(&mut self, text: &[u8], until: Instant) -> usize {
        let Some(pipe) = &mut self.pipe else { return text.len() };
        let mut written = 0;
        while written < text.len() {
            let timeout = if self.stalled { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
            let outcome = pipe.write_within(&text[written..], timeout);
            self.stalled = matches!(outcome, Ok(None));
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

    const NO_WAIT: Duration = Duration::ZERO;

    /// Reads a pipe to its end.
    fn drain(mut pipe: PipeReader, writer: LossyWriter) -> String {
        drop(writer);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    fn lossy_pipe() -> (PipeReader, LossyWriter) {
        let (reader, writer) = pipe().unwrap();
        (reader, LossyWriter::new(Some(Pipe::open(writer.as_fd()).unwrap())))
    }

    #[test]
    fn dropped_lines_are_counted_and_the_count_is_written() {
        let (mut pipe, mut writer) = lossy_pipe();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..1000 {
            writer.write(&line, NO_WAIT);
        }
        let dropped = writer.dropped;
        assert!(writer.stalled && dropped > 900, "{writer:?}");
        let mut some = vec![0; 32 * 1024];
        pipe.read_exact(&mut some).unwrap();
        writer.write(b"again\n", NO_WAIT);
        assert!(!writer.stalled && writer.dropped == 0, "{writer:?}");
        let rest = drain(pipe, writer);
        assert!(
            rest.ends_with(&format!("\nstandard error was full: {dropped} lines are missing here\nagain\n")),
            "{rest}"
        );
        assert_eq!((some.len() + rest.len()) / 1000, 1000 - dropped);
    }

    #[test]
    fn a_long_text_is_truncated_and_the_next_line_begins_on_its_own() {
        let (mut pipe, mut writer) = lossy_pipe();
        writer.write(&b"0123456789abcde\n".repeat(65_536), NO_WAIT);
        assert!(writer.truncated, "{writer:?}");
        let mut some = vec![0; 32 * 1024 + 5];
        pipe.read_exact(&mut some).unwrap();
        writer.write(b"again\n", NO_WAIT);
        let rest = drain(pipe, writer);
        let last: Vec<_> = rest.lines().rev().take(3).collect();
        assert_eq!(last[0], "again");
        assert!(last[1].starts_with("standard error was full: "), "{last:?}");
        assert!("0123456789abcde".starts_with(last[2]), "{last:?}");
    }

    #[test]
    fn text_without_a_reader_is_not_counted() {
        let (pipe, mut writer) = lossy_pipe();
        drop(pipe);
        writer.write(b"unread\n", NO_WAIT);
        assert_eq!((writer.dropped, writer.stalled), (0, false));
    }
}
