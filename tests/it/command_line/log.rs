//! Standard error: the ledger and the log.

use std::io::Read;

use super::{address, serve};
use crate::harness::{client, exchange, reactor};

/// Starts a server with `args` and `env`, exchanges an echo and stops it. Returns its standard error.
fn stderr_of(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = reactor(&["serve", "echo=0"]);
    command.args(args).envs(env.iter().copied()).env_remove("CLICOLOR").env_remove("FORCE_COLOR");
    let (_, stderr) = serve(command, |lines| {
        let mut peer = client(address(&lines[0]));
        for _ in 0..3 {
            assert_eq!(exchange(&mut peer, b"hello"), b"hello");
        }
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
    stderr
}

#[test]
fn the_ledger_is_text_json_or_nothing() {
    for args in [&["--log", "error"][..], &["--log", "error", "--ledger", "text"]] {
        let text = stderr_of(args, &[]);
        assert!(text.starts_with("ledger:\n"), "{text}");
        let accepts = text.lines().find(|line| line.trim_start().starts_with("accepts")).expect("a line for accepts");
        assert_eq!(accepts.split_whitespace().nth(1), Some("1"));
    }
    let json = stderr_of(&["--log", "error", "--ledger", "json"], &[]);
    assert!(json.starts_with('{') && json.ends_with("}\n") && json.lines().count() == 1, "{json}");
    assert!(json.contains("\"accepts\":1,") && json.contains("\"bytes_in\":15,"), "{json}");
    assert_eq!(stderr_of(&["--log", "error", "--ledger", "none"], &[]), "");
}

#[test]
fn the_log_has_the_requested_level() {
    let none = ["--ledger", "none"];
    let trace = stderr_of(&none, &[("RUST_LOG", "trace")]);
    assert!(trace.contains(") = 5") && trace.contains(" read(") && trace.contains(" write(5) = 5"), "{trace}");
    let usual = stderr_of(&none, &[]);
    assert!(usual.contains("stopping") && !usual.contains(" read(") && usual.lines().count() < 5, "{usual}");
    assert_eq!(stderr_of(&none, &[("RUST_LOG", "error")]), "");
    assert_eq!(stderr_of(&none, &[("RUST_LOG", "off")]), "");
    assert!(stderr_of(&["--ledger", "none", "--log", "trace"], &[]).contains(" write(5) = 5"));
    // The option has precedence over the environment.
    assert_eq!(stderr_of(&["--ledger", "none", "--log", "error"], &[("RUST_LOG", "trace")]), "");
}

#[test]
fn colours_need_a_terminal_or_the_environment() {
    let coloured = |env: &[(&str, &str)]| stderr_of(&[], env).contains('\u{1b}');
    assert!(!coloured(&[]), "escape codes in a pipe");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "no colours in spite of CLICOLOR_FORCE");
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "colours in spite of NO_COLOR");
}
