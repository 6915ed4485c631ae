//! A version of an object: its tag, and what S3 says about it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::fields::sendable;
use super::{BypassReason, FieldLines, Parts};

/// S3's name for one version of an object, quotes included, as it stood in the answer and can be sent in one: S3 sends
/// no control characters, but JSON could; they are percent-encoded.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ETag(Arc<str>);

impl ETag {
    /// The tag as it is in the header; empty if S3 gave none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if two answers with this tag have the same bytes. A missing tag proves nothing, and a weak one not enough.
    pub fn is_strong(&self) -> bool {
        !self.0.is_empty() && !self.0.starts_with("W/")
    }
}

impl From<String> for ETag {
    fn from(tag: String) -> Self {
        Self::from(tag.as_str())
    }
}

impl From<&str> for ETag {
    fn from(tag: &str) -> Self {
        Self(sendable(tag).into())
    }
}

impl From<ETag> for String {
    fn from(tag: ETag) -> Self {
        tag.0.as_ref().to_owned()
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What S3 says about one version: its tag, its size and the headers stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version's tag.
    pub etag: ETag,
    /// Bytes of the whole object.
    pub size: u64,
    /// When S3 stored it; S3 gives whole seconds.
    pub last_modified: Option<SystemTime>,
    /// What else is stored with it: `Content-Type` and similar fields, `x-amz-meta-*`, encryption, tags, locks. Falcon
    /// decodes nothing.
    pub fields: FieldLines,
    /// Its checksums; given to clients that ask for them with the whole object.
    pub checksums: FieldLines,
    /// S3 gives it only whole: no tag proves that two answers are of one version, or S3 does not support ranges, or
    /// gives no length. Each reader gets an answer of its own, and nothing is stored.
    #[serde(default)]
    pub whole_only: bool,
    /// S3 was asked for the checksums of the whole object: it has no others than these.
    #[serde(default)]
    pub checksums_known: bool,
    /// Its parts by their numbers, as far as S3 was asked for them by this node.
    #[serde(skip)]
    pub parts: Parts,
}

impl Head {
    /// The size of an object whose length S3 does not give.
    pub const UNSIZED: u64 = u64::MAX;

    /// True if its length is known before its last byte.
    pub fn is_sized(&self) -> bool {
        self.size != Self::UNSIZED
    }

    /// This head, which S3 gave later, completed from the previous one, if both otherwise agree; `None` if there is
    /// nothing to add.
    #[must_use]
    pub fn inheriting(&self, before: &Self) -> Option<Self> {
        let words = |head: &Self| {
            let (etag, fields) = (head.etag.clone(), head.fields.clone());
            (etag, head.size, head.last_modified, fields)
        };
        let checksums = !self.checksums_known && before.checksums_known;
        let parts = self.parts.is_empty() && !before.parts.is_empty();
        if !(checksums || parts) || words(self) != words(before) {
            return None;
        }
        let mut head = self.clone();
        if checksums {
            head.checksums = before.checksums.clone();
            head.checksums_known = true;
        }
        if parts {
            head.parts = before.parts.clone();
        }
        Some(head)
    }

    /// True if a shared cache may and can store it.
    pub fn is_storable(&self) -> bool {
        self.bypass_reason().is_none()
    }

    /// Why its bytes must not be stored, if they must not.
    pub fn bypass_reason(&self) -> Option<BypassReason> {
        if self.whole_only {
            Some(BypassReason::WholeOnly)
        } else if self.cache_control_has(&["no-store", "private"]) {
            Some(BypassReason::Private)
        } else {
            None
        }
    }

    /// The size of this head in memory, in bytes, including its strings.
    pub fn memory_bytes(&self) -> u64 {
        let texts = [
            self.etag.as_str().as_bytes(),
            self.fields.as_bytes(),
            self.checksums.as_bytes(),
        ];
        let texts = texts.map(<[u8]>::len).iter().sum::<usize>();
        (size_of::<Self>() + texts) as u64 + self.parts.memory_bytes()
    }

    /// True if the stored `Cache-Control` names one of the directives (without its value).
    pub fn cache_control_has(&self, directives: &[&str]) -> bool {
        // Several such lines are one list.
        let lines = self.fields.iter();
        let mut values = lines.filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"));
        values.any(|(_, value)| {
            value.split(|byte| *byte == b',').any(|part| {
                let name = part.split(|byte| *byte == b'=').next();
                let name = name.unwrap_or_default().trim_ascii();
                let is_it = |it: &&str| name.eq_ignore_ascii_case(it.as_bytes());
                directives.iter().any(is_it)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;

    fn head(checksums_known: bool) -> Head {
        Head {
            etag: "\"v1\"".into(),
            size: 10,
            last_modified: None,
            fields: FieldLines::from_iter([("x-amz-meta-a", "1")]),
            checksums: FieldLines::default(),
            whole_only: false,
            checksums_known,
            parts: Parts::default(),
        }
    }

    fn part(number: u32, checksum: &str) -> Part {
        Part {
            number,
            bytes: 0..1,
            count: Some(2),
            checksums: FieldLines::from_iter([("x-amz-checksum-crc32", checksum)]),
        }
    }

    #[test]
    fn every_byte_of_a_long_head_and_of_its_parts_is_counted() {
        let (short, mut long) = (head(true), head(true));
        long.fields = FieldLines::from_iter([("x-amz-meta-a", "1".repeat(64 << 10))]);
        let more = long.memory_bytes() - short.memory_bytes();
        assert_eq!(more, (64 << 10) - 1);
        let before = long.memory_bytes();
        long.parts = long.parts.with(part(1, &"A".repeat(100))).unwrap();
        let lines = "x-amz-checksum-crc32: \r\n".len() + 100;
        assert_eq!(
            long.memory_bytes() - before,
            (size_of::<Part>() + lines) as u64
        );
    }

    #[test]
    fn what_s3_leaves_out_this_time_stays_true_of_that_version_alone() {
        let mut before = head(true);
        before.checksums = FieldLines::from_iter([("x-amz-checksum-crc32", "AA==")]);
        before.parts = before.parts.with(part(1, "BB==")).unwrap();
        let now = head(false).inheriting(&before).unwrap();
        assert_eq!(now, before);
        assert_eq!(before.inheriting(&before), None);
        let mut changed = head(false);
        changed.fields = FieldLines::default();
        assert_eq!(changed.inheriting(&before), None);
        let mut shorter = head(false);
        shorter.size = 9;
        assert_eq!(shorter.inheriting(&before), None);
    }

    #[test]
    fn what_is_private_or_whole_only_is_not_storable() {
        assert!(head(true).is_storable());
        for value in ["private", "max-age=1, No-Store", "private=\"a\""] {
            let mut head = head(true);
            head.fields = FieldLines::from_iter([("cache-control", "x"), ("cache-control", value)]);
            assert!(!head.is_storable(), "{value}");
        }
        let mut whole = head(true);
        whole.whole_only = true;
        assert!(!whole.is_storable());
    }
}
