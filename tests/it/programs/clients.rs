//! Clients of other authors, which may be missing on a machine.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Returns true if all `programs` are installed. A test that needs a missing program reports that and proves nothing.
pub fn are_installed(programs: &[&str]) -> bool {
    let missing = |program: &&&str| {
        let command = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        command.is_err()
    };
    match programs.iter().find(missing) {
        Some(program) => eprintln!("skipped: {program} is not installed"),
        None => return true,
    }
    false
}

/// Runs a client to its end with `input`, for at most 20 seconds.
pub fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["20", program]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(program);
    // A client that does not read all of its input has reported the reason.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect(program)
}

/// Returns the standard output of a client that has ended well.
pub fn output(program: &str, args: &[&str]) -> String {
    let output = run(program, args, b"");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
