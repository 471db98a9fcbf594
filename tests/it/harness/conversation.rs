//! Conversations as data: what clients send and hear, step by step, played against any server.
//!
//! A step waits for what it expects and never for time to pass, so that every server that keeps the protocol gives the
//! same transcript however fast it is. Names that differ from run to run are written `{N}` (the address of client N),
//! `{time}` (the local time) and `{date}` (the header field of that name, whatever it says).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use reactor::protocol::time_text::LocalTime;

use super::{PATIENCE, Server, client, reset};

/// What happens next; each names the client that it happens to.
pub enum Step {
    Open(usize),
    /// Over UDP these are one datagram. Over TCP nobody waits until they are sent.
    Send(usize, Vec<u8>),
    /// Sends FIN after what has been sent before.
    Shut(usize),
    /// All that was to be sent has been taken: nobody has closed over it.
    Sent(usize),
    /// So many bytes are heard as these, within a time; over UDP one datagram.
    Hear(usize, Vec<u8>, Duration),
    /// Nothing is heard for so long.
    Silence(usize, Duration),
    /// The end of file is heard.
    End(usize),
    /// Closes, with whatever has not been read.
    Close(usize),
    /// Closes with RST.
    Reset(usize),
}

/// One step or several.
pub type Part = Vec<Step>;

/// One part after the other.
pub fn steps<const N: usize>(parts: [Part; N]) -> Part {
    parts.into_iter().flatten().collect()
}

pub fn open(client: usize) -> Part {
    vec![Step::Open(client)]
}

pub fn send(client: usize, bytes: impl AsRef<[u8]>) -> Part {
    vec![Step::Send(client, bytes.as_ref().to_vec())]
}

pub fn shut(client: usize) -> Part {
    vec![Step::Shut(client)]
}

pub fn sent(client: usize) -> Part {
    vec![Step::Sent(client)]
}

pub fn hear(client: usize, bytes: impl AsRef<[u8]>) -> Part {
    hear_within(PATIENCE, client, bytes)
}

pub fn hear_within(time: Duration, client: usize, bytes: impl AsRef<[u8]>) -> Part {
    vec![Step::Hear(client, bytes.as_ref().to_vec(), time)]
}

/// Each of `clients` hears the same.
pub fn all_hear(clients: impl IntoIterator<Item = usize>, bytes: impl AsRef<[u8]>) -> Part {
    clients.into_iter().flat_map(|client| hear(client, &bytes)).collect()
}

pub fn silence(client: usize, time: Duration) -> Part {
    vec![Step::Silence(client, time)]
}

pub fn end(client: usize) -> Part {
    vec![Step::End(client)]
}

pub fn close(client: usize) -> Part {
    vec![Step::Close(client)]
}

pub fn reset_by(client: usize) -> Part {
    vec![Step::Reset(client)]
}

/// What one client has heard in one step, and what became of what it had sent.
#[derive(PartialEq, Eq)]
pub struct Heard {
    client: usize,
    bytes: Vec<u8>,
    /// Why it is no more than that.
    error: Option<ErrorKind>,
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.bytes.split_at(self.bytes.len().min(200));
        write!(f, "client {} heard \"{}\"", self.client, shown.escape_ascii())?;
        if !rest.is_empty() {
            write!(f, " and {} bytes", rest.len())?;
        }
        self.error.map_or(Ok(()), |error| write!(f, ", then {error}"))
    }
}

/// What a server must let the clients hear if it says what `steps` expect.
pub fn expected(steps: &[Step]) -> Vec<Heard> {
    let heard = steps.iter().filter_map(|step| match step {
        Step::Hear(client, bytes, _) => Some((*client, bytes.clone(), None)),
        Step::Silence(client, _) => Some((*client, Vec::new(), Some(ErrorKind::WouldBlock))),
        Step::End(client) | Step::Sent(client) => Some((*client, Vec::new(), None)),
        _ => None,
    });
    heard.map(|(client, bytes, error)| Heard { client, bytes, error }).collect()
}

enum Socket {
    /// A stream, and the thread that writes, so that who sends much hears at the same time.
    Tcp(TcpStream, Option<(Sender<Order>, JoinHandle<()>)>),
    Udp(UdpSocket),
}

enum Order {
    Write(Vec<u8>),
    Shut,
    /// Tell the first error until now.
    Tell(Sender<Option<ErrorKind>>),
}

impl Socket {
    fn tcp(addr: SocketAddr) -> Self {
        let stream = client(addr);
        let (sender, orders) = channel();
        let mut writing = stream.try_clone().expect("a descriptor");
        let writer = thread::spawn(move || {
            let mut first = None;
            for order in orders {
                let done = match order {
                    Order::Write(bytes) => writing.write_all(&bytes),
                    Order::Shut => writing.shutdown(Shutdown::Write),
                    Order::Tell(sender) => {
                        let _ = sender.send(first);
                        continue;
                    }
                };
                first = first.or(done.err().map(|error| error.kind()));
            }
        });
        Self::Tcp(stream, Some((sender, writer)))
    }

    fn name(&self) -> String {
        let addr = match self {
            Socket::Tcp(stream, _) => stream.local_addr(),
            Socket::Udp(socket) => socket.local_addr(),
        };
        addr.expect("an address").to_string()
    }

