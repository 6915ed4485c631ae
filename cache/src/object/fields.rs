//! The header fields that are stored with an object, as the lines of an answer: one allocation, sent as it is.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use serde::{Deserialize, Serialize};

/// Header fields with their values, in the order in which they are sent.
///
/// They stand as in an answer: `name: value` and a line's end each. A value is bytes, in whatever encoding it was
/// stored. What is not allowed there is percent-encoded, so nothing that S3 stores is dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(String, Value)>", into = "Vec<(String, Value)>")]
pub struct FieldLines(Box<[u8]>);

/// A value as nodes send it to each other.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    /// It is not UTF-8.
    Bytes(Vec<u8>),
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl FieldLines {
    /// The lines, each with its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b": ")?.strip_suffix(b"\r")?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The value of the first field of this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for FieldLines {
    /// A field must have a name.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut lines = Vec::new();
        for (name, value) in fields {
            if name.as_ref().is_empty() {
                continue;
            }
            escape(name.as_ref().as_bytes(), is_token, &mut lines);
            lines.extend_from_slice(b": ");
            escape(value.as_ref(), is_text, &mut lines);
            lines.extend_from_slice(b"\r\n");
        }
        Self(lines.into())
    }
}

impl From<Vec<(String, Value)>> for FieldLines {
    fn from(fields: Vec<(String, Value)>) -> Self {
        fields.into_iter().collect()
    }
}

impl From<FieldLines> for Vec<(String, Value)> {
    fn from(lines: FieldLines) -> Self {
        let owned = |(name, value): (&str, &[u8])| {
            let value = match std::str::from_utf8(value) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Bytes(value.to_vec()),
            };
            (name.to_owned(), value)
        };
        lines.iter().map(owned).collect()
    }
}

impl fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .iter()
            .map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(shown).finish()
    }
}

/// What a field's name may hold (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte)
}

/// What a field's value may hold.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Text as it can be sent as a field's value.
pub(super) fn sendable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_text) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len() + 8);
    escape(text.as_bytes(), is_text, &mut bytes);
    // Only control characters have changed, and into ASCII.
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape(bytes: &[u8], is_held: fn(u8) -> bool, into: &mut Vec<u8>) {
    for byte in bytes {
        if is_held(*byte) {
            into.push(*byte);
        } else {
            // Writing to a Vec does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_can_hold_is_escaped_and_never_dropped() {
        let lines = FieldLines::from_iter([
            ("content-disposition", "attachment; filename=\"ü\""),
            ("x-amz-meta-naïve name", "line\r\nbreak: \t\0"),
            ("", "nobody's"),
        ]);
        assert_eq!(
            String::from_utf8_lossy(lines.as_bytes()),
            "content-disposition: attachment; filename=\"ü\"\r\nx-amz-meta-na%C3%AFve%20name: line%0D%0Abreak: \t%00\r\n"
        );
        assert_eq!(
            lines.get("X-Amz-Meta-na%c3%afve%20name"),
            Some(&b"line%0D%0Abreak: \t%00"[..])
        );
        assert_eq!(lines.get("content-type"), None);
    }

    #[test]
    fn they_travel_as_pairs_and_arrive_the_same() {
        let lines = FieldLines::from_iter([("a", "1"), ("b", ""), ("a", "2")]);
        let json = serde_json::to_string(&lines).unwrap();
        assert_eq!(json, r#"[["a","1"],["b",""],["a","2"]]"#);
        assert_eq!(serde_json::from_str::<FieldLines>(&json).unwrap(), lines);
        let hostile: FieldLines = serde_json::from_str(r#"[["a: b\r\nc","d\r\ne: f"]]"#).unwrap();
        assert_eq!(hostile.iter().count(), 1);
    }

    #[test]
    fn a_value_in_latin_1_stays_as_it_is_on_the_way_to_a_peer_and_beyond() {
        let value = b"attachment; filename=\"r\xe9sum\xe9.txt\"";
        let lines = FieldLines::from_iter([("content-disposition", &value[..])]);
        assert_eq!(lines.get("content-disposition"), Some(&value[..]));
        let json = serde_json::to_vec(&lines).unwrap();
        assert_eq!(serde_json::from_slice::<FieldLines>(&json).unwrap(), lines);
    }
}
