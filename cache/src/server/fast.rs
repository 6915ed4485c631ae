//! The fast path: a request that can be answered at once is answered below the HTTP library, which sees an idle
//! connection meanwhile. For a small hit the library costs more than the hit.
//!
//! Only a head that came alone and whole is considered, and only while nothing but such heads has come, so neither part
//! of a body nor half a head is ever taken for a request. Everything else goes to the library.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use httparse::{Header, Status};
use tokio::time::Instant;

use super::host;

/// Requests with more headers are left to the library.
const HEADERS: usize = 32;

/// Headers that change how a connection goes on, or announce a body.
const FRAMING: &[&str] = &[
    "content-length",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A source of immediate answers.
pub trait FastPath: Send + Sync {
    /// The answer that the routes would give to a request that came at `now`; `None` leaves it to them.
    fn answer(&self, request: &PlainRequest<'_>, now: Instant) -> Option<FastResponse>;
}

/// `GET` or `HEAD` by HTTP/1.1, without a body, on a connection that stays open.
pub struct PlainRequest<'a> {
    /// `HEAD`.
    pub head_only: bool,
    /// Path and query: letters, digits and the usual punctuation of a URL, no `#`.
    pub target: &'a str,
    /// All of them; `Connection` says nothing but `keep-alive`.
    pub headers: &'a [Header<'a>],
}

impl<'a> PlainRequest<'a> {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers.iter();
        headers
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }
}

/// An answer being sent: the head, then the pieces of the body, and the observer that counts them.
pub struct FastResponse {
    pieces: VecDeque<Bytes>,
    observer: Box<dyn SentObserver>,
}

/// Observes the bytes that the kernel has taken. Dropped after the last one, or with the connection.
pub trait SentObserver: Send + Sync {
    /// The kernel has taken `bytes` more, those of the head first.
    fn sent(&mut self, bytes: usize);
}

impl FastResponse {
    /// `head` ends with its empty line; `body` holds exactly the bytes that it announces.
    pub fn new(head: Bytes, mut body: VecDeque<Bytes>, observer: Box<dyn SentObserver>) -> Self {
        body.push_front(head);
        Self {
            pieces: body,
            observer,
        }
    }

    /// Bytes that are still to be sent.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// What is still to be sent.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &piece[..])
    }

    /// The next `bytes` have been sent; true when none are left.
    pub(super) fn advance(&mut self, mut bytes: usize) -> bool {
        self.observer.sent(bytes);
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > bytes {
                piece.advance(bytes);
                return false;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
        }
        true
    }
}

/// The answer to the request in `bytes`, if they are one whole plain head and nothing else.
pub(super) fn answer(path: &dyn FastPath, bytes: &[u8], now: Instant) -> Option<FastResponse> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut headers);
    let Ok(Status::Complete(end)) = parsed else {
        return None;
    };
    let head_only = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?;
    let whole = end == bytes.len() && request.version == Some(1);
    if !whole
        || !target.bytes().all(is_usual)
        || request.headers.iter().any(reframes)
        || !host::is_one(request.headers)
        || !ends_with_cr(bytes, target, request.headers)
    {
        return None;
    }
    let plain = PlainRequest {
        head_only,
        target,
        headers: request.headers,
    };
    path.answer(&plain, now)
}

/// True when every line of the head ends with CR LF. httparse also accepts LF alone, and blanks before it: such heads
/// are left to the library, where the head scanner checks every byte.
fn ends_with_cr(bytes: &[u8], target: &str, headers: &[Header<'_>]) -> bool {
    let after = |part: &[u8]| part.as_ptr().addr() - bytes.as_ptr().addr() + part.len();
    let has_cr = |at: usize| bytes.get(at) == Some(&b'\r');
    has_cr(after(target.as_bytes()) + " HTTP/1.1".len())
        && headers.iter().all(|header| has_cr(after(header.value)))
        && bytes.ends_with(b"\r\n\r\n")
}

fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/?=&%-._~+:@,;!$'()*".contains(&byte)
}

fn reframes(header: &Header<'_>) -> bool {
    if header.name.eq_ignore_ascii_case("connection") {
        return !header.value.eq_ignore_ascii_case(b"keep-alive");
    }
    FRAMING
        .iter()
        .any(|name| header.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl SentObserver for Nothing {
        fn sent(&mut self, _bytes: usize) {}
    }

    /// Answers everything.
    struct Always;

    impl FastPath for Always {
        fn answer(&self, request: &PlainRequest<'_>, _now: Instant) -> Option<FastResponse> {
            let target = Bytes::copy_from_slice(request.target.as_bytes());
            Some(FastResponse::new(
                target,
                VecDeque::new(),
                Box::new(Nothing),
            ))
        }
    }

    #[test]
    fn only_a_plain_head_that_is_whole_and_alone_is_answered() {
        let answered = |text: &str| answer(&Always, text.as_bytes(), Instant::now()).is_some();
        for text in [
            "GET /get?key=a%23b+c HTTP/1.1\r\nHost: h\r\n\r\n",
            "HEAD /b/k HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Keep-Alive\r\nX:\r\n\r\n",
        ] {
            assert!(answered(text), "{text:?}");
        }
        for text in [
            "GET /a HTTP/1.1\r\nHost: h\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\nG",
            "GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "get /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, upgrade\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET /a HTTP/1.1\r\nX: y\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /a HTTP/1.1\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nX:\n\r\n",
        ] {
            assert!(!answered(text), "{text:?}");
        }
    }

    #[test]
    fn an_answer_is_sent_to_its_last_byte() {
        let body = VecDeque::from([Bytes::from("cd"), Bytes::from("ef")]);
        let mut answer = FastResponse::new("ab".into(), body, Box::new(Nothing));
        let left = |answer: &FastResponse| answer.pieces().collect::<Vec<_>>().concat();
        assert!(!answer.advance(1));
        assert_eq!(left(&answer), b"bcdef");
        assert!(!answer.advance(3));
        assert_eq!(left(&answer), b"ef");
        assert!(answer.advance(2));
    }
}
