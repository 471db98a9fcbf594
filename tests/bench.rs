//! `reactor bench`: against servers that behave and servers that do not, it counts what there is to count.

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Output};
use std::thread;
use std::time::Duration;

use harness::{PATIENCE, Server, eventually, reactor};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// Runs `reactor bench KIND ADDR OPTIONS`.
fn bench(kind: &str, addr: SocketAddr, options: &str) -> Output {
    start(kind, &addr.to_string(), options).wait_with_output().expect("wait")
}

fn start(kind: &str, addr: &str, options: &str) -> Child {
    let options: Vec<_> = options.split_whitespace().collect();
    reactor(&[&["bench", kind, addr], &options[..]].concat()).spawn().expect("start reactor bench")
}

/// The figures of a run that has ended well.
#[track_caller]
fn figures(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
fn measure(kind: &str, addr: SocketAddr, options: &str) -> Value {
    figures(&bench(kind, addr, &format!("{options} --json")))
}

fn count(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

fn millis(figures: &Value, name: &str) -> f64 {
    figures["latency_us"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {figures}")) / 1e3
}

/// What every run against a healthy server shows.
#[track_caller]
fn assert_sound(figures: &Value) {
    let (sent, answered) = (count(figures, "sent"), count(figures, "answered") + count(figures, "answered_late"));
    assert!(answered > 10, "{figures}");
    assert_eq!(sent, answered, "{figures}");
    for name in ["unanswered", "strays", "error_count"] {
        assert_eq!(count(figures, name), 0, "{figures}");
    }
    let quantiles = ["min", "p50", "p90", "p99", "p99.9", "max"].map(|name| millis(figures, name));
    assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{figures}");
    let seconds = figures["seconds"].as_f64().unwrap();
    let rate = figures["per_second"].as_f64().unwrap();
    assert!((rate * seconds - count(figures, "answered") as f64).abs() < 1.0, "{figures}");
}

#[test]
fn each_kind_of_request_is_counted_whole() {
    let server = Server::start(&["echo=0", "echo-udp=0", "time=0", "chat=0", "http=0"]);
    let runs = [
        ("echo", "--connections 20"),
        ("echo", "--connections 3 --size 200KiB --pipeline 3"),
        ("echo", "--connections 7 --pipeline 20 --size 1"),
        ("echo-udp", "--connections 5 --pipeline 3"),
        ("echo-udp", "--connections 2 --size 20000 --rate 400"),
        ("time", "--connections 5"),
        ("time", "--connections 5 --rate 300"),
        ("http", "--connections 5 --pipeline 10"),
        ("http", "--connections 5 --rate 500"),
        ("chat", "--connections 10 --speakers 3 --pipeline 2"),
        ("chat", "--connections 4 --speakers 4 --rate 500 --size 500"),
    ];
    for (kind, options) in runs {
        let figures = measure(kind, server.addr(kind), &format!("{options} --duration 200ms"));
        assert_sound(&figures);
        assert_eq!(figures["interrupted"], false);
        assert!((figures["seconds"].as_f64().unwrap() - 0.2).abs() < 1e-6, "{figures}");
        if kind == "chat" {
            let deliveries = &figures["deliveries"];
            assert_eq!(count(deliveries, "due"), count(&figures, "sent") * count(&figures, "connections"), "{figures}");
            assert_eq!(count(deliveries, "came"), count(deliveries, "due"), "{figures}");
            let wrong = ["lost", "reordered", "duplicated"].map(|name| count(deliveries, name));
            assert_eq!(wrong, [0; 3], "{figures}");
        }
    }
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn the_schedule_of_an_open_loop_is_kept() {
    let server = Server::start(&["echo=0"]);
    let figures = measure("echo", server.addr("echo"), "--rate 1000 --duration 300ms --connections 3");
    assert_sound(&figures);
    assert_eq!(count(&figures, "sent"), 300);
}

#[test]
fn words_and_a_picture() {
    let server = Server::start(&["echo=0"]);
    let path = std::env::temp_dir().join(format!("reactor-bench-{}.svg", std::process::id()));
    let output = bench("echo", server.addr("echo"), &format!("--duration 200ms --plot {}", path.display()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "no bar where nobody looks: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["throughput", "requests/s", "min", "p99.9", "errors      none", "lost        nothing"] {
        assert!(text.contains(word), "{word} is missing from: {text}");
    }
    let svg = std::fs::read_to_string(&path).expect("the picture");
    std::fs::remove_file(&path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("<polyline") && svg.contains("latency"), "{svg}");
    assert_well_formed(&svg);
    let output = bench("echo", server.addr("echo"), "--duration 200ms --plot /no/such/folder/x.svg");
    assert_fails(&output, "cannot write /no/such/folder/x.svg: No such file or directory");
}

/// Every element that is opened is closed, in order.
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

/// Lets the server stand still for a third of a run; how long the slowest tenth and hundredth had to wait.
fn measure_through_a_stall(options: &str) -> (Value, f64, f64) {
    let server = Server::start(&["echo=0"]);
    let addr = server.addr("echo").to_string();
    let bench = start("echo", &addr, &format!("--connections 4 --duration 600ms --json {options}"));
    assert!(eventually(PATIENCE, || server.counter("bytes_out") > 20 * 64), "it does not begin");
    server.freeze();
    thread::sleep(Duration::from_millis(200));
    server.thaw();
    let figures = figures(&bench.wait_with_output().unwrap());
    assert_sound(&figures);
    let (p90, p99) = (millis(&figures, "p90"), millis(&figures, "p99"));
    (figures, p90, p99)
}

#[test]
fn a_stall_shows_in_an_open_loop() {
    // Of 600 requests 200 are due while nobody answers. The latest of them wait least; a tenth of all waits 140 ms.
    let (figures, p90, p99) = measure_through_a_stall("--rate 1000");
    assert_eq!(count(&figures, "sent"), 600);
    assert!(p90 > 100.0 && p99 > 150.0, "{figures}");
    // A closed loop asks four times during the stall: few, where nothing else holds it up.
    let (figures, p90, _) = measure_through_a_stall("");
    assert!(millis(&figures, "max") > 150.0, "{figures}");
    assert!(p90 < 100.0, "{figures}");
}

#[track_caller]
fn assert_fails(output: &Output, cause: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(cause), "{stderr}");
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    // Bound, so that nobody else gets the port, but a stream socket that does not listen and a datagram socket that has
    // another peer refuse all the same.
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stream.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagram.connect("127.0.0.1:9").unwrap();
    for kind in ["echo", "echo-udp", "time", "chat", "http"] {
        let addr = match kind {
            "echo-udp" => datagram.local_addr().unwrap(),
            _ => stream.local_addr().unwrap().as_socket().unwrap(),
        };
        let output = bench(kind, addr, "--duration 10s --json");
        assert_fails(&output, &format!("{kind}: {addr}: cannot connect: Connection refused"));
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn wrong_usage_is_told_as_such() {
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
fn ctrl_c_ends_it_early_and_prints_what_was_measured() {
    let server = Server::start(&["echo=0", "echo-udp=0", "time=0", "chat=0"]);
    let work = |server: &Server| server.counter("bytes_out") + server.counter("datagrams_out");
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
        kill_process(Pid::from_raw(bench.id() as i32).unwrap(), Signal::INT).unwrap();
        let figures = figures(&bench.wait_with_output().unwrap());
        assert!(count(&figures, "answered") > 10, "{figures}");
        assert_eq!(figures["interrupted"], !options.contains("--duration 0"), "{figures}");
        // What we have cut off ourselves is neither lost nor an error.
        assert_eq!([count(&figures, "unanswered"), count(&figures, "error_count")], [0, 0], "{figures}");
        assert!(kind != "chat" || count(&figures["deliveries"], "lost") == 0, "{figures}");
    }
    server.assert_serves();
}

/// Answers each connection in a thread of its own.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer(peer));
        }
    });
    addr
}

#[test]
fn bytes_that_are_not_those_that_were_sent_are_an_error() {
    let addr = serve(|mut peer| {
        let mut message = [0; 64];
        for n in 0.. {
            let Ok(()) = peer.read_exact(&mut message) else { return };
            if n == 5 {
                message.swap(30, 31);
            }
            peer.write_all(&message).unwrap();
        }
    });
    let figures = measure("echo", addr, "--connections 3 --duration 5s");
    // All are gone then: it does not wait for the end.
    assert!(figures["seconds"].as_f64().unwrap() < 4.0, "{figures}");
    assert_eq!(count(&figures["errors"], "wrong bytes"), 3, "{figures}");
    assert_eq!([count(&figures, "answered"), count(&figures, "unanswered")], [12, 3], "{figures}");
}

#[test]
fn a_server_that_closes_is_an_error() {
    let addr = serve(|mut peer| {
        // The first one does not count: it shows that the connection is served.
        let mut message = [0; 64];
        for _ in 0..2 {
            peer.read_exact(&mut message).unwrap();
            peer.write_all(&message).unwrap();
        }
    });
    let figures = measure("echo", addr, "--connections 2 --duration 5s");
    assert_eq!(count(&figures, "error_count"), 2, "{figures}");
    assert_eq!(count(&figures, "answered"), 2, "{figures}");
    let nobody = serve(drop);
    assert_fails(&bench("echo", nobody, "--duration 5s"), "connected, but not served: ");
    assert_fails(&bench("time", nobody, "--duration 200ms"), "nothing was answered");
}

#[test]
fn lost_datagrams_are_counted() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 100];
        for n in 0.. {
            let Ok((len, peer)) = socket.recv_from(&mut datagram) else { return };
            // Every other one is lost, and every fourth comes twice.
            for _ in 0..[0, 1, 0, 2][n % 4] {
                socket.send_to(&datagram[..len], peer).unwrap();
            }
        }
    });
    let figures = measure("echo-udp", addr, "--connections 1 --rate 400 --pipeline 1000 --duration 200ms");
    let answered = count(&figures, "answered") + count(&figures, "answered_late");
    assert_eq!(["sent", "unanswered", "strays"].map(|name| count(&figures, name)), [80, 40, 20], "{figures}");
    assert_eq!(answered, 40, "{figures}");
}

