//! Help and version, also to a reader that has closed its pipe.

use std::{fs, io};

use super::{assert_failed, run, succeeds};
use crate::harness::reactor;
use reactor::services::SERVICES;

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = succeeds(args);
        for entry in SERVICES {
            assert!(help.contains(entry.name) && help.contains(entry.about), "{args:?}: {}: {help}", entry.name);
            assert!(help.contains(&entry.port.to_string()), "{args:?}: {}: {help}", entry.port);
        }
        assert!(help.contains("Examples:"), "{args:?}: {help}");
        assert!(!help.contains('\u{1b}'), "escape codes in a pipe: {help}");
    }
    for args in [["--help"].as_slice(), &["-h"], &["serve", "-h"], &["help"], &["help", "serve"]] {
        assert!(succeeds(args).contains("Usage:"), "{args:?}");
    }
    for option in [
        "--backlog",
        "--max-connections",
        "--read-timeout",
        "--write-timeout",
        "--idle-timeout",
        "--high-water",
        "--low-water",
        "--grace",
        "--send-buffer",
        "--recv-buffer",
        "--reuse-port",
        "--ledger",
        "--log",
    ] {
        assert!(succeeds(&["serve", "--help"]).contains(option), "{option}");
    }
    for args in [["--version"].as_slice(), &["-V"], &["serve", "--version"]] {
        assert!(succeeds(args).ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n")), "{args:?}");
    }
}

#[test]
fn a_closed_standard_stream_is_no_reason_to_panic() {
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = reactor(args);
        command.stdout(writer);
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stderr, "", "{output:?}");
    }
    // A full disk is a failure: the user does not get the help.
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let mut command = reactor(args);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open"));
        let line = assert_failed(1, run(command));
        assert_eq!(line, "error: cannot write to standard output: No space left on device");
    }
    // The same with a closed standard error, where the error would go.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = reactor(&["serve", "no-such-service"]);
    command.stderr(writer);
    assert_eq!(run(command).status.code(), Some(2));
}
