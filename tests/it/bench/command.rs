//! The command: arguments, output, and errors.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use super::{assert_fails, bench, count, figures, interrupt, serve, start, work};
use crate::harness::addresses::Vacant;
use crate::harness::client::terminal;
use crate::harness::{PATIENCE, Server, eventually, reactor};
use rustix::process::{Pid, Signal, kill_process};

/// Returns the path of a picture that does not exist.
fn picture(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("reactor-bench-{name}-{}.svg", std::process::id()))
}

#[test]
fn results_are_words_and_a_picture() {
    let server = Server::start(&["echo=0"]);
    let path = picture("words");
    let output = bench("echo", server.addr("echo"), &format!("--duration 200ms --plot {}", path.display()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "a progress bar without a terminal: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["throughput", "requests/s", "min", "p99.9", "errors      none", "lost        nothing"] {
        assert!(text.contains(word), "{word} is missing from: {text}");
    }
    let svg = fs::read_to_string(&path).expect("the picture");
    fs::remove_file(&path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("<polyline") && svg.contains("latency"), "{svg}");
    assert_well_formed(&svg);
    let output = bench("echo", server.addr("echo"), "--duration 200ms --plot /no/such/folder/x.svg");
    assert_fails(&output, "cannot write /no/such/folder/x.svg: No such file or directory");
}

/// Asserts that every opened element is closed, in order.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("<{part} has no end"));
        let name = tag.split_whitespace().next().unwrap();
        assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "<{part}");
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} have no end");
}

#[test]
fn a_missing_server_is_one_line() {
    let Vacant { addr, .. } = &Vacant::new();
    for kind in ["echo", "echo-udp", "time", "chat", "http"] {
        let output = bench(kind, *addr, "--duration 10s --json");
        assert_fails(&output, &format!("{kind}: {addr}: cannot connect: Connection refused"));
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let cases = [
        "",
        "echo",
        "nothing 7007",
        "echo 70007",
        "echo 0",
        "echo 7007 --connections 0",
        "echo 7007 --pipeline 0",
        "echo 7007 --rate 0",
        "echo 7007 --rate -1",
        "echo 7007 --size 0",
        "echo 7007 --size 18446744073709551616",
        "echo 7007 --size 1GiB --connections 1000",
        "echo 7007 --duration 3",
        "echo 7007 --speakers 1",
        "echo 7007/path",
        "echo-udp 7007 --size 65508",
        "echo-udp 7007 --size 7",
        "time 7013 --pipeline 2",
        "time 7013 --size 2",
        "chat 8000 --speakers 51",
        "chat 8000 --size 10",
        "http 8080 --size 10",
        "http http://localhost/a^b/\u{e4}",
        "http http://",
        "http https://localhost/",
        "http #a",
        "echo 7007 --size 512MiB",
        "echo 7007 --size 2MiB --connections 1000",
        "echo 7007 --size 1 --pipeline 65536 --connections 1000",
        "http 8080 --pipeline 65536 --connections 1000",
        "chat 8000 --connections 60000 --speakers 60000",
    ];
    for case in cases {
        let words: Vec<_> = case.split_whitespace().collect();
        let output = reactor(&[&["bench"], &words[..]].concat()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{case}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.lines().count() == 1, "{case}: {output:?}");
    }
}

#[test]
fn ctrl_c_ends_a_run_early_and_prints_its_figures() {
    let server = Server::start(&["echo=0", "echo-udp=0", "time=0", "chat=0"]);
    for (kind, options) in [
        ("echo", "--pipeline 4 --duration 60s"),
        ("echo", "--rate 2000 --duration 0"),
        ("echo-udp", "--duration 60s"),
        ("time", "--duration 60s --connections 3"),
        ("chat", "--duration 60s --connections 5"),
    ] {
        let before = work(&server);
        let bench = start(kind, &server.addr(kind).to_string(), &format!("--json {options}"));
        assert!(eventually(PATIENCE, || work(&server) > before + 10_000), "{kind} does not begin");
        interrupt(&bench);
        let figures = figures(&bench.wait_with_output().unwrap());
        assert!(count(&figures, "answered") > 10, "{figures}");
        assert_eq!(figures["interrupted"], !options.contains("--duration 0"), "{figures}");
        // A request cut off by the interrupt is neither lost nor an error.
        assert_eq!([count(&figures, "unanswered"), count(&figures, "error_count")], [0, 0], "{figures}");
        assert!(kind != "chat" || count(&figures["deliveries"], "lost") == 0, "{figures}");
    }
    server.assert_serves();
}

#[test]
fn a_failed_run_leaves_the_old_picture() {
    let path = picture("old");
    let options = format!("--duration 200ms --plot {}", path.display());
    let (silent, vacant) = (serve(drop), Vacant::new());
    let nothing = format!("nothing was answered, so {} is not drawn", path.display());
    let fail = || {
        assert_fails(&bench("echo", vacant.addr, &options), "cannot connect: Connection refused");
        assert_fails(&bench("time", silent, &options), &nothing);
    };
    fail();
    assert!(!path.exists(), "nothing was drawn");
    let old = "<!-- ".to_owned() + &"old ".repeat(100_000) + "-->";
    fs::write(&path, &old).unwrap();
    fail();
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    let server = Server::start(&["echo=0"]);
    let output = bench("echo", server.addr("echo"), &options);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let svg = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(svg.starts_with("<svg ") && !svg.contains("old"), "{svg:.100}");
    assert_well_formed(&svg);
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let server = Server::start(&["echo=0"]);
    let addr = server.addr("echo").to_string();
    for format in ["--json", "--connections=1"] {
        let mut command = reactor(&["bench", "echo", &addr, "--duration", "200ms", format]);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).spawn().unwrap().wait_with_output().unwrap();
        assert_fails(&output, "cannot write to standard output: No space left on device");
    }
}

