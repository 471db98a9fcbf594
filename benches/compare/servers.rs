//! The compared servers: building, starting and stopping them.
//!
//! Owns: [`Contender`] and [`Server`]. Must not know: the measurement.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use serde_json::Value;

/// One way to write an echo server.
pub struct Contender {
    /// The name in tables and plots.
    pub name: &'static str,
    /// The description.
    pub about: &'static str,
    program: PathBuf,
    first: Option<&'static str>,
}

/// The argument that makes this program the server on tokio.
pub const TOKIO: &str = "serve-tokio";

/// The contenders that are examples: name, example, description.
const EXAMPLES: [(&str, &str, &str); 3] = [
    ("blocking threads", "echo_blocking", "std::net, a thread for each connection, read and write_all"),
    ("reactor", "echo_reactor", "this crate: one thread, one poll loop"),
    ("raw epoll", "raw_syscalls", "bare system calls, level-triggered epoll, one thread"),
];

/// Builds the contenders. A contender whose compiler is missing is reported and left out.
pub fn build(folder: &Path) -> Result<Vec<Contender>, Box<dyn Error>> {
    let mut contenders = Vec::new();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    for (_, example, _) in EXAMPLES {
        command.args(["--example", example]);
    }
    let built = command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err("the examples do not build".into());
    }
    let messages: Vec<Value> =
        String::from_utf8(built.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (name, example, about) in EXAMPLES {
        let program =
            messages.iter().find(|message| message["target"]["name"] == example && message["executable"].is_string());
        let program =
            program.and_then(|message| message["executable"].as_str()).ok_or("cargo reports no executable")?;
        contenders.push(Contender { name, about, program: program.into(), first: None });
    }
    contenders.push(Contender {
        name: "tokio",
        about: "tokio's current-thread runtime, a task for each connection",
        program: env::current_exe()?,
        first: Some(TOKIO),
    });
    match build_go(folder) {
        Ok(program) => contenders.push(Contender {
            name: "Go",
            about: "Go's net package, a goroutine for each connection",
            program,
            first: None,
        }),
        Err(error) => eprintln!("without Go: {error}"),
    }
    Ok(contenders)
}

fn build_go(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/echo.go");
    fs::create_dir_all(folder)?;
    let program = folder.join("echo_go");
    let built = Command::new("go").arg("build").arg("-o").args([&program, &source]).output();
    let built = built.map_err(|error| format!("go: {error}"))?;
    if built.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&built.stderr).trim().into()) }
}

/// A running contender.
pub struct Server {
    child: Child,
    /// The address of the listener.
    pub addr: SocketAddr,
}

impl Server {
    /// Starts a contender at a port that the kernel chooses.
    pub fn start(contender: &Contender) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(&contender.program);
        command
            .args(contender.first)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        match line.trim().rsplit(' ').next().and_then(|addr| addr.parse().ok()) {
            Some(addr) => Ok(Self { child, addr }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} does not listen", contender.name).into())
            }
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
