//! The result of a run in words, in JSON, and as a picture.
//!
//! Owns: [`Report`]. Must not know: the output that shows it.

use std::fmt::{self, Write};
use std::time::Duration;

use super::plot::{Axis, Line, Plot};
use super::stats::Stats;
use super::{Kind, Plan};

/// The printed quantiles, with their names.
const QUANTILES: [(&str, f64); 6] =
    [("min", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// How a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// At the end of its window.
    Completed,
    /// Within its window: no connection was left.
    GaveUp,
    /// By the user.
    Interrupted,
}

/// The result of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The plan of the run.
    pub plan: Plan,
    /// Connections that were established and served, of [`Plan::connections`].
    pub served: usize,
    /// The length of the window. A schedule continues to its end even without a connection.
    pub elapsed: Duration,
    /// The time from the beginning of the window to the stop of the reactor.
    pub lasted: Duration,
    /// How the run has ended.
    pub end: End,
    /// The share of one processor that this process has used. Near 1, the load generator may have been the bottleneck.
    pub busy: f64,
    /// The counters.
    pub stats: Stats,
}

impl Report {
    /// The result of a completed run of `plan` with `stats`, in which all connections were served, and the load generator
    /// used no processor time.
    pub fn new(plan: Plan, stats: Stats) -> Self {
        let (served, duration) = (plan.connections, plan.duration);
        Self { plan, served, elapsed: duration, lasted: duration, end: End::Completed, busy: 0.0, stats }
    }

    /// Returns true if the user has ended the run before the end of its window. A run without a duration has no other end,
    /// and is not interrupted.
    pub fn is_interrupted(&self) -> bool {
        self.end == End::Interrupted && !self.plan.duration.is_zero()
    }

