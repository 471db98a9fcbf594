//! The lab: every scenario passes, prints its verdict, and can fail.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output};
use std::time::Duration;

use crate::harness::process::Stopwatch;
use crate::harness::reactor;
use reactor::lab::SCENARIOS;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Waits for the exit. Returns the output and the time in which the process could run.
fn wait(child: Child) -> (Output, Duration) {
    let clock = Stopwatch::of_process(child.id());
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("waitid");
    let took = clock.granted();
    (child.wait_with_output().expect("wait"), took)
}

fn run(args: &[&str]) -> (Output, String) {
    let output = reactor(&[&["lab"], args].concat()).output().expect("start reactor");
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    (output, text)
}

#[test]
fn every_scenario_passes() {
    let (output, took) = wait(reactor(&["lab", "--all"]).spawn().expect("start reactor"));
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{text}");
    assert!(took < Duration::from_secs(40), "the lab took {took:?}");
    let transcripts: Vec<_> = text.trim_end().split("\n\n").collect();
    assert_eq!(transcripts.len(), SCENARIOS.len(), "{text}");
    for (transcript, scenario) in transcripts.iter().zip(SCENARIOS) {
        let lines: Vec<_> = transcript.lines().collect();
        assert_eq!(lines[0], format!("{}: {}", scenario.name, scenario.about));
        assert_eq!(lines.last(), Some(&format!("PASS {}", scenario.name).as_str()), "{transcript}");
        let speakers = |line: &&str| line.split_whitespace().nth(2).map(str::to_owned);
        let present: HashSet<_> = lines.iter().filter(|line| line.contains(" ms  ")).filter_map(speakers).collect();
        assert!(
            ["we", "kernel", "loop"].iter().all(|speaker| present.contains(*speaker)),
            "{present:?} in: {transcript}"
        );
        assert!(lines.iter().filter(|line| line.contains("claim  holds")).count() >= 5, "{transcript}");
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{transcript}");
    }
}

#[test]
fn the_scenarios_are_listed_without_a_name() {
    let (output, text) = run(&[]);
    assert_eq!(output.status.code(), Some(0));
    let names: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>());
}

#[test]
fn named_scenarios_run_in_the_given_order() {
    let (output, text) = run(&["sticky-packets", "half-close"]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let verdicts: Vec<_> = text.lines().filter(|line| line.starts_with("PASS") || line.starts_with("FAIL")).collect();
    assert_eq!(verdicts, ["PASS sticky-packets", "PASS half-close"]);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("open /dev/full");
    let output = reactor(&["lab"]).stdout(full).output().expect("start reactor");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error, "error: cannot write to standard output: No space left on device\n");
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    for (args, wanted) in
        [(["backlog", "front-log"], "no scenario is called 'front-log'"), (["--all", "backlog"], "--all")]
    {
        let (output, text) = run(&args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.as_str()), (Some(2), ""), "{error}");
        assert!(error.starts_with("error: ") && error.contains(wanted) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_scenario_without_its_resources_fails_and_the_next_one_runs() {
    // Three descriptors for the standard streams, and two: enough for half a connection.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 5 && exec \"$0\" lab sticky-packets self-connect", env!("CARGO_BIN_EXE_reactor")]);
    let output = command.output().expect("start a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let verdicts: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    assert_eq!(verdicts.len(), 2, "{text}");
    assert!(verdicts[0].starts_with("FAIL sticky-packets: ") && verdicts[0].contains("Too many open files"), "{text}");
    assert_eq!(text.lines().last(), Some(verdicts[1]));
}

#[test]
fn a_reader_that_closes_its_pipe_ends_the_lab() {
    let mut child = reactor(&["lab", "--all"]).spawn().expect("start reactor");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("backlog: "), "{line}");
    let (output, took) = wait(child);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // The running scenario ends as usual, and no other begins.
    assert!(took < Duration::from_secs(5), "the lab went on for {took:?}");
}
