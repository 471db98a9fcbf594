//! Valid and invalid requests with their answers. Bodies may have 1,000 bytes.

/// Requests and the statuses of their answers. `ends` is true if the connection ends after the last one.
pub struct Sample {
    pub bytes: Vec<u8>,
    pub statuses: &'static [u16],
    pub ends: bool,
}

fn sample(bytes: impl AsRef<[u8]>, statuses: &'static [u16], ends: bool) -> Sample {
    Sample { bytes: bytes.as_ref().to_vec(), statuses, ends }
}

/// Returns a request after whose answer another may follow.
fn good(bytes: impl AsRef<[u8]>, status: &'static [u16]) -> Sample {
    sample(bytes, status, false)
}

/// Returns a request that is refused, and behind it bytes that must not count as a request.
fn refused(bytes: impl AsRef<[u8]>, status: &'static [u16]) -> Sample {
    let smuggled = b"GET /time HTTP/1.1\r\nHost: smuggled\r\n\r\n";
    sample([bytes.as_ref(), smuggled].concat(), status, true)
}

/// Returns a GET with these lines in its head.
pub fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

/// Returns a POST to `/echo` with these lines in its head besides Host, and `rest` behind the head.
pub fn post(lines: &str, rest: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}")
}

fn chunked(chunks: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", chunks)
}

pub fn samples() -> Vec<Sample> {
    let mut all = requests();
    all.extend(bad_heads());
    all.extend(bodies());
    all.extend(persistence());
    assert!(all.len() >= 120, "{} samples", all.len());
    all
}

