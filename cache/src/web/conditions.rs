//! Conditional requests (304 and 412), in the order of RFC 9110, 13.2.2. Pure: headers and a head in, a verdict out.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use crate::object::Head;

/// The conditions of one request.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_field_names,
    reason = "they are called as the headers are"
)]
pub(super) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<SystemTime>,
    if_unmodified_since: Option<SystemTime>,
    if_range: Option<String>,
}

/// The verdict on one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Send it; the `Range` header counts.
    Send,
    /// Send it whole: the client's part is of another version.
    SendWhole,
    /// `304`
    NotModified,
    /// `412`
    Failed,
}

impl Conditions {
    /// The conditions in these headers. Invalid dates are ignored, as the RFC demands.
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        Self {
            if_match: list(headers, &header::IF_MATCH),
            if_none_match: list(headers, &header::IF_NONE_MATCH),
            if_modified_since: date(headers, &header::IF_MODIFIED_SINCE),
            if_unmodified_since: date(headers, &header::IF_UNMODIFIED_SINCE),
            // `If-Range` means nothing without a range.
            if_range: list(headers, &header::IF_RANGE)
                .filter(|_| headers.contains_key(header::RANGE)),
        }
    }

    /// True when a head is needed before anything can be answered.
    pub(super) fn any(&self) -> bool {
        self.if_match.is_some()
            || self.if_none_match.is_some()
            || self.if_modified_since.is_some()
            || self.if_unmodified_since.is_some()
            || self.if_range.is_some()
    }

    /// Judges `GET` and `HEAD` of a version that exists.
    pub(super) fn judge(&self, head: &Head) -> Precondition {
        let modified = head.last_modified.map(whole_seconds);
        let etag = head.etag.as_str();
        let holds = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => names(tags, etag, Comparison::Strong),
            (None, Some(since)) => modified.is_none_or(|modified| modified <= since),
            (None, None) => true,
        };
        if !holds {
            return Precondition::Failed;
        }
        let unchanged = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => names(tags, etag, Comparison::Weak),
            (None, Some(since)) => modified.is_some_and(|modified| modified <= since),
            (None, None) => false,
        };
        if unchanged {
            return Precondition::NotModified;
        }
        match &self.if_range {
            Some(validator) if !same_version(validator, etag, modified) => Precondition::SendWhole,
            _ => Precondition::Send,
        }
    }
}

#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// `If-Range`: a strong tag, or exactly the date of the last change.
fn same_version(validator: &str, etag: &str, modified: Option<SystemTime>) -> bool {
    let validator = validator.trim();
    if validator.starts_with('"') || validator.starts_with("W/") {
        return equal(validator, etag, Comparison::Strong);
    }
    let date = httpdate::parse_http_date(validator).ok();
    date.is_some() && date == modified
}

/// True when the list of tags names `etag`, or is `*`.
fn names(list: &str, etag: &str, comparison: Comparison) -> bool {
    if list.trim() == "*" {
        return true;
    }
    if etag.is_empty() {
        return false;
    }
    let mut rest = list;
    while let Some(start) = rest.find(|c: char| c != ',' && !c.is_whitespace()) {
        rest = &rest[start..];
        // A comma inside the quotes belongs to the tag.
        let opened = rest.find('"');
        let end = opened
            .and_then(|open| rest[open + 1..].find('"').map(|close| open + close + 2))
            .filter(|_| opened < rest.find(',').or(Some(usize::MAX)))
            .or_else(|| rest.find(','))
            .unwrap_or(rest.len());
        if equal(rest[..end].trim(), etag, comparison) {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

fn equal(asked: &str, etag: &str, comparison: Comparison) -> bool {
    match comparison {
        Comparison::Strong => !asked.starts_with("W/") && bare(asked) == bare(etag),
        Comparison::Weak => bare(opaque(asked)) == bare(opaque(etag)),
    }
}

/// S3 accepts tags without their quotes, too.
fn bare(tag: &str) -> &str {
    let within = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    within.unwrap_or(tag)
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Several lines of one header are one list.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// HTTP's dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::FieldLines;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn head() -> Head {
        let then = httpdate::parse_http_date(THEN).unwrap();
        Head {
            etag: "\"v,1\"".into(),
            size: 10,
            last_modified: Some(then + Duration::from_millis(700)),
            fields: FieldLines::default(),
            checksums: FieldLines::default(),
            whole_only: false,
            checksums_known: true,
            parts: crate::object::Parts::default(),
        }
    }

    fn verdict(headers: &[(&str, &str)]) -> Precondition {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Conditions::parse(&map).judge(&head())
    }

    #[test]
    fn the_table_of_the_rfc() {
        use Precondition::{Failed, NotModified, Send, SendWhole};
        let (same, other, weak) = ("\"v,1\"", "\"v2\"", "W/\"v,1\"");
        let table: &[(&[(&str, &str)], Precondition)] = &[
            (&[], Send),
            (&[("if-match", same)], Send),
            (&[("if-match", "*")], Send),
            (&[("if-match", other)], Failed),
            (&[("if-match", weak)], Failed),
            (&[("if-match", "\"x\",\"v,1\"")], Send),
            (&[("if-match", other), ("if-match", same)], Send),
            (&[("if-none-match", same)], NotModified),
            (&[("if-none-match", weak)], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", other)], Send),
            (&[("if-none-match", "W/\"x\" , \"v,1\"")], NotModified),
            (&[("if-none-match", "\"v")], Send),
            (&[("if-none-match", "v,1")], Send),
            (&[("if-none-match", ", ,")], Send),
            (&[("if-modified-since", THEN)], NotModified),
            (&[("if-modified-since", LATER)], NotModified),
            (&[("if-modified-since", EARLIER)], Send),
            (&[("if-modified-since", "yesterday")], Send),
            (&[("if-unmodified-since", THEN)], Send),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-unmodified-since", "never")], Send),
            // A tag outweighs a date, and If-Match comes before If-None-Match.
            (
                &[("if-none-match", other), ("if-modified-since", LATER)],
                Send,
            ),
            (
                &[("if-match", same), ("if-unmodified-since", EARLIER)],
                Send,
            ),
            (&[("if-match", other), ("if-none-match", same)], Failed),
            (&[("if-match", same), ("if-none-match", same)], NotModified),
            (&[("range", "bytes=0-1"), ("if-range", same)], Send),
            (&[("range", "bytes=0-1"), ("if-range", weak)], SendWhole),
            (&[("range", "bytes=0-1"), ("if-range", other)], SendWhole),
            (&[("range", "bytes=0-1"), ("if-range", THEN)], Send),
            (&[("range", "bytes=0-1"), ("if-range", LATER)], SendWhole),
            (
                &[("range", "bytes=0-1"), ("if-range", "nonsense")],
                SendWhole,
            ),
            (&[("if-range", other)], Send),
            (
                &[
                    ("range", "bytes=0-1"),
                    ("if-range", other),
                    ("if-none-match", same),
                ],
                NotModified,
            ),
        ];
        for (headers, want) in table {
            assert_eq!(verdict(headers), *want, "{headers:?}");
        }
    }

    #[test]
    fn an_ordinary_request_needs_no_head_first() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-1".parse().unwrap());
        assert!(!Conditions::parse(&headers).any());
        headers.insert(header::IF_RANGE, "\"a\"".parse().unwrap());
        assert!(Conditions::parse(&headers).any());
    }
}
