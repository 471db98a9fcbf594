//! The page with the results: tables and plots in one self-contained HTML file.
//!
//! Owns: its text. Must not know: the measurement.

use std::fmt::Write;

use reactor::load::plot::{Axis, Line, Plot, escaped, nanos, number};

use super::table::{self, Figures, HEADS, Row, heading};

/// The setting of the comparison.
pub struct Setting {
    /// The name and the description of each contender.
    pub contenders: Vec<(&'static str, &'static str)>,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// The number of rounds, and the seconds of each.
    pub rounds: (usize, f64),
    /// The machine.
    pub machine: String,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1000px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.84em}\
th,td{padding:.25em .5em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}th:first-child,td:first-child{text-align:left}\
svg{max-width:100%;height:auto;margin:.5em 0}.scroll{overflow-x:auto}.trouble{color:#a33}";

/// Returns the whole page.
pub fn page(setting: &Setting, rows: &[Row]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Five ways to echo</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>The same echo, written in several ways</h1>\n\
         <p>{}. Each server has one processor and the load generator another. On each connection one message of 64 bytes is \
         in flight: the next is sent when the message before has come back. {}, every server in turn in each; \
         figures are medians of the rounds.</p>\n<ul>\n",
        escaped(&setting.machine),
        table::rounds(setting.rounds)
    );
    for (name, about) in &setting.contenders {
        let _ = writeln!(html, "<li><b>{name}</b>: {about}</li>");
    }
    html += "</ul>\n<h2>Against the number of connections</h2>\n";
    let figures = [
        (
            "Throughput (higher is better)",
            Axis::linear("messages per second", number),
            (|figures: &Figures| figures.rate) as fn(&Figures) -> f64,
        ),
        ("Resident memory (lower is better)", Axis::log("MiB", number), |figures| figures.memory / 1_048_576.0),
        (
            "Processor time of the server (lower is better)",
            Axis::linear("microseconds per message", number),
            |figures| figures.cpu_micros.unwrap_or(f64::NAN),
        ),
        ("Latency that 99 % do not exceed (lower is better)", Axis::log("latency", nanos), |figures| {
            figures.quantiles[1]
        }),
    ];
    for (title, y, figure) in figures {
        html += &against_connections(setting, rows, title, y, figure).to_svg();
    }
    html += "<h2>How latencies are distributed</h2>\n";
    for &connections in setting.connections.iter().filter(|&&connections| connections >= 10) {
        html += &distribution(rows, connections).to_svg();
    }
    for &connections in &setting.connections {
        html += &table(rows, connections);
    }
    html += "<p><b>messages/s</b> is the median; <b>spread</b> is the distance between the best and the worst round. \
             <b>p50, p99, p99.9</b>: that share of messages came back within that time. <b>CPU/message</b> is processor time of \
             the server, user and system. <b>switches/message</b> are its context switches from start to end, connecting \
             included. <b>threads</b> and <b>memory</b> are the most that was seen.</p>\n</body></html>\n";
    html
}

fn of<'a>(rows: &'a [Row], name: &'a str) -> impl Iterator<Item = (usize, &'a Figures)> {
    rows.iter().filter(move |row| row.name == name).filter_map(|row| Some((row.connections, row.figures.as_ref()?)))
}

fn against_connections(setting: &Setting, rows: &[Row], title: &str, y: Axis, figure: fn(&Figures) -> f64) -> Plot {
    let lines = setting.contenders.iter().map(|&(name, _)| {
        Line::new(name, of(rows, name).map(|(connections, figures)| (connections as f64, figure(figures))))
    });
    Plot::new(title, Axis::log("connections", number), y, lines)
}

fn distribution(rows: &[Row], connections: usize) -> Plot {
    let rows = rows.iter().filter(|row| row.connections == connections);
    let lines = rows.map(|row| {
        let steps = row.figures.iter().flat_map(|figures| figures.latency.iter_quantiles(5));
        let points = steps.map(|step| (step.quantile(), step.value_iterated_to() as f64));
        Line::new(row.name, points.filter(|&(share, _)| share < 1.0))
    });
    Plot::new(
        heading(connections),
        Axis::nines("share of all messages that came back within that time"),
        Axis::log("latency", nanos),
        lines,
    )
}

fn table(rows: &[Row], connections: usize) -> String {
    let mut html = format!("<h2>{}</h2>\n<div class=\"scroll\"><table><tr><th></th>", heading(connections));
    for head in HEADS {
        let _ = write!(html, "<th>{head}</th>");
    }
    html += "</tr>\n";
    for row in rows.iter().filter(|row| row.connections == connections) {
        let _ = write!(html, "<tr><td>{}</td>", row.name);
        let cells = row.figures.as_ref().map(Figures::cells).unwrap_or_default();
        for cell in cells {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html += "</tr>\n";
        for trouble in &row.trouble {
            let _ = writeln!(
                html,
                "<tr><td class=\"trouble\" colspan=\"{}\">{}</td></tr>",
                HEADS.len() + 1,
                escaped(trouble)
            );
        }
    }
    html + "</table></div>\n"
}
