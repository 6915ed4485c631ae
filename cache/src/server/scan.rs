//! Looks over the raw lines of a request's head for what the HTTP library mends in silence and a cache must refuse:
//! both kinds of length, and a `#` in the target (what follows it would be cut off, and another object answered).

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `Content-Length` and `Transfer-Encoding` in one head.
    TwoLengths,
    /// A raw `#` in the request's target.
    Fragment,
}

/// How a head announces a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Length,
    Encoding,
}

/// Headers that do.
const ANNOUNCING: [(&[u8], Body); 2] = [
    (b"content-length:", Body::Length),
    (b"transfer-encoding:", Body::Encoding),
];

/// Bytes of a line that are kept: enough to know a header by its name.
const KEPT: usize = 18;

/// The state of one head, fed as its bytes arrive.
#[derive(Default)]
pub(super) struct Scan {
    line: [u8; KEPT],
    length: usize,
    lines: usize,
    fault: Option<Fault>,
    body: Option<Body>,
    ended: bool,
    excess: bool,
}

impl Scan {
    /// Takes the next bytes; those after the head's end are not looked at.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.ended {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            self.part(part);
            let Some(end) = end else { return };
            self.line_ended();
            rest = &rest[end + 1..];
        }
        self.excess |= !rest.is_empty();
    }

    /// True while no byte of the head has been seen.
    pub(super) fn is_fresh(&self) -> bool {
        self.lines == 0 && self.length == 0
    }

    /// True when the head has ended and nothing can follow it but the next one: no body, and no byte came with it so far.
    pub(super) fn is_alone(&self) -> bool {
        self.ended && !self.excess && self.body.is_none()
    }

    /// True once the empty line has been seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// What is wrong with the head so far.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn part(&mut self, part: &[u8]) {
        if self.lines == 0 && part.contains(&b'#') {
            self.fault = Some(Fault::Fragment);
        }
        let kept = self.length.min(KEPT);
        let more = part.len().min(KEPT - kept);
        self.line[kept..kept + more].copy_from_slice(&part[..more]);
        self.length += part.len();
    }

    fn line_ended(&mut self) {
        let kept = &self.line[..self.length.min(KEPT)];
        let empty = kept.is_empty() || (self.length == 1 && kept == b"\r");
        // Empty lines before a request are allowed and skipped.
        if empty && self.lines > 0 {
            self.ended = true;
        } else if !empty {
            let mut known = ANNOUNCING.iter();
            if let Some((_, body)) = known.find(|(name, _)| starts_with(kept, name)) {
                if self.body.is_some_and(|before| before != *body) {
                    self.fault = Some(Fault::TwoLengths);
                }
                self.body = Some(*body);
            }
            self.lines += 1;
        }
        self.length = 0;
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
        let (mut whole, mut bytes) = (Scan::default(), Scan::default());
        whole.feed(head.as_bytes());
        for byte in head.as_bytes() {
            bytes.feed(&[*byte]);
        }
        assert!(whole.ended() && bytes.ended(), "{head:?}");
        assert_eq!(whole.fault(), bytes.fault());
        whole.fault()
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
            fault("\r\nPOST /a HTTP/1.1\nTRANSFER-ENCODING:chunked\ncontent-length:3\n\n"),
            Some(Fault::TwoLengths)
        );
    }

    #[test]
    fn a_raw_hash_in_the_target_is_a_fault() {
        assert_eq!(
            fault("GET /get?key=a#b HTTP/1.1\r\n\r\n"),
            Some(Fault::Fragment)
        );
    }

    #[test]
    fn a_head_is_alone_when_nothing_belongs_to_it_or_came_with_it() {
        for (bytes, alone) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\n\r\nG", false),
            ("GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", false),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            ("GET / HTTP/1.1\r\n", false),
        ] {
            let mut scan = Scan::default();
            assert!(scan.is_fresh());
            scan.feed(bytes.as_bytes());
            assert!(!scan.is_fresh());
            assert_eq!(scan.is_alone(), alone, "{bytes:?}");
        }
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
