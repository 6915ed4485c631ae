//! A request's id: the client's if it is usable, else a new one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, in requests and answers.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is accepted, in bytes.
const LONGEST: usize = 128;

/// The digits of the second part.
const DIGITS: usize = 8;

/// The first part: random for each process, so that two nodes never make the same id.
static PROCESS: LazyLock<String> =
    LazyLock::new(|| format!("{:016x}-", RandomState::new().hash_one(0)));
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The id of the request with these headers: 1 to 128 visible ASCII characters.
pub(super) fn from_headers(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(X_REQUEST_ID)
        .filter(|id| usable(id.as_bytes()))
        .cloned()
        .unwrap_or_else(make)
}

/// Appends the id that was `given`, or a new one, for a request whose headers are not in a map.
pub(super) fn write(given: Option<&[u8]>, into: &mut Vec<u8>) {
    match given.filter(|id| usable(id)) {
        Some(id) => into.extend_from_slice(id),
        None => next(into),
    }
}

/// The id as text.
pub(super) fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

fn usable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn make() -> HeaderValue {
    let mut id = Vec::with_capacity(PROCESS.len() + DIGITS);
    next(&mut id);
    HeaderValue::try_from(id).expect("hexadecimal digits are a header's value")
}

/// By hand: formatting would cost as much as the rest of a hit's head.
fn next(into: &mut Vec<u8>) {
    into.extend_from_slice(PROCESS.as_bytes());
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let digits = (count.ilog2() as usize / 4 + 1).max(DIGITS);
    into.extend((0..digits).rev().map(|digit| {
        let value = (count >> (4 * digit)) & 0xf;
        b"0123456789abcdef"[value as usize]
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(given: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        from_headers(&headers)
    }

    #[test]
    fn a_usable_id_is_taken_over() {
        assert_eq!(answered(b"build/42:a"), "build/42:a");
        assert_eq!(answered(&[b'x'; 128]), "x".repeat(128));
    }

    #[test]
    fn any_other_is_replaced() {
        for given in [
            &b""[..],
            b"two words",
            b"tab\tin",
            "ü".as_bytes(),
            &[b'x'; 129],
        ] {
            let id = answered(given);
            assert_ne!(id.as_bytes(), given);
            assert!(usable(id.as_bytes()));
        }
        assert_ne!(
            from_headers(&HeaderMap::new()),
            from_headers(&HeaderMap::new())
        );
    }
}
