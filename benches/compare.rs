//! The same echo, written in several ways, under the same load: `cargo bench --bench compare`.
//!
//! The contenders are a thread for each connection, this reactor, a bare epoll loop, tokio, and Go if `go` is on the PATH.
//! The benchmark prints a table, and writes a page (`compare.html`) and the figures (`compare.json`) into the target
//! folder. It takes about four minutes, with `-- --quick` half a minute; `-- --help` shows all options. Linux only: the
//! benchmark reads /proc.
//!
//! How it is measured: server and load are pinned to different processors. Each round starts a fresh server, connects, and
//! keeps one message in flight on each connection (`reactor bench echo`, in this process). Every round measures each
//! server once, so that a temporary disturbance of the machine affects all servers.

#[cfg(target_os = "linux")]
#[path = "compare/measure.rs"]
mod measure;
#[cfg(target_os = "linux")]
#[path = "compare/page.rs"]
mod page;
#[cfg(target_os = "linux")]
#[path = "compare/servers.rs"]
mod servers;
#[cfg(target_os = "linux")]
#[path = "compare/table.rs"]
mod table;
#[cfg(target_os = "linux")]
#[path = "compare/tokio_echo.rs"]
mod tokio_echo;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    comparison::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the comparison reads /proc, which only Linux has");
}

#[cfg(target_os = "linux")]
mod comparison {
    use std::error::Error;
    use std::io::{IsTerminal, Write};
    use std::path::{Path, PathBuf};
    use std::time::Duration;
    use std::{env, fs, io};

    use clap::Parser;
    use reactor::load;

    use super::measure::{self, Processors, Sample};
    use super::page::{Setting, page};
    use super::servers::{self, Contender, TOKIO};
    use super::table::{self, Figures, Row};
    use super::tokio_echo;

    /// Compares echo servers that are written in different ways.
    #[derive(Debug, Parser)]
    #[command(name = "compare")]
    struct Arguments {
        /// Half a minute, at most 100 connections: a check of the benchmark, not a measurement
        #[arg(long)]
        quick: bool,
        /// Number of rounds
        #[arg(long, value_name = "N")]
        rounds: Option<usize>,
        /// Seconds of each measurement
        #[arg(long, value_name = "S")]
        seconds: Option<f64>,
        /// Numbers of connections
        #[arg(long, value_name = "N,N", value_delimiter = ',')]
        connections: Option<Vec<usize>>,
        /// Cargo passes this to every benchmark
        #[arg(long, hide = true)]
        bench: bool,
    }

    pub fn main() -> Result<(), Box<dyn Error>> {
        let words: Vec<_> = env::args().collect();
        if let [_, word, addr] = words.as_slice()
            && word == TOKIO
        {
            return Ok(tokio_echo::serve(addr)?);
        }
        let arguments = Arguments::parse();
        // `cargo test` runs the benchmark without this argument, as a check.
        let quick = arguments.quick || !arguments.bench;
        let rounds = arguments.rounds.unwrap_or(if quick { 1 } else { 5 }).max(1);
        let seconds = arguments.seconds.unwrap_or(if quick { 0.4 } else { 1.5 });
        let seconds = if seconds.is_finite() {
            seconds.clamp(0.4, 60.0)
        } else {
            return Err("--seconds is not a number of seconds".into());
        };
        let connections = match arguments.connections {
            Some(connections) if connections.contains(&0) => return Err("--connections contains a 0".into()),
            Some(connections) => connections,
            None if quick => vec![1, 10, 100],
            None => vec![1, 10, 100, 1_000, 5_000],
        };
        load::raise_descriptor_limit();
        let folder = target_folder()?;
        let contenders = servers::build(&folder)?;
        let processors = Processors::choose()?;
        let setting = Setting {
            contenders: contenders.iter().map(|contender| (contender.name, contender.about)).collect(),
            connections,
            rounds: (rounds, seconds),
            machine: machine(processors),
        };
        println!("{}; {}", setting.machine, table::rounds(setting.rounds));
        let rows = measure_all(&setting, &contenders, processors)?;
        for &connections in &setting.connections {
            print!("{}", table::text(&rows, connections));
        }
        let (html, json) = (folder.join("compare.html"), folder.join("compare.json"));
        fs::write(&html, page(&setting, &rows))?;
        fs::write(&json, serde_json::to_string_pretty(&table::json(&rows))?)?;
        println!("\n{}\n{}", html.display(), json.display());
        if rows.iter().all(|row| row.figures.is_none()) { Err("nothing could be measured".into()) } else { Ok(()) }
    }

    /// Returns all rows, by connections and contender.
    fn measure_all(
        setting: &Setting,
        contenders: &[Contender],
        processors: Processors,
    ) -> Result<Vec<Row>, Box<dyn Error>> {
        let (rounds, seconds) = setting.rounds;
        let mut rows = Vec::new();
        for &connections in &setting.connections {
            let plan = measure::plan(connections, Duration::from_secs_f64(seconds));
            let mut samples: Vec<(Vec<Sample>, Vec<String>)> = contenders.iter().map(|_| Default::default()).collect();
            for round in 1..=rounds {
                for (contender, (samples, trouble)) in contenders.iter().zip(&mut samples) {
                    show(&format!("{connections} connections, round {round} of {rounds}: {}", contender.name));
                    match measure::measure(contender, &plan, processors) {
                        Ok(Some(sample)) => {
                            note_trouble(&sample, trouble);
                            samples.push(sample);
                        }
                        Ok(None) => return Err("interrupted".into()),
                        Err(error) => trouble.push(error.to_string()),
                    }
                }
            }
            rows.extend(contenders.iter().zip(samples).map(|(contender, (samples, trouble))| Row {
                name: contender.name,
                connections,
                figures: Figures::new(&samples),
                trouble,
            }));
        }
        show("");
        Ok(rows)
    }

    /// Adds the errors and losses of a run.
    fn note_trouble(sample: &Sample, trouble: &mut Vec<String>) {
        let stats = &sample.report.stats;
        trouble.extend(stats.errors.iter().map(|(what, count)| format!("{what} ({count})")));
        if stats.unanswered > 0 {
            trouble.push(format!("{} messages unanswered", stats.unanswered));
        }
    }

    /// Shows the progress on a terminal.
    fn show(text: &str) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        }
    }

    /// Returns the target folder: this program lies in the `deps` folder of one of its profiles.
    fn target_folder() -> Result<PathBuf, Box<dyn Error>> {
        let program = env::current_exe()?;
        Ok(program.ancestors().nth(3).map(Path::to_owned).ok_or("the program is not in a target folder")?)
    }

    fn machine(processors: Processors) -> String {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let apart = if processors.apart { "" } else { ", shared by server and load" };
        let model = model.unwrap_or("processor unknown").trim();
        format!("{model}, {count} processors{apart}, Linux {}", kernel.trim())
    }
}
