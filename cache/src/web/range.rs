//! The `Range` header. One range is served; several are answered with the whole object, as RFC 9110 (14.2) allows,
//! and so is anything that is not a byte range.

use http::{HeaderMap, header};

use crate::object::ByteRange;

/// The range that a request asks for; `None` means the whole object.
pub(super) fn from_headers(headers: &HeaderMap) -> Option<ByteRange> {
    let mut values = headers.get_all(header::RANGE).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    parse(only.to_str().ok()?)
}

/// The range that this value of the header asks for.
pub(super) fn parse(value: &str) -> Option<ByteRange> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", length) => Some(ByteRange::Suffix(number(length)?)),
        (first, "") => Some(ByteRange::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::FromTo(first, last))
        }
    }
}

/// Digits only. A number that is too large counts as the largest.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_range_is_understood() {
        for (value, want) in [
            ("bytes=0-0", ByteRange::FromTo(0, 0)),
            ("Bytes = 5 - 9", ByteRange::FromTo(5, 9)),
            ("bytes=7-", ByteRange::From(7)),
            ("bytes=-7", ByteRange::Suffix(7)),
            ("bytes=-0", ByteRange::Suffix(0)),
            (
                "bytes=1-99999999999999999999999",
                ByteRange::FromTo(1, u64::MAX),
            ),
        ] {
            assert_eq!(parse(value), Some(want), "{value}");
        }
    }

    #[test]
    fn anything_else_means_the_whole_object() {
        for value in [
            "bytes=0-1,5-6",
            "bytes=5-4",
            "bytes=-",
            "bytes=",
            "bytes",
            "items=0-1",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=--1",
            "bytes=1-2-3",
            "",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, "bytes=0-1".parse().unwrap());
        assert!(from_headers(&headers).is_some());
        headers.append(header::RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(from_headers(&headers), None);
    }
}
