//! The parameters of a request, decoded exactly once, as HTML forms and Go's `net/url` do it: `+` is a blank, `%2B` a
//! plus. A parameter that is unknown or repeated is refused by name: a typing error must not purge or warm something
//! else.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::web::failure::Failure;

/// The parameters of one request, all of them known to its route.
pub(super) struct Query {
    pairs: Vec<(&'static str, String)>,
}

impl Query {
    /// Decodes `raw`, the target's part after `?`; `known` are the route's parameters.
    pub(super) fn parse(raw: Option<&str>, known: &[&'static str]) -> Result<Self, Failure> {
        let mut pairs: Vec<(&'static str, String)> = Vec::with_capacity(known.len());
        for pair in raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).map_err(|why| malformed("the name of each parameter", why))?;
            let Some(name) = known.iter().find(|known| **known == name).copied() else {
                return Err(unknown(&name, known));
            };
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Failure::bad(
                    "RepeatedParameter",
                    format_args!("{name}= must be given once; got it twice"),
                ));
            }
            let value = decode(value).map_err(|why| malformed(&format!("{name}="), why))?;
            pairs.push((name, value.into_owned()));
        }
        Ok(Self { pairs })
    }

    /// The parameter's value, if it was given.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| *known == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// The parameter's value; its absence is an error.
    pub(super) fn need(&mut self, name: &str) -> Result<String, Failure> {
        self.take(name)
            .ok_or_else(|| Failure::bad("MissingParameter", format_args!("{name}= is required")))
    }
}

fn malformed(what: &str, why: &str) -> Failure {
    Failure::bad("InvalidParameter", format_args!("{what} {why}"))
}

fn unknown(name: &str, known: &[&str]) -> Failure {
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join("=, ") + "="
    };
    Failure::bad(
        "UnknownParameter",
        format_args!("unknown parameter {name}=; this route has: {known}"),
    )
}

fn decode(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    if !raw.contains(['%', '+']) {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = raw.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let escape = bytes.get(at + 1..at + 3);
        if !escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err("must have two hexadecimal digits after each % (a % itself is %25)");
        }
    }
    let blanks = raw.replace('+', " ");
    let decoded: Vec<u8> = percent_decode(blanks.as_bytes()).collect();
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| "must be UTF-8")
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn key(raw: &str) -> Result<String, String> {
        Query::parse(Some(raw), &["key", "bucket"])
            .and_then(|mut query| query.need("key"))
            .map_err(|failure| failure.code().to_owned())
    }

    #[test]
    fn keys_are_decoded_exactly_once() {
        for (raw, want) in [
            ("key=a%23b", "a#b"),
            ("key=a//b", "a//b"),
            ("key=../x", "../x"),
            ("key=%252F", "%2F"),
            ("key=a+b%2Bc%20d", "a b+c d"),
            ("key=a=b", "a=b"),
            ("key=%C3%BC", "ü"),
            ("key=%00%0a", "\0\n"),
            ("bucket=x&key=%26&", "&"),
            ("key=", ""),
            ("key", ""),
            ("k%65y=v", "v"),
        ] {
            assert_eq!(key(raw).as_deref(), Ok(want), "{raw}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (raw, code) in [
            ("key=%FF", "InvalidParameter"),
            ("key=%", "InvalidParameter"),
            ("key=%2", "InvalidParameter"),
            ("key=%zz", "InvalidParameter"),
            ("key=a&key=b", "RepeatedParameter"),
            ("key=a&k%65y=b", "RepeatedParameter"),
            ("key=a&prefx=b", "UnknownParameter"),
            ("Key=a", "UnknownParameter"),
            ("bucket=b", "MissingParameter"),
        ] {
            assert_eq!(key(raw), Err(code.to_owned()), "{raw}");
        }
        let failure = Query::parse(Some("prefx=a"), &["key", "prefix"])
            .err()
            .unwrap();
        assert_eq!(
            failure.message(),
            "unknown parameter prefx=; this route has: key=, prefix="
        );
    }

    proptest! {
        #[test]
        fn every_key_arrives_as_it_was_sent(sent in "\\PC{1,40}|[ -~]{1,40}|[\\x00-\\x1f+%&=#/.]{1,20}") {
            let raw = format!("key={}", utf8_percent_encode(&sent, NON_ALPHANUMERIC));
            prop_assert_eq!(key(&raw), Ok(sent));
        }
    }
}