    fn order(&self, order: Order) {
        match (self, order) {
            (Socket::Tcp(_, Some((sender, _))), order) => sender.send(order).expect("the writer listens"),
            (Socket::Udp(socket), Order::Write(bytes)) => {
                assert_eq!(socket.send(&bytes).expect("send"), bytes.len());
            }
            _ => panic!("this client cannot be told that"),
        }
    }

    /// Hears `count` bytes or a datagram within `time`, if nothing comes in between.
    fn hear(&mut self, count: usize, time: Duration) -> (Vec<u8>, Option<ErrorKind>) {
        match self {
            Socket::Tcp(stream, _) => {
                stream.set_read_timeout(Some(time)).expect("set timeout");
                let mut bytes = Vec::new();
                let result = stream.take(count as u64).read_to_end(&mut bytes);
                (bytes, result.err().map(|error| error.kind()))
            }
            Socket::Udp(socket) => {
                socket.set_read_timeout(Some(time)).expect("set timeout");
                let mut bytes = vec![0; 65_536];
                let result = socket.recv(&mut bytes);
                bytes.truncate(*result.as_ref().unwrap_or(&0));
                (bytes, result.err().map(|error| error.kind()))
            }
        }
    }

    /// Waits until all that was ordered is written, and leaves the socket to be closed.
    fn into_stream(self) -> TcpStream {
        let Socket::Tcp(stream, Some((sender, writer))) = self else { panic!("this client has no stream") };
        drop(sender);
        writer.join().expect("the writer has not panicked");
        stream
    }
}

/// A date as long as every other.
const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT";

/// Writes `{date}` for each `Date`.
fn hide_dates(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(text) = String::from_utf8(bytes.clone()) else { return bytes };
    let hide = |line: &str| match line.strip_suffix(" GMT\r\n") {
        Some(rest) if rest.starts_with("Date: ") && line.len() == DATE.len() + 2 => "{date}\r\n".to_owned(),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(hide).collect::<String>().into_bytes()
}

/// A conversation with one server.
struct Stage {
    clients: BTreeMap<usize, Socket>,
    /// Their addresses, which the server may tell after they have gone.
    names: BTreeMap<usize, String>,
    times: Vec<String>,
}

impl Stage {
    /// `bytes` as they are in this run.
    fn real(&self, bytes: &[u8]) -> Vec<u8> {
        let named =
            self.names.iter().fold(bytes.to_vec(), |bytes, (n, name)| replace(&bytes, &format!("{{{n}}}"), name));
        let timed = replace(&named, "{time}", &self.times[0]);
        replace(&timed, "{date}", DATE)
    }

    /// `bytes` as they are in every run.
    fn general(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.times.push(local_time());
        let named =
            self.names.iter().fold(bytes.to_vec(), |bytes, (n, name)| replace(&bytes, name, &format!("{{{n}}}")));
        let named = hide_dates(named);
        // The time that was told lies between two looks at the clock, whose text has the order of time.
        let (first, last) = (self.times[0].as_str(), self.times[self.times.len() - 1].as_str());
        match str::from_utf8(&named) {
            Ok(text) if text.len() == first.len() + 1 && (first..=last).contains(&text.trim_end()) => {
                b"{time}\n".into()
            }
            _ => named,
        }
    }

    fn client(&mut self, n: usize) -> &mut Socket {
        self.clients.get_mut(&n).expect("an open client")
    }

    fn hear(&mut self, client: usize, count: usize, time: Duration) -> Heard {
        let (bytes, error) = self.client(client).hear(count, time);
        Heard { client, bytes: self.general(&bytes), error }
    }
}

/// Plays `steps` against `service` and returns what the clients have heard.
pub fn play(server: &Server, service: &str, steps: &[Step]) -> Vec<Heard> {
    let (clients, names) = (BTreeMap::new(), BTreeMap::new());
    let mut stage = Stage { clients, names, times: vec![local_time()] };
    let mut transcript = Vec::new();
    for step in steps {
        match step {
            Step::Open(n) => {
                let socket = if service.ends_with("-udp") {
                    Socket::Udp(server.connect_udp(service))
                } else {
                    Socket::tcp(server.addr(service))
                };
                stage.names.insert(*n, socket.name());
                stage.clients.insert(*n, socket);
            }
            Step::Send(n, bytes) => stage.client(*n).order(Order::Write(bytes.clone())),
            Step::Shut(n) => stage.client(*n).order(Order::Shut),
            Step::Sent(n) => {
                let (sender, answer) = channel();
                stage.client(*n).order(Order::Tell(sender));
                let error = answer.recv_timeout(PATIENCE).unwrap_or(Some(ErrorKind::TimedOut));
                transcript.push(Heard { client: *n, bytes: Vec::new(), error });
            }
            Step::Hear(n, bytes, time) => {
                let count = stage.real(bytes).len();
                transcript.push(stage.hear(*n, count, *time));
            }
            Step::Silence(n, time) => transcript.push(stage.hear(*n, 1, *time)),
            Step::End(n) => transcript.push(stage.hear(*n, usize::MAX, PATIENCE)),
            Step::Close(n) => drop(stage.clients.remove(n)),
            Step::Reset(n) => reset(stage.clients.remove(n).expect("an open client").into_stream()),
        }
    }
    transcript
}

fn local_time() -> String {
    let mut local = LocalTime::of_system();
    String::from_utf8_lossy(local.line(SystemTime::now())).trim_end().to_owned()
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (mut replaced, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(from.len()).position(|window| window == from.as_bytes()) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
