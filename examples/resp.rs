//! A small Redis: strings, expiry, and publish/subscribe over RESP2, the protocol of redis-cli.
//!
//! - **Run** `cargo run --release --example resp 127.0.0.1:6379`
//! - **Try** `redis-cli set answer 42`, `redis-cli expire answer 10`, `redis-cli subscribe news` beside
//!   `redis-cli publish news hello`, and `redis-benchmark -t set,get -P 16 -q`. `echo PING | nc -q1 127.0.0.1 6379` sends
//!   an inline command.
//! - **Notice** that `on_data` is a loop over the requests of one read, so the answers to 16 pipelined requests are one
//!   write. A client that does not read its answers gets congested, and the loop leaves its further requests unread. A
//!   subscriber that does not read would hold up the publisher: `broadcast` drops that subscriber instead. All keys share
//!   one timer. Each size that a client announces has a limit, checked before the bytes arrive.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::time::Duration;
use std::{env, process};

use reactor::service::TimerName;
use reactor::{CloseReason, ConnId, ConnMap, Context, ListenOptions, Policy, Reactor, Service, ServiceContext, Time};

/// The longest request, its most arguments, and its longest line. Redis has no limit for the first, 1,048,576 arguments of
/// 512 MiB, and 64 KiB for a line.
const MAX_REQUEST: usize = 1024 * 1024;
const MAX_ARGS: i64 = 1024;
const MAX_LINE: usize = 64 * 1024;

/// The bound for all keys, values and channel names (`maxmemory`), and the cost of an entry besides its bytes.
const MAX_MEMORY: usize = 256 * 1024 * 1024;
const ENTRY: usize = 128;

const FULL: &[u8] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
const COMMANDS: [&str; 9] = ["get", "set", "del", "ping", "echo", "expire", "ttl", "subscribe", "publish"];

/// Takes a line from the front of `rest`, and returns the line without its end. The error is `None` for a partial line.
fn line<'a>(rest: &mut &'a [u8], what: &str) -> Result<&'a [u8], Option<String>> {
    let end = rest.iter().take(MAX_LINE).position(|&byte| byte == b'\n');
    let (line, after) = rest.split_at(end.ok_or_else(|| (rest.len() >= MAX_LINE).then(|| format!("too big {what}")))?);
    *rest = &after[1..];
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

fn number<T: std::str::FromStr + PartialOrd>(digits: &[u8], most: T, error: &str) -> Result<T, Option<String>> {
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= most).ok_or_else(|| Some(error.to_owned()))
}

/// Decodes the request at the front of `input`. Returns its arguments in `args`, and the input after the request.
fn decode<'a>(input: &'a [u8], args: &mut Vec<&'a [u8]>) -> Result<&'a [u8], Option<String>> {
    args.clear();
    let mut rest = input;
    let head = line(&mut rest, if input.starts_with(b"*") { "mbulk count string" } else { "inline request" })?;
    let Some(count) = head.strip_prefix(b"*") else {
        args.extend(head.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()));
        return Ok(rest);
    };
    for _ in 0..number(count, MAX_ARGS, "invalid multibulk length")? {
        let head = line(&mut rest, "bulk count string")?;
        let unexpected = || Some(format!("expected '$', got '{:.1}'", String::from_utf8_lossy(head)));
        let digits = head.strip_prefix(b"$").ok_or_else(unexpected)?;
        let length = number(digits, MAX_REQUEST.saturating_sub(input.len() - rest.len()), "invalid bulk length")?;
        args.push(rest.get(..length).ok_or(None)?);
        rest = rest.get(length + 2..).ok_or(None)?;
    }
    Ok(rest)
}