fn requests() -> Vec<Sample> {
    let mut all = vec![
        good(get("Host: a\r\n"), &[200]),
        good("GET /time HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /time?zone=UTC HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /headers HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("FROBNICATE /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", &[200]),
        good("GET http://a/time HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET HTTP://a:80/time HTTP/1.1\r\nHost: b\r\n\r\n", &[200]),
        good("GET https://[::1]:443/time?x HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("OPTIONS /time HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /%74ime HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /t%69m%65?a=%62 HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("POST /%74ime HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        good("GET http://a/%74ime HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("GET /%2574ime HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("GET /%2Ftime HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("GET /time/ HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("GET /Time HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("GET //time HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("FROBNICATE /nothing HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
        good("POST /time HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &[405]),
        good("POST /time HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", &[405]),
        good("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        good("FROBNICATE /headers HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        good("get /time HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        good("TRACE /time HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        // White space and characters that are allowed.
        good(get("Host:a\r\n"), &[200]),
        good(get("Host: \t a \t \r\n"), &[200]),
        good(get("hOST: a\r\n"), &[200]),
        good(get("Host: a\r\nX-Empty:\r\nX: a\tb\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n"), &[200]),
        good([b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\r\n\r\n".as_slice()].concat(), &[200]),
        good("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
        good("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n", &[200]),
        refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        good("", &[]),
        good("\r\n", &[]),
    ];
    for host in ["a.example:80", "127.0.0.1", "[::1]", "[::ffff:1.2.3.4]:8080", "a-b_c~d", "a:", "sub;delims=!$&'()*+,"]
    {
        all.push(good(get(&format!("Host: {host}\r\n")), &[200]));
    }
    all
}

fn bad_heads() -> Vec<Sample> {
    let long = |n| "a".repeat(n);
    let fields = |n| (0..n).map(|i| format!("X-{i}: x\r\n")).collect::<String>();
    let mut all = vec![
        refused(get(""), &[400]),
        refused(get("Host: a\r\nHost: a\r\n"), &[400]),
        refused(get("Host: a\r\nhost: b\r\n"), &[400]),
        // Line ends.
        refused("GET / HTTP/1.1\nHost: a\n\n", &[400]),
        refused("GET / HTTP/1.1\r\nHost: a\n\r\n", &[400]),
        refused("GET / HTTP/1.1\r\nHost: a\r\n\n", &[400]),
        refused("GET / HTTP/1.1\nHost: a\r\n\r\n", &[400]),
        refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / HTTP/1.1\rHost: a\r\n\r\n", &[400]),
        refused(get("Host: a\r\nX: a\rb\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\r\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\r\n folded\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\r\n\tfolded\r\n"), &[400]),
        refused(get(" Host: a\r\n"), &[400]),
        // Names and values.
        refused(get("Host : a\r\n"), &[400]),
        refused(get("Host\t: a\r\n"), &[400]),
        refused(get("Host: a\r\nX X: a\r\n"), &[400]),
        refused(get("Host: a\r\n: a\r\n"), &[400]),
        refused(get("Host: a\r\nX\r\n"), &[400]),
        refused(get("Host: a\r\nX(y): a\r\n"), &[400]),
        refused(get("Host: a\r\nX\u{e9}: a\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\0b\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\x01b\r\n"), &[400]),
        refused(get("Host: a\r\nX: a\x7fb\r\n"), &[400]),
        refused(get("Host: a\r\nX\0: a\r\n"), &[400]),
        // The request line.
        refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", &[400]),
        refused(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET /\r\n\r\n", &[400]),
        refused("GET\r\n\r\n", &[400]),
        refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET time HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET http:///time HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", &[501]),
        refused(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[400]),
        refused("SSH-2.0-OpenSSH_9.2\r\n", &[400]),
        // Versions.
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[505]),
        good("GET / HTTP/1.2\r\nHost: a\r\n\r\n", &[200]),
        good("\r\nGET /time HTTP/1.9\r\nHost: a\r\n\r\nGET /time HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200]),
        good("POST /echo HTTP/1.2\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &[200]),
        good("PUT /echo HTTP/1.2\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi", &[100, 200]),
        refused("GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n", &[200]),
        refused("GET / HTTP/1.2\r\n\r\n", &[400]),
        refused("GET / HTTP/1.2\nHost: a\r\n\r\n", &[400]),
        refused("GET / HTTP/1.2\r\nHost : a\r\n\r\n", &[400]),
        refused("GET / HTTP/1.23\r\nHost: a\r\n\r\n", &[400]),
        refused(format!("GET / HTTP/1.2\r\nX: {}\r\n", long(20_000)), &[431]),
        sample("GET / HTTP/1.2\r\nHost", &[400], false),
        refused("GET / HTTP/0.9\r\nHost: a\r\n\r\n", &[505]),
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505]),
        refused("GET / HTTP/1.x\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / HTTP/11\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / http/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / FTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        refused("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", &[400]),
        // Limits: the last that is let pass, and the first that is not.
        good(format!("{} /echo HTTP/1.1\r\nHost: a\r\n\r\n", long(32)), &[200]),
        refused(format!("{} /echo HTTP/1.1\r\nHost: a\r\n\r\n", long(33)), &[501]),
        good(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8191)), &[404]),
        refused(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8192)), &[414]),
        refused(format!("GET /{} HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n", long(8192)), &[414]),
        refused(format!("GET /{}\0 HTTP/1.1\r\n", long(1000)), &[400]),
        good(get(&format!("Host: a\r\n{}", fields(99))), &[200]),
        refused(get(&format!("Host: a\r\n{}", fields(100))), &[431]),
        good(get(&format!("Host: a\r\nX: {}\r\n", long(16_384 - 32))), &[200]),
        refused(get(&format!("Host: a\r\nX: {}\r\n", long(16_384 - 31))), &[431]),
        refused(get(&format!("Host: a\r\nX: {}\0\r\n", long(16_000))), &[400]),
        refused(get(&format!("Host: a\nX: {}\r\n", long(20_000))), &[400]),
        // Expectations.
        refused(get("Host: a\r\nExpect: a-miracle\r\n"), &[417]),
        refused(post("Content-Length: 2\r\nExpect: 100-continue, x\r\n", "hi"), &[417]),
    ];
    let hosts =
        ["", "a b", "a/b", "a@b", "a:b", "a:80:80", "a:123456", "[::1", "[]", "[a]", "a?b", "\"a\"", "[::1]80", ":80"];
    all.extend(hosts.map(|host| refused(get(&format!("Host: {host}\r\n")), &[400])));
    all
}

fn bodies() -> Vec<Sample> {
    let mut all = vec![
        good(post("Content-Length: 5\r\n", "hello"), &[200]),
        good(post("Content-Length: 0005\r\n", "hello"), &[200]),
        good(post("Content-Length: 1000\r\n", &"x".repeat(1000)), &[200]),
        refused(post("Content-Length: 1001\r\n", ""), &[413]),
        refused(post("Content-Length: 9999999999999999999\r\n", ""), &[413]),
        refused(post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), &[400]),
        refused(post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), &[400]),
        refused(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400]),
        refused(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), &[400]),
        refused("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
        sample(post("Content-Length: 5\r\n", "hell"), &[400], false),
        sample(post("Content-Length: 5\r\n", ""), &[400], false),
        sample(get("Host: a\r\n").trim_end(), &[400], false),
        sample("GET", &[400], false),
        // Chunks.
        good(chunked("5\r\nhello\r\n0\r\n\r\n"), &[200]),
        good(chunked("0\r\n\r\n"), &[200]),
        good(chunked("1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n"), &[200]),
        good(chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), &[200]),
        good(chunked("5;name\r\nhello\r\n0;name=value;other=\"quo;ted\"\r\n\r\n"), &[200]),
        good(chunked("5 ; name = value\r\nhello\r\n0\r\n\r\n"), &[200]),
        good(chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n"), &[200]),
        good(chunked(&format!("3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000))), &[200]),
        refused(chunked("3e9\r\n"), &[413]),
        refused(
            chunked("3e8\r\n").as_bytes().iter().copied().chain([b'x'; 1000]).chain(*b"\r\n1\r\n").collect::<Vec<_>>(),
            &[413],
        ),
        refused(chunked("ffffffffffffffff\r\n"), &[413]),
        refused(chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), &[400]),
        refused(chunked("fffffffffffffffff\r\n"), &[400]),
        refused(chunked("5\nhello\r\n0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\n0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\r\n0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\rX0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhelloX\n0\r\n\r\n"), &[400]),
        refused(chunked("5\rXhello\r\n0\r\n\r\n"), &[400]),
        refused(chunked("5;a\rXhello\r\n0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\n\rX"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\nX: y\rX\r\n"), &[400]),
        refused(chunked("5\r\rhello\r\n0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\n\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\nX : y\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\nX: a\0\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\n folded\r\n\r\n"), &[400]),
        refused(chunked("5\r\nhello\r\n0\r\nX\r\n\r\n"), &[400]),
        refused(chunked(&format!("5;{}\r\n", "x".repeat(20_000))), &[431]),
        refused(chunked(&format!("0\r\nX: {}\r\n", "x".repeat(20_000))), &[431]),
        sample(chunked("5\r\nhello\r\n"), &[400], false),
        sample(chunked("5\r\nhello\r\n0\r\n"), &[400], false),
        sample(chunked("5\r\nhel"), &[400], false),
        // Behind a bad chunk of a request for a page without a body.
        refused("POST /time HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", &[400]),
        // 100 Continue.
        good(post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"), &[100, 200]),
        good(post("Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n", "0\r\n\r\n"), &[100, 200]),
        good(post("Content-Length: 0\r\nExpect: 100-continue\r\n", ""), &[200]),
        refused(post("Content-Length: 1001\r\nExpect: 100-continue\r\n", ""), &[413]),
        refused("PUT /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", &[404]),
        sample("POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", &[200], true),
    ];
    all.push(good(post("Content-Length: 5\r\nExpect: , 100-continue,,\r\n", "hello"), &[100, 200]));
    all.push(good(get("Host: a\r\nExpect: ,\r\n"), &[200]));
    all.push(refused(post("Content-Type: a/b\r\nContent-Type: a/b\r\n", ""), &[400]));
    all.push(refused(chunked("5;a=\"b\r\nhello\r\n0\r\n\r\n"), &[400]));
    all.push(refused("GET /time?a={b} HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    all.push(refused("GET /time?%zz HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    for path in ["/%zz", "/%7", "/%", "/%7gime", "/%%74ime", "/%+4ime"] {
        all.push(refused(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), &[400]));
    }
    all.push(good("GET /time?a[]=%5b HTTP/1.1\r\nHost: a\r\n\r\n", &[200]));
    for length in
        ["", "+5", "-5", "0x5", "5 5", "5,5", "5, 5", "5.0", "5e0", "five", "\"5\"", "99999999999999999999", "5;"]
    {
        all.push(refused(post(&format!("Content-Length: {length}\r\n"), "hello"), &[400]));
    }
    for codings in [
        "identity",
        "gzip",
        "chunked, gzip",
        "chunked, chunked",
        "chunked;q=1",
        "",
        ",",
        "chunked,",
        "xchunked",
        "\"chunked\"",
    ] {
        all.push(refused(post(&format!("Transfer-Encoding: {codings}\r\n"), "0\r\n\r\n"), &[400]));
    }
    all.push(refused(post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[501]));
    all.push(refused(post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[501]));
    all.push(refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400]));
    all.push(good(post("Transfer-Encoding:  CHUNKED \r\n", "0\r\n\r\n"), &[200]));
    for size in ["", "x", "-1", "+1", "0x5", " 5", "5 ", "5 5", "5;", "5; ", "5,", "g"] {
        all.push(refused(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), &[400]));
    }
    all
}

fn persistence() -> Vec<Sample> {
    let time = "GET /time HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        good([time, time, time].concat(), &[200, 200, 200]),
        good([time, "\r\n", time].concat(), &[200, 200]),
        good([&post("Content-Length: 5\r\n", "hello"), time].concat(), &[200, 200]),
        good([&chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), time].concat(), &[200, 200]),
        good(["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", time].concat(), &[405, 200]),
        refused([time, &get("")].concat(), &[200, 400]),
        sample([time, "GET"].concat(), &[200, 400], false),
        refused(get("Host: a\r\nConnection: close\r\n"), &[200]),
        refused(get("Host: a\r\nConnection: x, Close\r\n"), &[200]),
        refused(get("Host: a\r\nConnection: close, keep-alive\r\n"), &[200]),
        refused(get("Host: a\r\nConnection: keep-alive\r\nConnection: close\r\n"), &[200]),
        refused(post("Content-Length: 5\r\nConnection: close\r\n", "hello"), &[200]),
        good(get("Host: a\r\nConnection: keep-alive\r\n"), &[200]),
        good(get("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"), &[200]),
        refused("GET /time HTTP/1.0\r\n\r\n", &[200]),
        refused("GET /time HTTP/1.0\r\nHost: a\r\n\r\n", &[200]),
        refused("GET /time HTTP/1.0\r\nHost: a b\r\n\r\n", &[400]),
        refused("GET /time HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", &[200]),
        good("GET /time HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &[200]),
    ]
}