#[test]
fn lines_that_a_room_loses_repeats_and_swaps_are_counted() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        peer.write_all(b"You are somebody\n").unwrap();
        let first: Vec<_> = lines.by_ref().take(5).collect();
        // The first comes twice, the third before the second, and the fourth never.
        for n in [0, 0, 2, 1, 4] {
            writeln!(peer, "somebody: {}", first[n]).unwrap();
        }
        let _ = lines.try_for_each(|line| writeln!(peer, "somebody: {line}"));
    });
    let figures = measure("chat", addr, "--connections 1 --pipeline 5 --duration 200ms");
    let deliveries = &figures["deliveries"];
    assert_eq!(["lost", "duplicated", "reordered"].map(|name| count(deliveries, name)), [1, 1, 1], "{figures}");
    assert_eq!(count(deliveries, "came"), count(deliveries, "due") - 1, "{figures}");
}

#[test]
fn a_connection_that_the_server_will_close_is_asked_nothing_else() {
    // As many servers do: so many requests on one connection, and what else was sent on it is thrown away.
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        for connection in ["keep-alive", "keep-alive", "close"] {
            if lines.by_ref().take_while(|line| !line.is_empty()).count() == 0 {
                return;
            }
            write!(peer, "HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        let _ = lines.count();
    });
    // And one of HTTP/1.0 closes after each.
    let old = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        if lines.by_ref().take_while(|line| !line.is_empty()).count() > 0 {
            peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            // Over unread requests its end would be a reset, which can take the answer along. The peer may be gone.
            let _ = peer.shutdown(Shutdown::Write);
            let _ = lines.count();
        }
    });
    for (addr, options) in [(addr, "--pipeline 1"), (addr, "--pipeline 5"), (addr, "--rate 500"), (old, "--pipeline 2")]
    {
        assert_sound(&measure("http", addr, &format!("--connections 3 --duration 200ms {options}")));
    }
}

#[test]
fn http_answers_end_where_they_say_and_connections_are_dialed_again() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        for n in 0..10 {
            let request: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let Some(line) = request.first() else { return };
            assert_eq!(line, "GET /a/b?c HTTP/1.1");
            assert!(request[1..].iter().any(|line| line.starts_with("Host: 127.0.0.1:")), "{request:?}");
            let answer: &[u8] = match n {
                9 => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
                n if n % 3 == 0 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHTTP\r\n0\r\n\r\n",
                5 => b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHTTP/1.1 200",
            };
            peer.write_all(answer).unwrap();
        }
    });
    let url = format!("http://{addr}/a/b?c");
    let output = start("http", &url, "--connections 2 --duration 200ms --json").wait_with_output().unwrap();
    let figures = figures(&output);
    let answered = count(&figures, "answered") + count(&figures, "answered_late");
    assert!(answered > 40 && count(&figures, "unanswered") == 0, "{figures}");
    // One of ten is an error by its status, and nothing else is one.
    let errors = count(&figures["errors"], "status 503");
    assert!(errors.abs_diff(answered / 10) <= 2, "{figures}");
    assert_eq!(count(&figures, "error_count"), errors, "{figures}");
}
