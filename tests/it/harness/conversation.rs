//! Conversations as data: the sends and receives of several clients, step by step, against any server.
//!
//! Owns: the steps and their transcript. Must not know: which program serves.
//!
//! A step waits for the bytes that it expects and never for time to pass. Every server that keeps the protocol therefore
//! gives the same transcript, however fast it is. Names that differ from run to run are written `{N}` (the address of
//! client N), `{time}` (the local time) and `{date}` (the whole header field).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use reactor::protocol::time_text::LocalTime;

use super::{PATIENCE, Server, client, reset};

/// One action, or one expectation, of the client whose number it has.
pub enum Step {
    Open(usize),
    /// Sends bytes: one datagram over UDP. Over TCP the next step begins before they are sent.
    Send(usize, Vec<u8>),
    /// Sends FIN after all earlier sends.
    Shut(usize),
    /// Expects that all earlier sends succeeded: the server did not close before it had read them.
    Sent(usize),
    /// Expects these bytes within a time; over UDP in one datagram.
    Receive(usize, Vec<u8>, Duration),
    /// Expects no byte for a time.
    Silence(usize, Duration),
    /// Expects the end of file.
    End(usize),
    /// Closes, whatever is left unread.
    Close(usize),
    /// Closes with RST.
    Reset(usize),
}

/// One step or several.
pub type Part = Vec<Step>;

/// Joins parts into one.
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

pub fn receive(client: usize, bytes: impl AsRef<[u8]>) -> Part {
    receive_within(PATIENCE, client, bytes)
}

pub fn receive_within(time: Duration, client: usize, bytes: impl AsRef<[u8]>) -> Part {
    vec![Step::Receive(client, bytes.as_ref().to_vec(), time)]
}

/// Expects the same bytes at each of `clients`.
pub fn all_receive(clients: impl IntoIterator<Item = usize>, bytes: impl AsRef<[u8]>) -> Part {
    clients.into_iter().flat_map(|client| receive(client, &bytes)).collect()
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

/// The result of one expectation.
#[derive(PartialEq, Eq)]
pub struct Received {
    client: usize,
    bytes: Vec<u8>,
    /// The error after the last byte.
    error: Option<ErrorKind>,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.bytes.split_at(self.bytes.len().min(200));
        write!(f, "client {} received \"{}\"", self.client, shown.escape_ascii())?;
        if !rest.is_empty() {
            write!(f, " and {} bytes", rest.len())?;
        }
        self.error.map_or(Ok(()), |error| write!(f, ", then {error}"))
    }
}

/// Returns the transcript of a server that meets every expectation of `steps`.
pub fn expected(steps: &[Step]) -> Vec<Received> {
    let received = steps.iter().filter_map(|step| match step {
        Step::Receive(client, bytes, _) => Some((*client, bytes.clone(), None)),
        Step::Silence(client, _) => Some((*client, Vec::new(), Some(ErrorKind::WouldBlock))),
        Step::End(client) | Step::Sent(client) => Some((*client, Vec::new(), None)),
        _ => None,
    });
    received.map(|(client, bytes, error)| Received { client, bytes, error }).collect()
}

enum Socket {
    /// A stream and a thread that writes, so that a client can receive while a long send is under way.
    Tcp(TcpStream, Option<(Sender<Order>, JoinHandle<()>)>),
    Udp(UdpSocket),
}

enum Order {
    Write(Vec<u8>),
    Shut,
    /// Report the first error until now.
    Report(Sender<Option<ErrorKind>>),
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
                    Order::Report(sender) => {
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
            (Socket::Tcp(_, Some((sender, _))), order) => sender.send(order).expect("the writer runs"),
            (Socket::Udp(socket), Order::Write(bytes)) => {
                assert_eq!(socket.send(&bytes).expect("send"), bytes.len());
            }
            _ => panic!("an order for TCP alone"),
        }
    }

    /// Receives `count` bytes or one datagram within `time`, unless the end or an error comes first.
    fn receive(&mut self, count: usize, time: Duration) -> (Vec<u8>, Option<ErrorKind>) {
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

    /// Waits until every order is carried out, and returns the socket for the caller to close.
    fn into_stream(self) -> TcpStream {
        let Socket::Tcp(stream, Some((sender, writer))) = self else { panic!("this client has no stream") };
        drop(sender);
        writer.join().expect("the writer has not panicked");
        stream
    }
}

/// A header field of the length that every date has.
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

/// The clients of one conversation.
struct Session {
    clients: BTreeMap<usize, Socket>,
    /// Their addresses, which the server may send after the clients have gone.
    names: BTreeMap<usize, String>,
    times: Vec<String>,
}

impl Session {
    /// Returns `bytes` with the names of this run.
    fn real(&self, bytes: &[u8]) -> Vec<u8> {
        let named =
            self.names.iter().fold(bytes.to_vec(), |bytes, (n, name)| replace(&bytes, &format!("{{{n}}}"), name));
        let timed = replace(&named, "{time}", &self.times[0]);
        replace(&timed, "{date}", DATE)
    }

    /// Returns `bytes` with the names that hold for every run.
    fn general(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.times.push(local_time());
        let named =
            self.names.iter().fold(bytes.to_vec(), |bytes, (n, name)| replace(&bytes, name, &format!("{{{n}}}")));
        let named = hide_dates(named);
        // The served time lies between two readings of the clock, and its text sorts as time does.
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

    fn receive(&mut self, client: usize, count: usize, time: Duration) -> Received {
        let (bytes, error) = self.client(client).receive(count, time);
        Received { client, bytes: self.general(&bytes), error }
    }
}

/// Runs `steps` against `service` and returns the transcript.
pub fn run(server: &Server, service: &str, steps: &[Step]) -> Vec<Received> {
    let (clients, names) = (BTreeMap::new(), BTreeMap::new());
    let mut session = Session { clients, names, times: vec![local_time()] };
    let mut transcript = Vec::new();
    for step in steps {
        match step {
            Step::Open(n) => {
                let socket = if service.ends_with("-udp") {
                    Socket::Udp(server.connect_udp(service))
                } else {
                    Socket::tcp(server.addr(service))
                };
                session.names.insert(*n, socket.name());
                session.clients.insert(*n, socket);
            }
            Step::Send(n, bytes) => session.client(*n).order(Order::Write(bytes.clone())),
            Step::Shut(n) => session.client(*n).order(Order::Shut),
            Step::Sent(n) => {
                let (sender, answer) = channel();
                session.client(*n).order(Order::Report(sender));
                let error = answer.recv_timeout(PATIENCE).unwrap_or(Some(ErrorKind::TimedOut));
                transcript.push(Received { client: *n, bytes: Vec::new(), error });
            }
            Step::Receive(n, bytes, time) => {
                let count = session.real(bytes).len();
                transcript.push(session.receive(*n, count, *time));
            }
            Step::Silence(n, time) => transcript.push(session.receive(*n, 1, *time)),
            Step::End(n) => transcript.push(session.receive(*n, usize::MAX, PATIENCE)),
            Step::Close(n) => drop(session.clients.remove(n)),
            Step::Reset(n) => reset(session.clients.remove(n).expect("an open client").into_stream()),
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
