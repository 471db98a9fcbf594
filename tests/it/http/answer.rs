//! Responses as a client parses them.

/// A parsed response.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|header| header.0.eq_ignore_ascii_case(name));
        let first = found.next().map(|header| std::str::from_utf8(&header.1).expect("text"));
        assert!(found.next().is_none(), "{name} comes more than once");
        first
    }

    pub fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }
}

/// Takes a response off the front of `bytes`; `None` if it is not complete.
pub fn take_answer(bytes: &mut &[u8], to_head: bool) -> Option<Answer> {
    let mut room = [httparse::EMPTY_HEADER; 20];
    let mut response = httparse::Response::new(&mut room);
    let len = match response.parse(bytes).expect("a response") {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return None,
    };
    assert_eq!(response.version, Some(1));
    let headers = response.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    let mut answer = Answer { status: response.code.expect("a status"), headers, body: Vec::new() };
    if answer.status == 100 {
        assert_eq!(answer.headers, []);
        *bytes = &bytes[len..];
        return Some(answer);
    }
    assert!(answer.header("Date").is_some() && answer.header("Server").is_some());
    assert!(answer.header("Content-Type").is_some() && answer.header("Transfer-Encoding").is_none());
    let content: usize = answer.header("Content-Length").expect("a length").parse().expect("a number");
    let content = if to_head { 0 } else { content };
    answer.body = bytes.get(len..len + content)?.to_vec();
    *bytes = &bytes[len + content..];
    Some(answer)
}

/// Every response in `bytes`, to the last byte.
pub fn answers(mut bytes: &[u8], to_head: bool) -> Vec<Answer> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let text = String::from_utf8_lossy(bytes).into_owned();
        all.push(take_answer(&mut bytes, to_head).unwrap_or_else(|| panic!("half a response: {text}")));
    }
    all
}
