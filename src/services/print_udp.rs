//! The print service over UDP: shows what it gets, answers nothing.
//!
//! Owns: [`PrintUdp`], and the queue of what its [`Sink`] does not take at once. Must not know: files, terminals.
//!
//! Invariants:
//! 1. Each datagram is two lines, whatever it says: its text can neither end a line nor give orders to a terminal.
//! 2. The queue is bounded; a datagram that does not fit is dropped whole, and counted.

use std::fmt::Write;
use std::time::Duration;

use log::warn;

use crate::buffer::Buffer;
use crate::protocol::lines::push_escaped;
use crate::service::{DatagramContext, DatagramService, SocketContext, TimerName};

/// Where text goes that may not be taken at once.
pub trait Sink {
    /// Takes some of `text`, from its front, without waiting; returns how many bytes. A sink whose reader has gone takes
    /// everything: nobody minds.
    fn take(&mut self, text: &[u8]) -> usize;
}

/// Nobody reads.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, text: &[u8]) -> usize {
        text.len()
    }
}

/// Text that waits for its reader: four times the longest datagram.
const QUEUE: usize = 256 * 1024;

/// How long until a reader that has taken nothing is offered the text again.
const REST: Duration = Duration::from_millis(50);
const AGAIN: TimerName = TimerName(1);

/// Prints `packet-received: bytes=N from=ADDR` and the text.
///
/// One line end at the end of the text is left out; other control characters are shown as `\n`, `\u{1b}`, and what is not
/// UTF-8 as U+FFFD.
pub struct PrintUdp {
    sink: Box<dyn Sink>,
    queue: Buffer,
    dropped: u64,
    /// The timer is set.
    resting: bool,
}

impl PrintUdp {
    /// Prints to `sink`.
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, queue: Buffer::new(), dropped: 0, resting: false }
    }

    fn print(&mut self, ctx: &mut SocketContext) {
        while !self.queue.is_empty() {
            match self.sink.take(self.queue.as_slice()) {
                0 => {
                    if !std::mem::replace(&mut self.resting, true) {
                        ctx.set_timer(AGAIN, ctx.now() + REST, Duration::ZERO);
                    }
                    return;
                }
                n => self.queue.consume(n),
            }
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            warn!("print-udp: standard output was full: datagrams not printed: {dropped}");
        }
    }
}

impl DatagramService for PrintUdp {
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "packet-received: bytes={} from={}", payload.len(), ctx.sender());
        let line = payload.strip_suffix(b"\n").unwrap_or(payload);
        push_escaped(&mut text, line.strip_suffix(b"\r").unwrap_or(line));
        text.push('\n');
        if self.queue.len() + text.len() > QUEUE && !self.queue.is_empty() {
            if self.dropped == 0 {
                warn!("print-udp: standard output is full: datagrams are not printed");
            }
            self.dropped += 1;
            return;
        }
        self.queue.append(text.as_bytes());
        if !self.resting {
            self.print(ctx);
        }
    }

    fn on_timer(&mut self, ctx: &mut SocketContext, _timer: TimerName) {
        self.resting = false;
        self.print(ctx);
    }

    fn on_stop(&mut self, ctx: &mut SocketContext) {
        self.print(ctx);
        if !self.queue.is_empty() {
            warn!("print-udp: standard output is full: bytes not printed: {}", self.queue.len());
        }
    }
}

impl std::fmt::Debug for PrintUdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrintUdp")
            .field("queued", &self.queue.len())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What has been printed, and how much may be.
    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<(String, usize)>>);

    impl Sink for Paper {
        fn take(&mut self, text: &[u8]) -> usize {
            let (printed, room) = &mut *self.0.borrow_mut();
            let n = text.len().min(*room);
            printed.push_str(std::str::from_utf8(&text[..n]).unwrap());
            *room -= n;
            n
        }
    }

    struct Bench {
        ctx: SocketContext,
        service: PrintUdp,
        paper: Paper,
    }

    impl Bench {
        fn new(room: usize) -> Self {
            let paper = Paper::default();
            paper.0.borrow_mut().1 = room;
            Self { ctx: SocketContext::new(), service: PrintUdp::new(Box::new(paper.clone())), paper }
        }

        fn receive(&mut self, payload: &[u8]) {
            let sender = ([127, 0, 0, 1], 9).into();
            self.service.on_datagram(&mut DatagramContext::new(&mut self.ctx, 0, sender), payload);
        }

        fn printed(&self) -> String {
            std::mem::take(&mut self.paper.0.borrow_mut().0)
        }
    }

    #[test]
    fn prints_who_has_said_what_and_answers_nothing() {
        let mut bench = Bench::new(usize::MAX);
        bench.receive(b"can you hear me?\n");
        bench.receive(b"");
        let expected = "packet-received: bytes=17 from=127.0.0.1:9\ncan you hear me?\n\
                        packet-received: bytes=0 from=127.0.0.1:9\n\n";
        assert_eq!(bench.printed(), expected);
        assert!(bench.ctx.outbox().transmits().is_empty() && bench.ctx.outbox().commands().is_empty());
    }

    #[test]
    fn text_can_neither_forge_a_line_nor_reach_the_terminal_as_a_command() {
        let mut bench = Bench::new(usize::MAX);
        bench.receive(b"a\npacket-received: bytes=1 from=1.2.3.4:5\x1b[2J\xff\r\n");
        let expected = "packet-received: bytes=48 from=127.0.0.1:9\n\
                        a\\npacket-received: bytes=1 from=1.2.3.4:5\\u{1b}[2J\u{fffd}\n";
        assert_eq!(bench.printed(), expected);
    }

    #[test]
    fn what_is_not_taken_waits_and_what_does_not_fit_is_dropped() {
        let mut bench = Bench::new(10);
        bench.receive(b"first");
        assert_eq!(bench.printed(), "packet-rec");
        assert_eq!(bench.ctx.outbox_mut().take_commands().len(), 1, "one timer");
        while bench.service.dropped == 0 {
            bench.receive(&[b'x'; 60_000]);
        }
        assert!(bench.service.queue.len() <= QUEUE);
        assert!(bench.ctx.outbox().commands().is_empty(), "the timer is set already");
        bench.paper.0.borrow_mut().1 = usize::MAX;
        bench.service.on_timer(&mut bench.ctx, AGAIN);
        assert!(bench.printed().starts_with("eived: bytes=5 from=127.0.0.1:9\nfirst\npacket-received: bytes=60000"));
        assert!(bench.service.queue.is_empty() && bench.service.dropped == 0);
    }
}
