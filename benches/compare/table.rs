//! The results: medians and their notation.
//!
//! Owns: [`Row`], the table on the terminal, the JSON file. Must not know: the measurement.

use hdrhistogram::Histogram;
use reactor::load::plot;
use serde_json::{Value, json};

use super::measure::Sample;

/// The result of all rounds of one contender with one number of connections.
pub struct Row {
    /// The contender.
    pub name: &'static str,
    /// The number of connections.
    pub connections: usize,
    /// Medians of the rounds; `None` if every round has failed.
    pub figures: Option<Figures>,
    /// Errors and losses.
    pub trouble: Vec<String>,
}

/// Medians of rounds.
pub struct Figures {
    /// Messages per second.
    pub rate: f64,
    /// The distance between the best and the worst round, as a share of the median; `None` for a single round.
    pub spread: Option<f64>,
    /// Latencies that 50 %, 99 % and 99.9 % of all messages do not exceed, in nanoseconds.
    pub quantiles: [f64; 3],
    /// Processor time of the server for each message, in microseconds; `None` if no round had enough messages.
    pub cpu_micros: Option<f64>,
    /// Context switches of the server for each message.
    pub switches: f64,
    /// Threads of the server.
    pub threads: f64,
    /// Resident memory of the server in bytes.
    pub memory: f64,
    /// The latencies of all rounds.
    pub latency: Histogram<u64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

impl Figures {
    /// The medians of `samples`; `None` without a sample.
    pub fn new(samples: &[Sample]) -> Option<Self> {
        let of = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let mut latency = samples.first()?.report.stats.latency.clone();
        for sample in &samples[1..] {
            // All histograms have the same bounds.
            let _ = latency.add(&sample.report.stats.latency);
        }
        let rates = || samples.iter().map(|sample| sample.report.rate());
        let rate = of(&|sample| sample.report.rate());
        let (low, high) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        Some(Self {
            rate,
            spread: (samples.len() > 1 && rate > 0.0).then(|| (high - low) / rate),
            quantiles: [0.5, 0.99, 0.999].map(|share| of(&|sample| sample.report.quantile(share) as f64)),
            cpu_micros: Some(samples.iter().filter_map(|sample| sample.cpu_micros).collect::<Vec<_>>())
                .filter(|known| !known.is_empty())
                .map(median),
            switches: of(&|sample| sample.switches),
            threads: of(&|sample| sample.threads as f64),
            memory: of(&|sample| sample.memory as f64),
            latency,
        })
    }

    /// Returns the cells of the table.
    pub fn cells(&self) -> [String; 9] {
        let [p50, p99, p999] = self.quantiles.map(plot::nanos);
        [
            format!("{:.0}", self.rate),
            self.spread.map_or("one round".to_owned(), |spread| format!("{:.0} %", spread * 100.0)),
            p50,
            p99,
            p999,
            self.cpu_micros.map_or("-".to_owned(), |micros| format!("{micros:.2} µs")),
            format!("{:.3}", self.switches),
            format!("{:.0}", self.threads),
            plot::bytes(self.memory),
        ]
    }
}

/// The heads of the columns that [`Figures::cells`] fills.
pub const HEADS: [&str; 9] =
    ["messages/s", "spread", "p50", "p99", "p99.9", "CPU/message", "switches/message", "threads", "memory"];

/// Writes the number of connections.
pub fn heading(connections: usize) -> String {
    counted(connections, "connection")
}

/// Writes the number of rounds and their length.
pub fn rounds((rounds, seconds): (usize, f64)) -> String {
    format!("{} of {seconds} s", counted(rounds, "round"))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns the rows with `connections` as text.
pub fn text(rows: &[Row], connections: usize) -> String {
    let mut text = format!("\n{}\n{:<18}", heading(connections), "");
    let widths = HEADS.map(|head| head.len().max(9) + 2);
    for (head, width) in HEADS.iter().zip(widths) {
        text += &format!("{head:>width$}");
    }
    text += "\n";
    for row in rows.iter().filter(|row| row.connections == connections) {
        text += &format!("{:<18}", row.name);
        if let Some(figures) = &row.figures {
            for (cell, width) in figures.cells().iter().zip(widths) {
                text += &format!("{cell:>width$}");
            }
        }
        for trouble in &row.trouble {
            text += &format!("  ! {trouble}");
        }
        text += "\n";
    }
    text
}

/// Returns all rows as JSON.
pub fn json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let figures = row.figures.as_ref().map(|figures| {
            let [p50, p99, p999] = figures.quantiles.map(|nanos| nanos / 1e3);
            json!({
                "messages_per_second": figures.rate,
                "spread": figures.spread,
                "latency_us": { "p50": p50, "p99": p99, "p99.9": p999 },
                "cpu_us_per_message": figures.cpu_micros,
                "context_switches_per_message": figures.switches,
                "threads": figures.threads,
                "resident_bytes": figures.memory,
            })
        });
        json!({ "server": row.name, "connections": row.connections, "figures": figures, "trouble": row.trouble })
    });
    Value::Array(rows.collect())
}
