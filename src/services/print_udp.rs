//! The print service over UDP: prints each datagram, answers nothing.
//!
//! Owns: [`PrintUdp`], and the queue of text that its [`Sink`] does not take at once. Must not know: files, terminals.
//!
//! Invariants:
//! 1. Each datagram becomes two lines, whatever its bytes: they can neither end a line nor control a terminal.
//! 2. The queue is bounded. The service drops a datagram that does not fit, whole, and counts it.

use std::fmt::Write;
use std::time::Duration;

use log::warn;

use crate::buffer::Buffer;
use crate::protocol::lines::push_escaped;
use crate::service::{DatagramContext, DatagramService, ServiceContext, TimerName};

/// The destination of text, which may be full for a while.
pub trait Sink {
    /// Takes bytes off the front of `text` without waiting, and returns their number. A sink without a reader takes all
    /// bytes, so that the queue does not fill for ever.
    fn take(&mut self, text: &[u8]) -> usize;
}

/// Discards text.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, text: &[u8]) -> usize {
        text.len()
    }
}

/// The bound of the queue, in bytes: four times the longest datagram.
const QUEUE: usize = 256 * 1024;

/// The time until the service offers text again to a sink that was full.
const BACKOFF: Duration = Duration::from_millis(50);
const RETRY: TimerName = TimerName(1);

/// Prints `packet-received: bytes=N from=ADDR` and the text.
///
/// The text loses one line end at its end. Other control characters appear as `\n`, `\u{1b}` and the like, and bytes that
/// are not UTF-8 as U+FFFD.
pub struct PrintUdp {
    sink: Box<dyn Sink>,
    queue: Buffer,
    dropped: u64,
    /// The timer is set.
    backs_off: bool,
}

impl PrintUdp {
    /// Prints to `sink`.
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, queue: Buffer::new(), dropped: 0, backs_off: false }
    }

    fn print(&mut self, ctx: &mut ServiceContext) {
        while !self.queue.is_empty() {
            match self.sink.take(self.queue.as_slice()) {
                0 => {
                    if !std::mem::replace(&mut self.backs_off, true) {
                        ctx.set_timer(RETRY, ctx.now() + BACKOFF, Duration::ZERO);
                    }
                    return;
                }
                n => self.queue.consume(n),
            }
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            warn!("print-udp: the output was full: datagrams not printed: {dropped}");
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
                warn!("print-udp: the output is full: datagrams are not printed");
            }
            self.dropped += 1;
            return;
        }
        self.queue.append(text.as_bytes());
        if !self.backs_off {
            self.print(ctx);
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        self.backs_off = false;
        self.print(ctx);
    }

    fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        self.print(ctx);
        if !self.queue.is_empty() {
            warn!("print-udp: the output is full: bytes not printed: {}", self.queue.len());
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
    use crate::service::Probe;

    /// The printed text, and the number of bytes that still fit.
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
        probe: Probe,
        service: PrintUdp,
        paper: Paper,
    }

    impl Bench {
        fn new(room: usize) -> Self {
            let paper = Paper::default();
            paper.0.borrow_mut().1 = room;
            Self { probe: Probe::new(), service: PrintUdp::new(Box::new(paper.clone())), paper }
        }

        fn receive(&mut self, payload: &[u8]) {
            let (service, sender) = (&mut self.service, ([127, 0, 0, 1], 9).into());
            self.probe.on_datagram(Probe::socket(1), sender, payload, |ctx, payload| service.on_datagram(ctx, payload));
        }

        fn printed(&self) -> String {
            std::mem::take(&mut self.paper.0.borrow_mut().0)
        }
    }

    #[test]
    fn a_datagram_is_printed_with_its_sender_and_not_answered() {
        let mut bench = Bench::new(usize::MAX);
        bench.receive(b"can you hear me?\n");
        bench.receive(b"");
        let expected = "packet-received: bytes=17 from=127.0.0.1:9\ncan you hear me?\n\
                        packet-received: bytes=0 from=127.0.0.1:9\n\n";
        assert_eq!(bench.printed(), expected);
        assert!(bench.probe.take_datagrams().is_empty() && bench.probe.take_commands().is_empty());
    }

    #[test]
    fn a_datagram_can_neither_forge_a_line_nor_control_a_terminal() {
        let mut bench = Bench::new(usize::MAX);
        bench.receive(b"a\npacket-received: bytes=1 from=1.2.3.4:5\x1b[2J\xff\r\n");
        let expected = "packet-received: bytes=48 from=127.0.0.1:9\n\
                        a\\npacket-received: bytes=1 from=1.2.3.4:5\\u{1b}[2J\u{fffd}\n";
        assert_eq!(bench.printed(), expected);
    }

    #[test]
    fn text_waits_for_the_sink_and_is_dropped_past_the_bound() {
        let mut bench = Bench::new(10);
        bench.receive(b"first");
        assert_eq!(bench.printed(), "packet-rec");
        assert_eq!(bench.probe.take_commands().len(), 1, "one timer");
        while bench.service.dropped == 0 {
            bench.receive(&[b'x'; 60_000]);
        }
        assert!(bench.service.queue.len() <= QUEUE);
        assert!(bench.probe.take_commands().is_empty(), "the timer is set already");
        bench.paper.0.borrow_mut().1 = usize::MAX;
        bench.probe.call(|ctx| bench.service.on_timer(ctx, RETRY));
        assert!(bench.printed().starts_with("eived: bytes=5 from=127.0.0.1:9\nfirst\npacket-received: bytes=60000"));
        assert!(bench.service.queue.is_empty() && bench.service.dropped == 0);
    }
}
