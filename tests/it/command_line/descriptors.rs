//! The descriptor limit of a server (RLIMIT_NOFILE).

use std::fs;
use std::process::{Command, Stdio};

use super::serve_process;

/// Starts a server with `args`, a soft limit of 64 and the hard limit `hard`. Returns its log.
fn log_under_limits(hard: &str, args: &str) -> String {
    let script = format!("ulimit -Sn 64 && ulimit -Hn {hard} && exec \"$0\" serve echo=0 --ledger none {args}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_reactor")]).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut limit = String::new();
    let (_, log) = serve_process(command, |pid, _| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("procfs");
        limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit").to_owned();
    });
    assert_eq!(limit.split_whitespace().nth(3), Some(hard), "the soft limit is not the hard one: {limit}");
    log
}

#[test]
fn serve_raises_its_descriptor_limit_and_logs_it() {
    let log = log_under_limits("128", "");
    assert!(log.contains("descriptor limit raised from 64 to 128\n") && !log.contains("lowered"), "{log}");
    let log = log_under_limits("64", "--max-connections 20");
    assert!(!log.contains("descriptor") && !log.contains("lowered"), "{log}");
}

#[test]
fn max_connections_is_lowered_to_what_descriptors_allow() {
    let log = log_under_limits("128", "--max-connections 1000");
    let (_, tail) = log.split_once("--max-connections lowered from 1000 to ").unwrap_or_else(|| panic!("{log}"));
    let allowed: u32 = tail.split(':').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!((64..128).contains(&allowed), "{log}");
}