fn bulk(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else { return output.extend_from_slice(b"$-1\r\n") };
    let _ = write!(output, "${}\r\n", bytes.len());
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

fn reply(ctx: &mut Context<'_>, text: impl std::fmt::Display) {
    let _ = ctx.send_with(|output| write!(output, "{text}\r\n"));
}

#[derive(Default)]
struct Resp {
    /// Each key with its value and the time at which it expires.
    entries: HashMap<Vec<u8>, (Vec<u8>, Time)>,
    expiring: BTreeSet<(Time, Vec<u8>)>,
    /// The connections of each channel, and the channels of each connection.
    members: BTreeSet<(Vec<u8>, Option<ConnId>)>,
    channels: ConnMap<HashSet<Vec<u8>>>,
    memory: usize,
}

impl Resp {
    fn execute(&mut self, ctx: &mut Context<'_>, args: &[&[u8]]) {
        let [called, args @ ..] = args else { return };
        let Some(name) = COMMANDS.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(called)) else {
            let text = |arg: &[u8]| arg[..arg.len().min(128)].escape_ascii().to_string();
            let args: String = args.iter().take(8).map(|arg| format!("'{}' ", text(arg))).collect();
            let called = text(called);
            return reply(ctx, format_args!("-ERR unknown command '{called}', with args beginning with: {args}"));
        };
        match (*name, args) {
            ("set" | "subscribe", _) if self.memory > MAX_MEMORY => ctx.send(FULL),
            ("subscribe", channels @ [_, ..]) => channels.iter().for_each(|channel| self.subscribe(ctx, channel)),
            ("ping", []) if self.channels.get(ctx.id()).is_some() => ctx.send(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            ("ping", []) => ctx.send(b"+PONG\r\n"),
            ("ping" | "echo", [text]) => ctx.send_with(|output| bulk(output, Some(text))),
            ("get", [key]) => ctx.send_with(|output| bulk(output, self.entries.get(*key).map(|(value, _)| &value[..]))),
            ("set", [key, value]) => {
                self.remove(key);
                self.memory += 2 * key.len() + value.len() + ENTRY;
                self.entries.insert(key.to_vec(), (value.to_vec(), Time::NEVER));
                ctx.send(b"+OK\r\n");
            }
            ("set", [_, _, _, ..]) => ctx.send(b"-ERR syntax error\r\n"),
            ("del", keys @ [_, ..]) => reply(ctx, format_args!(":{}", keys.iter().filter(|k| self.remove(k)).count())),
            ("expire", [key, seconds]) => match (number(seconds, i64::MAX, ""), self.entries.get_mut(*key)) {
                (Err(_), _) => ctx.send(b"-ERR value is not an integer or out of range\r\n"),
                (_, None) => ctx.send(b":0\r\n"),
                (Ok(seconds), Some((_, due))) => {
                    self.expiring.remove(&(*due, key.to_vec()));
                    *due = ctx.now() + Duration::from_secs(seconds.max(0).unsigned_abs());
                    self.expiring.insert((*due, key.to_vec()));
                    ctx.send(b":1\r\n");
                    self.on_timer(ctx, TimerName(0));
                }
            },
            ("ttl", [key]) => match self.entries.get(*key) {
                None => ctx.send(b":-2\r\n"),
                Some((_, Time::NEVER)) => ctx.send(b":-1\r\n"),
                Some((_, due)) => reply(ctx, format_args!(":{}", (due.since(ctx.now()).as_millis() + 500) / 1000)),
            },
            ("publish", [channel, text]) => {
                let from = self.members.range((channel.to_vec(), None)..);
                let members: Vec<_> = from.take_while(|(of, _)| of == channel).filter_map(|(_, id)| *id).collect();
                let mut message = b"*3\r\n$7\r\nmessage\r\n".to_vec();
                [channel, text].iter().for_each(|part| bulk(&mut message, Some(part)));
                ctx.broadcast(&members, &message);
                reply(ctx, format_args!(":{}", members.len()));
            }
            _ => reply(ctx, format_args!("-ERR wrong number of arguments for '{name}' command")),
        }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, (value, due))) = self.entries.remove_entry(key) else { return false };
        self.memory -= 2 * key.len() + value.len() + ENTRY;
        self.expiring.remove(&(due, key));
        true
    }

    fn subscribe(&mut self, ctx: &mut Context<'_>, channel: &[u8]) {
        let channels = self.channels.get_or_insert_with(ctx.id(), HashSet::new);
        if channels.insert(channel.to_vec()) {
            self.memory += channel.len() + ENTRY;
            self.members.insert((channel.to_vec(), Some(ctx.id())));
        }
        ctx.send(b"*3\r\n$9\r\nsubscribe\r\n");
        ctx.send_with(|output| bulk(output, Some(channel)));
        reply(ctx, format_args!(":{}", channels.len()));
    }
}

impl Service for Resp {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let (mut rest, mut args) = (input, Vec::new());
        while !ctx.is_congested() {
            match decode(rest, &mut args) {
                Ok(after) => rest = after,
                Err(None) => break,
                Err(Some(error)) => {
                    reply(ctx, format_args!("-ERR Protocol error: {error}"));
                    ctx.finish();
                    return input.len();
                }
            }
            self.execute(ctx, &args);
        }
        input.len() - rest.len()
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _: TimerName) {
        // The rest expires a millisecond later: clients are served in between.
        let due: Vec<_> = self.expiring.iter().take_while(|(due, _)| *due <= ctx.now()).take(1000).cloned().collect();
        due.iter().for_each(|(_, key)| _ = self.remove(key));
        self.expiring.first().into_iter().for_each(|(due, _)| ctx.set_timer(TimerName(0), *due, Duration::ZERO));
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _: CloseReason) {
        for channel in self.channels.remove(ctx.id()).into_iter().flatten() {
            self.memory -= channel.len() + ENTRY;
            self.members.remove(&(channel, Some(ctx.id())));
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1).map(|arg| arg.parse::<std::net::SocketAddr>());
    let (Some(Ok(addr)), None) = (args.next(), args.next()) else {
        eprintln!("usage: resp LISTEN   (an address, as 127.0.0.1:6379)");
        process::exit(2);
    };
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let resp = reactor.add_service("resp", Box::new(Resp::default()));
    let listened = reactor.listen(resp, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening resp tcp {addr}");
    reactor.run()?;
    Ok(())
}
