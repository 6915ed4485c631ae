//! Checks the raw lines of a request's head for what the HTTP library silently repairs and a cache must refuse: both
//! kinds of length, lines that end without CR, and a `#` in the target (what follows it would be cut off, and another
//! object answered).

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `Content-Length` and `Transfer-Encoding` in one head.
    TwoLengths,
    /// A raw `#` in the request's target.
    Fragment,
    /// Sent ahead after a body. Only the HTTP library knows where it begins, so its raw lines were not checked.
    BehindBody,
    /// A line ends with LF alone: a server before this one may split the lines differently.
    BareNewline,
    /// No `Host` or several, or one that is not a host: found once the head has been parsed.
    Host,
}

/// How a head announces a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Encoding,
}

/// Headers that do.
const ANNOUNCING: [(&[u8], Framing); 2] = [
    (b"content-length:", Framing::Length),
    (b"transfer-encoding:", Framing::Encoding),
];

/// Bytes of a line that are kept: enough to recognise a header by its name, and a length of zero.
const KEPT: usize = 24;

/// A head that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScannedHead {
    /// What is wrong with it.
    pub(super) fault: Option<Fault>,
    /// A body follows.
    pub(super) has_body: bool,
}

/// The state of one head, fed as its bytes arrive; ready for the next head when it has ended.
#[derive(Default)]
pub(super) struct HeadScanner {
    line: [u8; KEPT],
    length: usize,
    /// The last byte of the line so far.
    last: u8,
    lines: usize,
    fault: Option<Fault>,
    framing: Option<Framing>,
    has_body: bool,
}

impl HeadScanner {
    /// Takes the next bytes. At the end of a head, returns what it is and the bytes after it, which were not checked.
    pub(super) fn feed<'a>(&mut self, bytes: &'a [u8]) -> Option<(ScannedHead, &'a [u8])> {
        let mut rest = bytes;
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            self.part(part);
            rest = &rest[end? + 1..];
            if self.line_ended() {
                let scanner = std::mem::take(self);
                let head = ScannedHead {
                    fault: scanner.fault,
                    has_body: scanner.has_body,
                };
                return Some((head, rest));
            }
        }
    }

    /// True while no byte of a head has been seen.
    pub(super) fn is_fresh(&self) -> bool {
        self.lines == 0 && self.length == 0
    }

    fn part(&mut self, part: &[u8]) {
        if self.lines == 0 && part.contains(&b'#') {
            self.fault = Some(Fault::Fragment);
        }
        let kept = self.length.min(KEPT);
        let more = part.len().min(KEPT - kept);
        self.line[kept..kept + more].copy_from_slice(&part[..more]);
        self.length += part.len();
        self.last = part.last().copied().unwrap_or(self.last);
    }

    /// True when the line was the head's last.
    fn line_ended(&mut self) -> bool {
        let kept = &self.line[..self.length.min(KEPT)];
        let empty = kept.is_empty() || (self.length == 1 && kept == b"\r");
        if self.length == 0 || self.last != b'\r' {
            self.fault = self.fault.or(Some(Fault::BareNewline));
        }
        let ended = empty && self.lines > 0;
        // Empty lines before a request are allowed and skipped.
        if !empty {
            let mut known = ANNOUNCING.iter();
            if let Some((name, framing)) = known.find(|(name, _)| starts_with(kept, name)) {
                if self.framing.is_some_and(|before| before != *framing) {
                    self.fault = Some(Fault::TwoLengths);
                }
                self.framing = Some(*framing);
                let is_nought = self.length <= KEPT && kept[name.len()..].trim_ascii() == b"0";
                self.has_body |= *framing == Framing::Encoding || !is_nought;
            }
            self.lines += 1;
        }
        self.length = 0;
        ended
    }
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(head: &str) -> Option<Fault> {
        // Whole, and byte by byte: the same answer.
        let (mut whole, mut bytes) = (HeadScanner::default(), HeadScanner::default());
        let (ended, rest) = whole.feed(head.as_bytes()).expect("the head is whole");
        let first = head.len() - rest.len();
        let mut last = None;
        for byte in head.as_bytes()[..first].chunks(1) {
            assert!(last.is_none(), "{head:?}");
            last = bytes.feed(byte);
        }
        let (by_byte, nothing) = last.expect("the head is whole");
        assert!(nothing.is_empty() && by_byte == ended, "{head:?}");
        assert!(whole.is_fresh() && bytes.is_fresh());
        ended.fault
    }

    #[test]
    fn two_lengths_in_either_order_are_a_fault() {
        assert_eq!(
            fault(
                "POST /a HTTP/1.1\r\nContent-Length: 3\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n"
            ),
            Some(Fault::TwoLengths)
        );
        assert_eq!(
            fault("\r\nPOST /a HTTP/1.1\r\nTRANSFER-ENCODING:chunked\r\ncontent-length:3\r\n\r\n"),
            Some(Fault::TwoLengths)
        );
    }

    #[test]
    fn a_line_that_ends_without_a_carriage_return_is_a_fault() {
        for head in [
            "GET /a HTTP/1.1\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n\n",
            "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(fault(head), Some(Fault::BareNewline), "{head:?}");
        }
    }

    #[test]
    fn a_raw_hash_in_the_target_is_a_fault() {
        assert_eq!(
            fault("GET /get?key=a#b HTTP/1.1\r\n\r\n"),
            Some(Fault::Fragment)
        );
    }

    #[test]
    fn a_head_says_whether_a_body_follows() {
        for (bytes, has_body) in [
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nContent-Length:0\n\n", false),
            ("GET / HTTP/1.1\r\ncontent-length: 01\r\n\r\n", true),
            (
                "GET / HTTP/1.1\r\ncontent-length: 0         1\r\n\r\n",
                true,
            ),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ] {
            let mut scanner = HeadScanner::default();
            let (head, rest) = scanner.feed(bytes.as_bytes()).unwrap();
            assert_eq!((head.has_body, rest.len()), (has_body, 0), "{bytes:?}");
        }
        let mut scanner = HeadScanner::default();
        assert!(scanner.is_fresh() && scanner.feed(b"GET / HTTP/1.1\r\n").is_none());
        assert!(!scanner.is_fresh());
        let (_, rest) = scanner.feed(b"\r\nGET").unwrap();
        assert_eq!(rest, b"GET");
    }

    #[test]
    fn an_ordinary_head_is_none() {
        assert_eq!(
            fault(
                "GET /get?key=a%23b HTTP/1.1\r\nX-Note: # content-length: 1\r\nContent-Length: 1\r\n\r\n#"
            ),
            None
        );
    }
}
