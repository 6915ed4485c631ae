//! The header fields that are stored with an object, as the lines of an answer: one allocation, and nothing left to be made of it.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Header fields with their values, in the order in which they are sent.
///
/// They stand as in an answer: `name: value` and a line's end each. What can't stand there is percent-encoded, so nothing
/// that S3 stores is dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(String, String)>", into = "Vec<(String, String)>")]
pub struct FieldLines(Box<str>);

impl FieldLines {
    /// The lines, each with its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        // By single letters, which is much cheaper to look for than by pairs of them: a hit does it.
        self.0.split_terminator('\n').filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.strip_prefix(' ')?.strip_suffix('\r')?))
        })
    }

    /// The value of the first field of this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for FieldLines {
    /// A field without a name is none.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut lines = String::new();
        for (name, value) in fields {
            if name.as_ref().is_empty() {
                continue;
            }
            lines.push_str(&escaped(name.as_ref(), is_token));
            lines.push_str(": ");
            lines.push_str(&escaped(value.as_ref(), is_text));
            lines.push_str("\r\n");
        }
        Self(lines.into())
    }
}

impl From<Vec<(String, String)>> for FieldLines {
    fn from(fields: Vec<(String, String)>) -> Self {
        fields.into_iter().collect()
    }
}

impl From<FieldLines> for Vec<(String, String)> {
    fn from(lines: FieldLines) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        lines.iter().map(owned).collect()
    }
}

impl fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What a field's name may hold (RFC 9110, 5.6.2).
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$&'*+-.^_`|~".contains(letter)
}

/// What a field's value may hold.
fn is_text(letter: char) -> bool {
    letter == '\t' || !letter.is_ascii_control()
}

/// Text as it can be sent as a field's value.
pub(super) fn sendable(text: &str) -> Cow<'_, str> {
    escaped(text, is_text)
}

fn escaped(text: &str, is_held: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(is_held) {
        return Cow::Borrowed(text);
    }
    let mut sendable = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_held(letter) {
            sendable.push(letter);
        } else {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String does not fail.
                let _ = write!(sendable, "%{byte:02X}");
            }
        }
    }
    Cow::Owned(sendable)
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
            lines.as_str(),
            "content-disposition: attachment; filename=\"ü\"\r\nx-amz-meta-na%C3%AFve%20name: line%0D%0Abreak: \t%00\r\n"
        );
        assert_eq!(
            lines.get("X-Amz-Meta-na%c3%afve%20name"),
            Some("line%0D%0Abreak: \t%00")
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
}
