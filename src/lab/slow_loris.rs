//! `slow-loris`: a client that sends one byte now and then keeps a connection for ever, if only silence ends the
//! connection. A deadline that bytes do not renew ends it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, connect, listen, sleep};
use super::kernel;
use super::spy::{Callback, Events, SpyService};
use super::transcript::{Claims, Result, Transcript};
use crate::limits::Policy;
use crate::reactor::{Ledger, ListenOptions};
use crate::service::{CloseReason, Context, Service};
use crate::services::Idle;
use crate::timer::{Deadline, Time};

/// The interval between two bytes.
const PACE: Duration = Duration::from_millis(25);
/// The idle timeout of the first server.
const IDLE: Duration = Duration::from_millis(400);
/// The deadline of the second server, from the beginning of the connection.
const WHOLE: Duration = Duration::from_millis(600);
const SLACK: Duration = Duration::from_millis(700);

/// Sets one read deadline for all input of a connection.
struct AbsoluteDeadline;

impl Service for AbsoluteDeadline {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let due = ctx.now() + WHOLE;
        ctx.set_deadline(Deadline::Read, due);
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

/// The end of one of the connections, with the loop's times.
#[derive(Clone, Debug)]
struct End {
    reason: CloseReason,
    lasted: Duration,
    bytes: usize,
    silence: Duration,
}

#[derive(Clone, Debug)]
struct Measured {
    idle: End,
    in_time: End,
    goodbye: Vec<u8>,
    ledger: Ledger,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let (idle, idle_events) = SpyService::new(Idle);
    let (in_time, in_time_events) = SpyService::new(AbsoluteDeadline);
    let (fixture, (idle_addr, in_time_addr)) = Fixture::new(move |reactor| {
        let idle = reactor.add_service("idle", Box::new(idle));
        let in_time = reactor.add_service("in time", Box::new(in_time));
        let policy = Policy { idle_timeout: IDLE.into(), ..Policy::default() };
        let options = ListenOptions::default();
        Ok((listen(reactor, idle, &options, policy)?, listen(reactor, in_time, &options, Policy::default())?))
    })?;
    let (idle_ms, whole_ms, pace_ms) = (IDLE.as_millis(), WHOLE.as_millis(), PACE.as_millis());
    transcript
        .we(format_args!("two servers: one ends after {idle_ms} ms of silence, one {whole_ms} ms after the beginning"));
    transcript.go(format_args!("SetReadDeadline(now + {idle_ms} ms) before each Read; or once, at the beginning"));
    transcript.we(format_args!("to each a request, one byte every {pace_ms} ms"));

