//! A request's id: the client's where it gave a usable one, else one of this node's.

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, in requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over, in bytes.
const LONGEST: usize = 128;

/// The length of a made one: its text is then taken over as it is, for as long as it has no more requests than 32 bits count.
const LENGTH: usize = 16 + 1 + 8;

/// Random for each process, so that two nodes never make the same id.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The id of the request with these headers: 1 to 128 visible ASCII characters.
pub fn of(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(X_REQUEST_ID)
        .filter(|id| usable(id.as_bytes()))
        .cloned()
        .unwrap_or_else(make)
}

/// The same for a request whose headers are no map: the id that was `given`, or a new one, as text.
pub(super) fn write(given: Option<&[u8]>, into: &mut Vec<u8>) {
    match given.filter(|id| usable(id)) {
        Some(id) => into.extend_from_slice(id),
        None => into.extend_from_slice(next().as_bytes()),
    }
}

/// The id as text.
pub fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

fn usable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn make() -> HeaderValue {
    HeaderValue::try_from(next()).expect("hexadecimal digits are a header's value")
}

fn next() -> String {
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut id = String::with_capacity(LENGTH);
    // Writing to a String does not fail.
    let _ = write!(id, "{:016x}-{count:08x}", *PROCESS);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(given: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        of(&headers)
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
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
