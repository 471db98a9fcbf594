//! The examples: each conversation has the same transcript with the blocking twin, the twin on the reactor, and
//! `reactor serve`.

mod chats;
mod examples;
mod http;
mod simple;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::thread;

use crate::harness::conversation::{Part, expected, run};
use crate::harness::{PATIENCE, Server, eventually};

type Conversation = (&'static str, Part);

/// The services with twins.
const TWINS: [&str; 8] = ["echo", "echo-udp", "time", "idle", "chat", "chat-raw", "chat-hub", "http"];

/// Returns the programs of `service`, first `reactor serve`.
fn programs(service: &str) -> Vec<String> {
    let stem = service.replace('-', "_");
    let mut programs = vec!["reactor serve".to_owned(), format!("{stem}_blocking"), format!("{stem}_reactor")];
    if service == "echo" {
        programs.extend(["bare_mio".to_owned()]);
        programs.extend(cfg!(target_os = "linux").then(|| "raw_syscalls".to_owned()));
    }
    programs
}

fn start(program: &str, service: &str) -> Server {
    match program {
        "reactor serve" => Server::start(&[&format!("{service}=0")]),
        example => Server::example(example, "127.0.0.1:0", 1),
    }
}

/// Runs each conversation with each program, in a server of its own.
fn assert_alike(service: &str, conversations: Vec<Conversation>) {
    let run_all = |program: &str| {
        for (name, steps) in &conversations {
            let mut server = start(program, service);
            let holds = |server: &Server| (server.descriptors(), server.threads());
            let before = holds(&server);
            let received = run(&server, service, steps);
            // The first step that differs: a transcript may be long.
            let expected = expected(steps);
            let differs = received.iter().zip(&expected).position(|(received, expected)| received != expected);
            if let Some(n) = differs {
                panic!("{program}: {name}: step {n}: {:?} and not {:?}; {}", received[n], expected[n], server.log());
            }
            assert_eq!(received.len(), expected.len(), "{program}: {name}");
            // No client is connected any more. The server must hold no descriptor and no thread of theirs.
            assert!(eventually(PATIENCE, || holds(&server) == before), "{program}: {name}: {:?}", holds(&server));
            assert!(server.is_running(), "{program}: {name}: {}", server.log());
            assert!(!server.log().contains("panicked"), "{program}: {name}: {}", server.log());
        }
    };
    let programs = programs(service);
    thread::scope(|scope| {
        for program in &programs {
            scope.spawn(move || run_all(program));
        }
    });
}

fn line_of(member: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    member.read_line(&mut line).expect("a line");
    line
}
