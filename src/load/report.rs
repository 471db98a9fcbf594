//! What a run has come to, in words, in JSON, and as a picture.
//!
//! Owns: [`Report`]. Must not know: where it is shown.

use std::fmt::{self, Write};
use std::time::Duration;

use super::plot::{Axis, Line, Plot};
use super::stats::Stats;
use super::{Kind, Load};

/// The quantiles that are printed, with their names.
const QUANTILES: [(&str, f64); 6] =
    [("min", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// How a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// When its time had come.
    Whole,
    /// Before: nobody was left to ask.
    GaveUp,
    /// When the user wanted it to.
    Interrupted,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked.
    pub load: Load,
    /// Connections that could be made and were served, of those that were asked for.
    pub served: usize,
    /// The length of the window. A schedule goes on to its end though nobody is left to keep it.
    pub elapsed: Duration,
    /// From the beginning of the window until nothing was done any more.
    pub lasted: Duration,
    /// How it has ended.
    pub end: End,
    /// The share of one processor that this process has used: near 1, it was the load generator that was measured.
    pub busy: f64,
    /// What was counted.
    pub stats: Stats,
}

impl Report {
    /// Whether the user has ended it before its time. One that has no end of its own is ended in no other way.
    pub fn is_interrupted(&self) -> bool {
        self.end == End::Interrupted && !self.load.duration.is_zero()
    }

    /// Answers per second; for a chat, lines that came back to their speaker.
    pub fn rate(&self) -> f64 {
        self.per_second(self.stats.answered)
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Whether anything was answered at all.
    pub fn is_empty(&self) -> bool {
        self.stats.latency.is_empty()
    }

    /// The latency of which `share` of all are no longer, in nanoseconds.
    pub fn quantile(&self, share: f64) -> u64 {
        match share {
            0.0 => self.stats.latency.min(),
            share => self.stats.latency.value_at_quantile(share),
        }
    }

    /// Deliveries of a chat that never came. Of a run that the user has ended only those that later ones have overtaken:
    /// the others may have been on their way.
    pub fn lost_deliveries(&self) -> u64 {
        let deliveries = &self.stats.deliveries;
        match self.end {
            End::Interrupted => deliveries.skipped,
            End::Whole | End::GaveUp => deliveries.due.saturating_sub(deliveries.came),
        }
    }

    /// Quantiles and the latencies there, in nanoseconds, denser towards the end.
    pub fn distribution(&self) -> Vec<(f64, u64)> {
        let latency = &self.stats.latency;
        latency.iter_quantiles(5).map(|step| (step.quantile(), step.value_iterated_to())).collect()
    }

    /// One object, on one line.
    pub fn to_json(&self) -> String {
        let Self { load, stats, .. } = self;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let mut latency = String::new();
        for (name, share) in QUANTILES {
            let _ = write!(latency, "\"{name}\":{:.3},", micros(self.quantile(share)));
        }
        let _ = write!(latency, "\"mean\":{:.3}", stats.latency.mean() / 1e3);
        let latency = if self.is_empty() { "null".to_owned() } else { format!("{{{latency}}}") };
        let errors: Vec<_> = stats.errors.iter().map(|(what, count)| format!("{}:{count}", quoted(what))).collect();
        let distribution: Vec<_> =
            self.distribution().iter().map(|&(share, nanos)| format!("[{share:.7},{:.3}]", micros(nanos))).collect();
        let deliveries = match load.kind {
            Kind::Chat => format!(
                "{{\"due\":{},\"came\":{},\"per_second\":{:.1},\"lost\":{},\"reordered\":{},\"duplicated\":{}}}",
                stats.deliveries.due,
                stats.deliveries.came,
                self.per_second(stats.deliveries.in_time),
                self.lost_deliveries(),
                stats.deliveries.reordered,
                stats.deliveries.duplicated,
            ),
            _ => "null".to_owned(),
        };
        let gave_up_after = (self.end == End::GaveUp).then_some(self.lasted.as_secs_f64());
        let optional = |value: Option<u64>| value.map_or("null".to_owned(), |value| value.to_string());
        let members = [
            format!("\"service\":\"{}\"", load.kind.name()),
            format!("\"address\":\"{}\"", load.to),
            format!("\"connections\":{}", load.connections),
            format!("\"connected\":{}", self.served),
            format!("\"size\":{}", optional(load.kind.has_size().then_some(load.size as u64))),
            format!("\"pipeline\":{}", load.pipeline),
            format!("\"speakers\":{}", optional((load.kind == Kind::Chat).then_some(load.speakers as u64))),
            format!("\"rate\":{}", optional(load.rate)),
            format!("\"seconds\":{:.6}", self.elapsed.as_secs_f64()),
            format!("\"interrupted\":{}", self.is_interrupted()),
            format!("\"gave_up_after\":{}", gave_up_after.map_or("null".to_owned(), |after| format!("{after:.6}"))),
            format!("\"sent\":{}", stats.sent),
            format!("\"unsent\":{}", stats.unsent),
            format!("\"answered\":{}", stats.answered),
            format!("\"answered_late\":{}", stats.answered_late),
            format!("\"unanswered\":{}", stats.unanswered),
            format!("\"cut_off\":{}", stats.cut_off),
            format!("\"strays\":{}", stats.strays),
            format!("\"per_second\":{:.1}", self.rate()),
            format!("\"bytes_out\":{}", stats.bytes_out),
            format!("\"bytes_in\":{}", stats.bytes_in),
            format!("\"latency_us\":{latency}"),
            format!("\"deliveries\":{deliveries}"),
            format!("\"error_count\":{}", stats.error_count()),
            format!("\"errors\":{{{}}}", errors.join(",")),
            format!("\"generator_busy\":{:.3}", self.busy),
            format!("\"distribution_us\":[{}]", distribution.join(",")),
        ];
        format!("{{{}}}", members.join(","))
    }

    /// The distribution of the latencies: one line on a plane.
    pub fn to_plot(&self) -> Plot {
        let points = self.distribution();
        let points = points.into_iter().filter(|&(share, _)| share < 1.0);
        let kind = self.load.kind;
        Plot {
            title: format!("{}: latency at {}, {}", kind.name(), rate(self.rate()), self.connections()),
            x: Axis::nines("share of all requests that took no longer"),
            y: Axis::log("latency", super::plot::nanos),
            lines: vec![Line {
                name: kind.name().to_owned(),
                points: points.map(|(share, nanos)| (share, nanos as f64)).collect(),
            }],
        }
    }

    /// How many connections there were, and should have been.
    fn connections(&self) -> String {
        let of = if self.served == self.load.connections { String::new() } else { format!("{} of ", self.served) };
        of + &count(self.load.connections as u64, "connection")
    }

    fn what(&self) -> String {
        let Load { kind, size, pipeline, speakers, .. } = self.load;
        let mut what = format!("{} {}: {}", kind.name(), self.load.to, self.connections());
        if kind == Kind::Http {
            let _ = write!(what, ", GET {}", self.load.path);
        }
        if kind.has_size() {
            let _ = write!(what, ", {}", count(size as u64, "byte"));
        }
        if kind == Kind::Chat {
            let _ = write!(what, ", {}", count(speakers as u64, "speaker"));
        }
        if kind.has_pipeline() {
            let _ = write!(what, ", {pipeline} under way");
        }
        match self.load.rate {
            Some(rate) => drop(write!(what, ", {} due a second", grouped(rate))),
            None => what += ", closed loop",
        }
        let _ = write!(what, ", {:.2} s", self.elapsed.as_secs_f64());
        match self.end {
            End::GaveUp => drop(write!(what, " (nobody was left to ask after {:.2} s)", self.lasted.as_secs_f64())),
            _ if self.is_interrupted() => what += " (cut short)",
            _ => {}
        }
        what
    }

    fn lost(&self) -> String {
        let Stats { unsent, unanswered, strays, deliveries, .. } = &self.stats;
        let mut parts = vec![match unanswered {
            0 => "nothing".to_owned(),
            lost => {
                let noun = if self.load.kind == Kind::EchoUdp { "datagram" } else { "request" };
                format!("{} of {} unanswered", grouped(*lost), count(self.stats.requests(), noun))
            }
        }];
        if *unsent > 0 {
            parts.push(format!("{} of them were due and never sent", grouped(*unsent)));
        }
        if *strays > 0 {
            parts.push(format!("{} came twice or too late", grouped(*strays)));
        }
        if self.load.kind == Kind::Chat {
            let lost = self.lost_deliveries();
            let (all, again, late) =
                (grouped(deliveries.due), grouped(deliveries.duplicated), grouped(deliveries.reordered));
            parts.push(format!("{} of {all} deliveries, {again} duplicated, {late} reordered", grouped(lost)));
        }
        parts.join("; ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { bytes_out, bytes_in, errors, deliveries, .. } = &self.stats;
        let megabytes = |bytes: u64| self.per_second(bytes) / 1e6;
        writeln!(f, "{}", self.what())?;
        write!(f, "  throughput  {}", rate(self.rate()))?;
        if self.load.kind == Kind::Chat {
            write!(f, ", {:.0} deliveries/s", self.per_second(deliveries.in_time))?;
        }
        writeln!(f, ", {:.2} MB/s out, {:.2} MB/s in", megabytes(*bytes_out), megabytes(*bytes_in))?;
        let figures =
            QUANTILES.map(|(name, share)| format!("{name} {}", super::plot::nanos(self.quantile(share) as f64)));
        let figures = match (self.is_empty(), self.stats.unanswered) {
            (true, _) => "nothing was answered".to_owned(),
            (false, 0) => figures.join(", "),
            (false, _) => format!("{} (of what was answered)", figures.join(", ")),
        };
        writeln!(f, "  latency     {figures}")?;
        let errors: Vec<_> = errors.iter().map(|(what, count)| format!("{what} ({})", grouped(*count))).collect();
        writeln!(f, "  errors      {}", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") })?;
        writeln!(f, "  lost        {}", self.lost())?;
        writeln!(f, "  generator   {:.0} % of a processor", self.busy * 100.0)
    }
}

/// A count per second, with its unit.
fn rate(per_second: f64) -> String {
    format!("{} requests/s", grouped(per_second.round() as u64))
}

/// A number and what it counts.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// Digits in groups of three.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A string of JSON (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind) -> Report {
        let mut stats = Stats { sent: 1_001, answered: 1_000, unanswered: 1, ..Stats::default() };
        (1..=1_000).for_each(|n| stats.record(n * 1_000));
        stats.error("a \"quoted\" \\ \u{7} cause");
        let (load, lasted) = (Load::new(kind, ([127, 0, 0, 1], 7).into()), Duration::from_secs(3));
        Report { served: load.connections, load, elapsed: lasted, lasted, end: End::Whole, busy: 0.5, stats }
    }

    #[test]
    fn json_is_json_and_has_the_figures() {
        for kind in Kind::ALL {
            let text = report(kind).to_json();
            let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
            assert_eq!(json["service"], kind.name());
            assert_eq!(json["answered"], 1_000);
            assert_eq!(json["errors"]["a \"quoted\" \\ \u{7} cause"], 1);
            assert!((json["latency_us"]["p50"].as_f64().unwrap() - 500.0).abs() < 1.0, "{text}");
            assert!((json["latency_us"]["max"].as_f64().unwrap() - 1_000.0).abs() < 1.0, "{text}");
        }
        let empty = Report { stats: Stats::default(), ..report(Kind::Echo) };
        let json: serde_json::Value = serde_json::from_str(&empty.to_json()).unwrap();
        assert!(empty.is_empty() && json["latency_us"].is_null());
        assert!(empty.to_string().contains("nothing was answered"));
    }

    #[test]
    fn words_name_what_was_lost() {
        assert!(report(Kind::EchoUdp).to_string().contains("lost        1 of 1,001 datagrams unanswered\n"));
        assert!(report(Kind::Echo).to_string().contains("lost        1 of 1,001 requests unanswered\n"));
        let mut chat = report(Kind::Chat);
        (chat.stats.unanswered, chat.stats.deliveries.due, chat.stats.deliveries.came) = (0, 50_000, 49_999);
        let text = chat.to_string();
        assert!(text.contains("lost        nothing; 1 of 50,000 deliveries, 0 duplicated, 0 reordered\n"), "{text}");
    }

    #[test]
    fn digits_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        for (n, text) in cases {
            assert_eq!(grouped(n), text);
        }
    }
}