    let (mut at_idle, mut at_in_time) = (connect(idle_addr)?, connect(in_time_addr)?);
    let start = Instant::now();
    let (mut sent, mut refusal) = (0, None);
    while start.elapsed() < 2 * WHOLE {
        at_idle.write_all(b"x")?;
        // The closed connection answers with RST, and the next write fails.
        if refusal.is_none()
            && let Err(error) = at_in_time.write_all(b"x")
        {
            refusal = Some((start.elapsed().as_millis(), kernel::name_of(&error)));
        }
        sent += 1;
        sleep(PACE);
    }
    if let Some((millis, errno)) = refusal {
        transcript.kernel(format_args!("at the second server: write = {errno}, {millis} ms after the first byte"));
    }
    let in_time = end(&in_time_events)?;
    transcript.reactor(format_args!(
        "{:.1} ms after the beginning, {:.0} ms after the last of {} bytes: {}",
        in_time.lasted.as_secs_f64() * 1e3,
        in_time.silence.as_secs_f64() * 1e3,
        in_time.bytes,
        in_time.reason
    ));
    transcript
        .we(format_args!("{sent} bytes in {} ms, then silence for the first server", start.elapsed().as_millis()));
    let goodbye = read_rest(&mut at_idle)?;
    drop((at_idle, at_in_time));
    let idle = end(&idle_events)?;
    transcript.reactor(format_args!(
        "{:.1} ms after the beginning, {:.1} ms after the last of {} bytes: {:?}",
        idle.lasted.as_secs_f64() * 1e3,
        idle.silence.as_secs_f64() * 1e3,
        idle.bytes,
        String::from_utf8_lossy(&goodbye)
    ));
    let (_, ledger) = fixture.stop()?;
    let Ledger { timers_set, timers_fired, bytes_in, .. } = ledger;
    transcript.reactor(format_args!(
        "timers_set = {timers_set}, timers_fired = {timers_fired} for {bytes_in} bytes: to push a deadline is a store"
    ));
    transcript.go("http.Server.ReadHeaderTimeout is the absolute one; by default there is none");
    Ok(judge(&Measured { idle, in_time, goodbye, ledger }))
}

fn read_rest(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    Ok(rest)
}

/// The end of the only connection in `events`. A reported deadline is the end, whatever follows.
fn end(events: &Events) -> Result<End> {
    let (mut opened, mut last, mut bytes, mut lapsed) = (Time::ZERO, Time::ZERO, 0, None);
    events.wait_for("the connection closes", |event| match event.callback {
        Callback::Open => {
            (opened, last) = (event.at, event.at);
            None
        }
        Callback::Data(n) => {
            (last, bytes) = (event.at, bytes + n);
            None
        }
        Callback::Deadline(which) => {
            lapsed = Some((event.at, CloseReason::Deadline(which)));
            None
        }
        Callback::Close(reason) => {
            let (at, reason) = lapsed.unwrap_or((event.at, reason));
            Some(End { reason, lasted: at.since(opened), bytes, silence: at.since(last) })
        }
        Callback::Eof | Callback::DialError(_) => None,
    })
}

fn judge(m: &Measured) -> Claims {
    let Measured { idle, in_time, ledger, .. } = m;
    let millis = |span: Duration| format!("{:.1} ms", span.as_secs_f64() * 1e3);
    let few = ledger.timers_set < ledger.bytes_in;
    Claims::new()
        .claim(
            idle.lasted >= 2 * WHOLE && idle.bytes > in_time.bytes,
            format!("a byte now and then beats an idle timeout of {}: {}", millis(IDLE), millis(idle.lasted)),
        )
        .claim(
            idle.reason == CloseReason::Deadline(Deadline::Idle) && m.goodbye == b"goodbye\n",
            format!("only silence ends it: {}", idle.reason),
        )
        .claim(
            (IDLE..IDLE + SLACK).contains(&idle.silence),
            format!("never early, and not much later: {} of silence", millis(idle.silence)),
        )
        .claim(
            in_time.reason == CloseReason::Deadline(Deadline::Read),
            format!("an absolute deadline ends it: {}", in_time.reason),
        )
        .claim(
            (WHOLE..WHOLE + SLACK).contains(&in_time.lasted),
            format!("never early, and not much later: {} of {}", millis(in_time.lasted), millis(WHOLE)),
        )
        .claim(
            in_time.silence < IDLE && in_time.bytes > 1,
            format!("whatever has just arrived: {} bytes, the last {} before", in_time.bytes, millis(in_time.silence)),
        )
        .claim(few, format!("bytes push deadlines without a timer each: {} timers set", ledger.timers_set))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let idle = CloseReason::Deadline(Deadline::Idle);
        let good = Measured {
            idle: End { reason: idle, lasted: 2 * WHOLE + IDLE, bytes: 48, silence: IDLE },
            in_time: End { reason: CloseReason::Deadline(Deadline::Read), lasted: WHOLE, bytes: 24, silence: PACE },
            goodbye: b"goodbye\n".to_vec(),
            ledger: Ledger { timers_set: 7, bytes_in: 72, ..Ledger::default() },
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.idle.lasted = IDLE,
                |m| m.idle.bytes = 24,
                |m| m.idle.reason = CloseReason::Finished,
                |m| m.goodbye.clear(),
                |m| m.idle.silence = IDLE - PACE,
                |m| m.in_time.reason = CloseReason::Deadline(Deadline::Idle),
                |m| m.in_time.lasted = WHOLE - PACE,
                |m| m.in_time.lasted = WHOLE + SLACK,
                |m| m.in_time.silence = IDLE,
                |m| m.ledger.timers_set = 72,
            ],
        );
    }
}
