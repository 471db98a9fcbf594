//! Status codes, and refusals: a status with its reason.
//!
//! Owns: [`Status`] and [`Refusal`]. Must not know: what is wrong with whom.

/// The status of a response (RFC 9110 §15).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 417
    ExpectationFailed,
    /// 431, of RFC 6585
    HeaderFieldsTooLarge,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// The status line, with its end.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.1 200 OK\r\n",
            Status::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Status::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Status::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Status::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Status::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Status::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Status::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Status::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// Why there is no other answer than an error, after which the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What the client is told.
    pub status: Status,
    /// What is wrong, for whoever reads the answer. Never anything that the client has sent.
    pub why: &'static str,
}

impl Refusal {
    /// A refusal with a status of its own.
    pub const fn new(status: Status, why: &'static str) -> Self {
        Self { status, why }
    }

    /// The request is not HTTP, or not safely so.
    pub const fn bad(why: &'static str) -> Self {
        Self::new(Status::BadRequest, why)
    }
}
