//! The reactions of a datagram client to the events of its socket, its timers and its console.
//!
//! Owns: the callbacks of [`DatagramClient`]. Must not know: how a transition is made.

use std::net::SocketAddr;

use super::state::{Answer, Input, Output, Retry, State};
use super::{BURST_OVER, DatagramClient, READ, SILENCE, WRITE};

use crate::clients::console::ConsoleEvent;
use crate::clients::{BEAT, ClientError, Operation, RESOLVE, RETRY};
use crate::service::{DatagramContext, DatagramService, Errno, Receive, ServiceContext, SocketContext, TimerName};

impl DatagramService for DatagramClient {
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        self.socket = Some(ctx.id());
        self.attempt(ctx);
    }

    fn on_connect(&mut self, ctx: &mut SocketContext<'_>, outcome: Result<SocketAddr, Errno>) {
        let State::Connecting(to) = self.state else { return };
        let peer = &self.settings.peer;
        match outcome {
            Ok(local) if local == to => self.try_next(ctx, ClientError::self_connect(peer)),
            Ok(_) => self.connected(ctx),
            Err(errno) => self.try_next(ctx, ClientError::system(Operation::Dial, peer, errno)),
        }
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        let now = ctx.now();
        self.heartbeat.heard(now);
        self.read_looks.reset();
        self.candidates.settle();
        (self.answer, self.last_datagram, self.loss) = (Answer::Settled, now, None);
        self.settings.note_success();
        if self.state == State::Ended {
            return;
        }
        if let Output::Full { dropped } = &mut self.output {
            *dropped += 1;
            return;
        }
        self.write_notice(format!("packet-received: bytes={} from={}", payload.len(), ctx.sender()));
        let writable = self.console.write_output(payload);
        self.note_output(writable);
    }

    fn on_drain(&mut self, ctx: &mut SocketContext<'_>) {
        ctx.cancel_timer(WRITE);
        self.write_looks.reset();
        self.send_lines(ctx);
    }

    fn on_error(&mut self, ctx: &mut SocketContext<'_>, errno: Errno) {
        let peer = &self.settings.peer;
        match errno.0 {
            // The line was longer than this route takes.
            libc::EMSGSIZE => {
                self.write_notice(format!("error: write {peer}: {errno}"));
                self.unsent_lines += 1;
            }
            libc::ECONNREFUSED => self.try_next(ctx, ClientError::system(Operation::Read, peer, errno)),
            _ => self.try_next(ctx, ClientError::system(Operation::Write, peer, errno)),
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let Some(ctx) = &mut self.socket.and_then(|socket| ctx.socket(socket)) else { return };
        match timer {
            RESOLVE if self.state == State::Resolving => self.resolve_overdue(ctx),
            READ => self.answer_overdue(ctx),
            WRITE => self.write_overdue(ctx),
            BURST_OVER => self.send_lines(ctx),
            RETRY => match self.state {
                State::Waiting(Retry::Resume) => self.connected(ctx),
                State::Waiting(Retry::Reconnect) => self.attempt(ctx),
                _ => {}
            },
            SILENCE => self.end_if_silent(ctx),
            BEAT => self.beat(ctx),
            _ => {}
        }
    }
}

impl Receive<ConsoleEvent> for DatagramClient {
    fn on_post(&mut self, ctx: &mut ServiceContext, event: ConsoleEvent) {
        // The reactor opens the socket before it delivers the first event.
        let Some(ctx) = &mut self.socket.and_then(|socket| ctx.socket(socket)) else { return };
        match event {
            ConsoleEvent::Flushed => ctx.stop_reactor(),
            _ if self.state == State::Ended => {}
            // A result that comes too late is stale: each attempt resolves anew.
            ConsoleEvent::Resolved(_) if self.state != State::Resolving => {}
            ConsoleEvent::Resolved(result) => {
                ctx.cancel_timer(RESOLVE);
                match result {
                    Ok(addrs) => self.connect(ctx, addrs),
                    Err(error) => self.lose(ctx, ClientError::resolve(&self.settings.peer, error)),
                }
            }
            ConsoleEvent::Input(piece) => {
                if let Input::Open(pieces) = &mut self.input {
                    *pieces += 1;
                }
                self.lines.push(&piece);
                self.send_lines(ctx);
            }
            ConsoleEvent::InputEnd(Ok(())) => {
                self.input = Input::Ended;
                self.send_lines(ctx);
            }
            ConsoleEvent::Writable => self.resume(ctx),
            ConsoleEvent::InputEnd(outcome) | ConsoleEvent::OutputEnd(outcome) => {
                self.end(outcome.map_err(ClientError::from));
            }
        }
    }
}