/// Runs a chat load against a server that never greets, on a terminal of the type `term`, and interrupts the run once the
/// terminal shows `sign`. Returns the text of the terminal.
fn text_on_terminal(term: &str, sign: &str) -> String {
    // The read keeps the connection open.
    let addr = serve(|mut peer| drop(peer.read(&mut [0])));
    let (user, process): (OwnedFd, OwnedFd) = terminal();
    let mut command = reactor(&["bench", "chat", &addr.to_string(), "--connections", "2"]);
    let mut bench = command.env("TERM", term).stderr(Stdio::from(process)).spawn().unwrap();
    drop(command);
    let mut screen = Vec::new();
    let mut user = File::from(user);
    let mut buffer = [0; 1024];
    let mut interrupted = false;
    // A read fails with EIO after the last process has closed the terminal.
    while let Ok(n @ 1..) = user.read(&mut buffer) {
        screen.extend_from_slice(&buffer[..n]);
        if !interrupted && String::from_utf8_lossy(&screen).contains(sign) {
            interrupt(&bench);
            interrupted = true;
        }
    }
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    String::from_utf8(screen).unwrap()
}

#[test]
fn a_terminal_shows_the_cause_of_the_wait() {
    let screen = text_on_terminal("xterm", "0 of 2 are served");
    assert!(screen.contains("waits for its connections") && screen.contains("\x1b[K"), "{screen:?}");
    assert!(screen.contains("interrupted when 0 of 2 connections were served"), "{screen:?}");
    // A terminal that cannot move its cursor back gets a line of text.
    let screen = text_on_terminal("dumb", "0 of 2 are served").replace("\r\n", "\n");
    assert!(!screen.contains(['\r', '\x1b']), "{screen:?}");
    assert_eq!(screen.lines().count(), 2, "{screen:?}");
}

#[test]
fn fewer_connections_than_requested_are_reported() {
    let server = Server::start(&["echo=0", "time=0", "http=0"]);
    for kind in ["echo", "time", "http"] {
        let run = |format: &[&str]| {
            let words = ["-c", "ulimit -n 20; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_reactor"), "bench", kind];
            let addr = server.addr(kind).to_string();
            let options = ["--connections", "30", "--duration", "300ms"];
            let mut command = std::process::Command::new("sh");
            command.args(words).arg(addr).args(options).args(format).env_remove("RUST_LOG").output().unwrap()
        };
        let figures = figures(&run(&["--json"]));
        let (asked, made) = (count(&figures, "connections"), count(&figures, "connected"));
        assert!(asked == 30 && (1..20).contains(&made), "{figures}");
        let refused = count(&figures["errors"], "cannot connect: Too many open files");
        assert!(kind == "time" && refused >= 30 - made || refused == 30 - made, "{figures}");
        let words = String::from_utf8(run(&[]).stdout).unwrap();
        assert!(words.contains(&format!(": {made} of 30 connections, ")), "{words}");
    }
}

#[test]
fn sigusr1_prints_the_report_of_the_generator() {
    let server = Server::start(&["echo=0"]);
    let before = work(&server);
    let bench = start("echo", &server.addr("echo").to_string(), "--duration 60s --json");
    assert!(eventually(PATIENCE, || work(&server) > before + 10_000), "the run does not begin");
    kill_process(Pid::from_raw(bench.id() as i32).unwrap(), Signal::USR1).unwrap();
    let then = work(&server);
    assert!(eventually(PATIENCE, || work(&server) > then + 10_000), "the run does not continue");
    interrupt(&bench);
    let output = bench.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("dials") && stderr.contains("turns"), "{stderr}");
}