    /// Returns the answers per second; for a chat, the lines that came back to their speaker.
    pub fn rate(&self) -> f64 {
        self.per_second(self.stats.answered)
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns true if no request was answered.
    pub fn is_empty(&self) -> bool {
        self.stats.latency.is_empty()
    }

    /// Returns the latency in nanoseconds that `share` of all answers do not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        match share {
            0.0 => self.stats.latency.min(),
            share => self.stats.latency.value_at_quantile(share),
        }
    }

    /// Returns the deliveries of a chat that never arrived. After an interruption these are only the deliveries that later
    /// ones have overtaken: the others may have been in flight.
    pub fn lost_deliveries(&self) -> u64 {
        let deliveries = &self.stats.deliveries;
        match self.end {
            End::Interrupted => deliveries.skipped,
            End::Completed | End::GaveUp => deliveries.due.saturating_sub(deliveries.came),
        }
    }

    /// Returns quantiles and their latencies in nanoseconds, denser towards the end.
    pub fn distribution(&self) -> Vec<(f64, u64)> {
        let latency = &self.stats.latency;
        latency.iter_quantiles(5).map(|step| (step.quantile(), step.value_iterated_to())).collect()
    }

    /// Returns one object of JSON on one line.
    pub fn to_json(&self) -> String {
        let Self { plan, stats, .. } = self;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let mut latency = String::new();
        for (name, share) in QUANTILES {
            let _ = write!(latency, "\"{name}\":{:.3},", micros(self.quantile(share)));
        }
        let _ = write!(latency, "\"mean\":{:.3}", stats.latency.mean() / 1e3);
        let latency = if self.is_empty() { "null".to_owned() } else { format!("{{{latency}}}") };
        let errors: Vec<_> =
            stats.errors.iter().map(|(error, count)| format!("{}:{count}", json_string(error))).collect();
        let distribution: Vec<_> =
            self.distribution().iter().map(|&(share, nanos)| format!("[{share:.7},{:.3}]", micros(nanos))).collect();
        let deliveries = match plan.kind {
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
            format!("\"service\":\"{}\"", plan.kind.name()),
            format!("\"address\":\"{}\"", plan.to),
            format!("\"connections\":{}", plan.connections),
            format!("\"connected\":{}", self.served),
            format!("\"size\":{}", optional(plan.kind.has_size().then_some(plan.size as u64))),
            format!("\"pipeline\":{}", plan.pipeline),
            format!("\"speakers\":{}", optional((plan.kind == Kind::Chat).then_some(plan.speakers as u64))),
            format!("\"rate\":{}", optional(plan.rate)),
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

    /// Returns the plot of the latencies: one line on a plane.
    pub fn to_plot(&self) -> Plot {
        let points = self.distribution().into_iter().filter(|&(share, _)| share < 1.0);
        let name = self.plan.kind.name();
        Plot::new(
            format!("{name}: latency at {}, {}", rate(self.rate()), self.connections()),
            Axis::nines("share of all requests that took no longer"),
            Axis::log("latency", super::plot::nanos),
            [Line::new(name, points.map(|(share, nanos)| (share, nanos as f64)))],
        )
    }

    /// Describes the number of served connections, and that of the plan if it differs.
    fn connections(&self) -> String {
        let of = if self.served == self.plan.connections { String::new() } else { format!("{} of ", self.served) };
        of + &count(self.plan.connections as u64, "connection")
    }

    /// Describes the run.
    fn title(&self) -> String {
        let Plan { kind, size, pipeline, speakers, .. } = self.plan;
        let mut title = format!("{} {}: {}", kind.name(), self.plan.to, self.connections());
        if kind == Kind::Http {
            let _ = write!(title, ", GET {}", self.plan.path);
        }
        if kind.has_size() {
            let _ = write!(title, ", {}", count(size as u64, "byte"));
        }
        if kind == Kind::Chat {
            let _ = write!(title, ", {}", count(speakers as u64, "speaker"));
        }
        if kind.has_pipeline() {
            let _ = write!(title, ", {pipeline} under way");
        }
        match self.plan.rate {
            Some(rate) => drop(write!(title, ", {} due a second", grouped(rate))),
            None => title += ", closed loop",
        }
        let _ = write!(title, ", {:.2} s", self.elapsed.as_secs_f64());
        match self.end {
            End::GaveUp => drop(write!(title, " (no connection was left after {:.2} s)", self.lasted.as_secs_f64())),
            _ if self.is_interrupted() => title += " (cut short)",
            _ => {}
        }
        title
    }

    /// Describes the losses.
    fn lost(&self) -> String {
        let Stats { unsent, unanswered, strays, deliveries, .. } = &self.stats;
        let mut parts = vec![match unanswered {
            0 => "nothing".to_owned(),
            lost => {
                let noun = if self.plan.kind == Kind::EchoUdp { "datagram" } else { "request" };
                format!("{} of {} unanswered", grouped(*lost), count(self.stats.requests(), noun))
            }
        }];
        if *unsent > 0 {
            parts.push(format!("{} of them were due and never sent", grouped(*unsent)));
        }
        if *strays > 0 {
            parts.push(format!("{} came twice or too late", grouped(*strays)));
        }
        if self.plan.kind == Kind::Chat {
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
        writeln!(f, "{}", self.title())?;
        write!(f, "  throughput  {}", rate(self.rate()))?;
        if self.plan.kind == Kind::Chat {
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
        let errors: Vec<_> = errors.iter().map(|(error, count)| format!("{error} ({})", grouped(*count))).collect();
        writeln!(f, "  errors      {}", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") })?;
        writeln!(f, "  lost        {}", self.lost())?;
        writeln!(f, "  generator   {:.0} % of a processor", self.busy * 100.0)
    }
}

/// Writes a count per second with its unit.
fn rate(per_second: f64) -> String {
    format!("{} requests/s", grouped(per_second.round() as u64))
}

/// Writes a number and the noun that it counts.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// Writes a number with its digits in groups of three.
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

/// Writes a string of JSON (RFC 8259, section 7).
fn json_string(text: &str) -> String {
    let mut string = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => string.extend(['\\', c]),
            c if c < ' ' => drop(write!(string, "\\u{:04x}", u32::from(c))),
            c => string.push(c),
        }
    }
    string + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind) -> Report {
        let mut stats = Stats { sent: 1_001, answered: 1_000, unanswered: 1, ..Stats::default() };
        (1..=1_000).for_each(|n| stats.record(n * 1_000));
        stats.count_error("a \"quoted\" \\ \u{7} cause");
        Report::new(Plan::new(kind, ([127, 0, 0, 1], 7)), stats)
    }

    #[test]
    fn json_is_valid_and_has_the_figures() {
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
    fn words_name_the_losses() {
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
