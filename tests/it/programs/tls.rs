//! `tls`: HTTPS by curl and openssl, and by rustls for the ends that those do not show.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clients::{are_installed, output, run};
use crate::harness::{PATIENCE, Server, pattern};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server with a certificate of its own for `localhost`.
struct Fixture {
    server: Server,
    directory: PathBuf,
}

impl Fixture {
    /// Returns `None` if no program can make a certificate.
    fn start(test: &str) -> Option<Self> {
        if !are_installed(&["openssl"]) {
            return None;
        }
        let directory = std::env::temp_dir().join(format!("tls-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.join(name).display().to_string());
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                       -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
        let args: Vec<&str> = request.split(' ').filter(|arg| !arg.is_empty()).collect();
        output("openssl", &[&args[..], &["-keyout", &key, "-out", &cert]].concat());
        let server = Server::example_with("tls", &["127.0.0.1:0", &cert, &key], 1);
        Some(Self { server, directory })
    }

    fn cert(&self) -> String {
        self.directory.join("cert.pem").display().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.addr("tls").port())
    }

    /// Runs curl, which must succeed, and returns its output.
    fn curl(&self, args: &[&str]) -> String {
        // A proxy of the environment must not see the requests.
        output("curl", &[&["-sS", "--noproxy", "*", "--cacert", &self.cert()], args].concat())
    }

    /// Connects a client whose handshake is over.
    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.cert()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, self.server.connect("tls"));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream
    }

    fn stop(&self) {
        self.server.signal(Signal::TERM);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Reads one answer to [`REQUEST`].
fn answer(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn tls_serves_curl() {
    if !are_installed(&["curl"]) {
        return;
    }
    let Some(fixture) = Fixture::start("curl") else { return };
    assert_eq!(fixture.curl(&[&fixture.url("/healthz"), &fixture.url("/healthz")]), "ok\nok\n");
    assert_eq!(fixture.curl(&["--tls-max", "1.2", &fixture.url("/healthz")]), "ok\n");
    // A body of many records comes back unchanged.
    let body = "0123456789".repeat(90_000);
    let file = fixture.directory.join("body");
    fs::write(&file, &body).unwrap();
    let data = format!("@{}", file.display());
    assert!(fixture.curl(&["--data-binary", &data, &fixture.url("/echo")]) == body);
    // A client that does not know the certificate.
    let refused = run("curl", &["-sS", "--noproxy", "*", &fixture.url("/")], b"");
    assert_eq!(refused.status.code(), Some(60), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(fixture.curl(&[&fixture.url("/healthz")]), "ok\n");
    fixture.stop();
}

#[test]
fn tls_serves_openssl_and_ends_with_close_notify() {
    let Some(fixture) = Fixture::start("openssl") else { return };
    let addr = fixture.server.addr("tls").to_string();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // OpenSSL 3 reports an end of file without close_notify as an error.
    let args = ["s_client", "-quiet", "-verify_return_error", "-CAfile", &fixture.cert(), "-connect", &addr];
    let ended = run("openssl", &args, request);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.stdout.ends_with(b"\r\n\r\nok\n"), "{errors}");
    assert!(ended.status.success() && !errors.contains("unexpected eof"), "{errors}");
}

#[test]
fn tls_answers_each_request_of_one_write() {
    let Some(fixture) = Fixture::start("pipelined") else { return };
    let mut stream = fixture.connect();
    // The answers are more than the high-water mark, so the service leaves requests unread.
    stream.write_all(&REQUEST.repeat(2000)).unwrap();
    for _ in 0..2000 {
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut rest = Vec::new();
    // rustls returns an end of file after close_notify, and an error without.
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn tls_resets_a_client_that_ends_without_close_notify() {
    let Some(fixture) = Fixture::start("cut") else { return };
    let mut stream = fixture.connect();
    stream.write_all(REQUEST).unwrap();
    answer(&mut stream);
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let error = stream.sock.read_to_end(&mut Vec::new()).expect_err("a FIN");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn tls_serves_records_at_every_split() {
    let Some(fixture) = Fixture::start("split") else { return };
    let mut stream = fixture.connect();
    let mut other = fixture.connect();
    let mut record = Vec::new();
    stream.write_all(REQUEST).unwrap();
    answer(&mut stream);
    stream.conn.writer().write_all(REQUEST).unwrap();
    stream.conn.write_tls(&mut record).unwrap();
    let length = record.len();
    for split in 0..length {
        stream.sock.write_all(&record[..split]).unwrap();
        // The kernel reports the first part before this request.
        other.write_all(REQUEST).unwrap();
        answer(&mut other);
        stream.sock.write_all(&record[split..]).unwrap();
        answer(&mut stream);
        record.clear();
        stream.conn.writer().write_all(REQUEST).unwrap();
        stream.conn.write_tls(&mut record).unwrap();
        assert_eq!(record.len(), length);
    }
}

#[test]
fn tls_refuses_other_protocols_and_broken_records() {
    let Some(fixture) = Fixture::start("broken") else { return };
    let mut peer = fixture.server.connect("tls");
    peer.write_all(REQUEST).unwrap();
    let mut bytes = Vec::new();
    let _ = peer.read_to_end(&mut bytes);
    // Nothing but an alert (RFC 8446, section 5.1: 21).
    assert!(bytes.is_empty() || bytes[0] == 21, "{bytes:?}");

    let mut stream = fixture.connect();
    stream.write_all(REQUEST).unwrap();
    answer(&mut stream);
    let mut record = Vec::new();
    stream.conn.writer().write_all(REQUEST).unwrap();
    stream.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    stream.sock.write_all(&record).unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err());
    assert!(
        answer(&mut {
            let mut other = fixture.connect();
            other.write_all(REQUEST).unwrap();
            other
        })
        .contains("200 OK")
    );
}

#[test]
fn tls_ends_a_handshake_that_takes_too_long() {
    let Some(fixture) = Fixture::start("slow") else { return };
    let mut peer = fixture.server.connect("tls");
    let start = Instant::now();
    // The head of a record that never comes.
    peer.write_all(&[22, 3, 1, 2, 0]).unwrap();
    let _ = peer.read_to_end(&mut Vec::new());
    let took = start.elapsed();
    assert!(took > Duration::from_secs(9) && took < PATIENCE, "the handshake ended after {took:?}");
}

#[test]
fn tls_finishes_idle_connections_with_close_notify_on_a_stop() {
    let Some(fixture) = Fixture::start("stop") else { return };
    let mut stream = fixture.connect();
    stream.write_all(REQUEST).unwrap();
    answer(&mut stream);
    fixture.stop();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
}

#[test]
fn tls_sends_a_large_answer_to_a_slow_reader() {
    let Some(fixture) = Fixture::start("large") else { return };
    let mut stream = fixture.connect();
    let body: Vec<u8> = pattern(1_000_000);
    let head = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    for _ in 0..8 {
        stream.write_all(&request).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut echoed = vec![0; body.len()];
        stream.read_exact(&mut echoed).unwrap();
        assert!(echoed == body);
    }
}
