//! The basic types of the cache: an object, its head, a block of one version, a byte range. No I/O.

// By its path, since the benchmark's replay takes this file by its own.
#[path = "object/fields.rs"]
mod fields;
#[path = "object/parts.rs"]
mod parts;
#[path = "object/relayed.rs"]
mod relayed;
#[path = "object/said.rs"]
mod said;
#[path = "object/source.rs"]
mod source;
#[path = "object/version.rs"]
mod version;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use fields::FieldLines;
pub use parts::{Part, Parts};
pub use relayed::Relayed;
pub use said::Said;
pub use source::{BypassReason, Source};
pub use version::{ETag, Head};

/// Consecutive blocks that are placed together: the unit of ownership.
pub const EXTENT_BLOCKS: u32 = 16;

/// The longest key that S3 accepts, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// What S3 holds under a bucket and a key. The key is exact: nothing is trimmed, folded or decoded here.
///
/// A clone costs one reference count.
#[derive(Clone)]
pub struct ObjectId(Arc<Name>);

struct Name {
    /// The bucket and then the key.
    text: Box<str>,
    bucket_len: usize,
    hash: u64,
}

/// A name that S3 itself would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No bucket was named.
    #[error("the bucket is empty: name one with bucket= or start the node with --bucket")]
    EmptyBucket,
    /// No key was named.
    #[error("the key is empty: name one with key=")]
    EmptyKey,
    /// S3's limit is 1,024 bytes of UTF-8.
    #[error("the key is {0} bytes long; S3 takes at most 1024")]
    KeyTooLong(usize),
}

impl ObjectId {
    /// The object `key` in `bucket`; the key holds 1 to 1,024 bytes.
    pub fn new(bucket: &str, key: &str) -> Result<Self, InvalidName> {
        if bucket.is_empty() {
            return Err(InvalidName::EmptyBucket);
        }
        if key.is_empty() {
            return Err(InvalidName::EmptyKey);
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(InvalidName::KeyTooLong(key.len()));
        }
        // The bucket's hash seeds the key's, so that no two pairs of names are hashed as the same bytes.
        let hash = xxh3_64_with_seed(key.as_bytes(), xxh3_64(bucket.as_bytes()));
        Ok(Self(Arc::new(Name {
            text: [bucket, key].concat().into(),
            bucket_len: bucket.len(),
            hash,
        })))
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.0.text[..self.0.bucket_len]
    }

    /// The key, byte for byte as S3 knows it.
    pub fn key(&self) -> &str {
        &self.0.text[self.0.bucket_len..]
    }

    /// A hash that is the same on every node and in every version of Falcon.
    pub fn stable_hash(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for ObjectId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.bucket_len == other.0.bucket_len
                && self.0.text == other.0.text)
    }
}

impl Eq for ObjectId {}

impl Hash for ObjectId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket(), self.key())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket(), self.key())
    }
}

/// An aligned piece of one version. The tag is part of the key, so a block can't become stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// The object.
    pub object: ObjectId,
    /// The version.
    pub etag: ETag,
    /// Bytes of the whole object: two sizes are two versions, whatever their tag.
    pub size: u64,
    /// Which block of it, from 0; byte `index * block_size` is its first.
    pub index: u32,
}

/// What an invalidation names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum Scope {
    /// One object.
    Key {
        /// Its bucket.
        bucket: String,
        /// Its key, exactly.
        key: String,
    },
    /// Several objects, deleted together.
    Keys {
        /// Their bucket.
        bucket: String,
        /// Their keys, exactly.
        keys: BTreeSet<String>,
    },
    /// Every object of the bucket whose key begins with this.
    Prefix {
        /// The bucket.
        bucket: String,
        /// The beginning of the keys, exactly; empty means the whole bucket.
        prefix: String,
    },
    /// Everything that the cache holds, of every bucket.
    All,
}

impl Scope {
    /// True if the invalidation names this object.
    pub fn covers(&self, object: &ObjectId) -> bool {
        match self {
            Self::Key { bucket, key } => object.bucket() == bucket && object.key() == key,
            Self::Keys { bucket, keys } => object.bucket() == bucket && keys.contains(object.key()),
            Self::Prefix { bucket, prefix } => {
                object.bucket() == bucket && object.key().starts_with(prefix.as_str())
            }
            Self::All => true,
        }
    }
}

impl From<&ObjectId> for Scope {
    fn from(object: &ObjectId) -> Self {
        Self::Key {
            bucket: object.bucket().to_owned(),
            key: object.key().to_owned(),
        }
    }
}

/// A `Range` as it was asked for, before the object's size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last`, both included.
    FromTo(u64, u64),
    /// `bytes=first-`
    From(u64),
    /// `bytes=-length`
    Suffix(u64),
}

impl ByteRange {
    /// The bytes that it means in an object of `size`; `None` if there are none (416).
    pub fn resolve(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::FromTo(first, last) if first < size && first <= last => {
                Some(first..last.saturating_add(1).min(size))
            }
            Self::From(first) if first < size => Some(first..size),
            // Of an empty object, too: all of its bytes are among its last ones (RFC 9110, 14.1.2).
            Self::Suffix(length) if length > 0 => Some(size.saturating_sub(length)..size),
            _ => None,
        }
    }
}

/// How an object is cut into blocks. Every node of a cache has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Bytes of a block; the last one of an object may be shorter.
    pub size: u64,
}

impl Blocks {
    /// The blocks that hold `bytes`; an empty range has none.
    pub fn covering(self, bytes: &Range<u64>) -> Range<u32> {
        if bytes.is_empty() {
            return 0..0;
        }
        self.index(bytes.start)..self.index(bytes.end - 1) + 1
    }

    /// The block that holds byte `offset`.
    pub fn index(self, offset: u64) -> u32 {
        u32::try_from(offset / self.size).unwrap_or(u32::MAX)
    }

    /// The bytes of block `index` in an object of `size`.
    pub fn bytes(self, index: u32, size: u64) -> Range<u64> {
        let first = u64::from(index) * self.size;
        first.min(size)..(first + self.size).min(size)
    }

    /// The bytes of some consecutive blocks in an object of `size`.
    pub fn span(self, blocks: &Range<u32>, size: u64) -> Range<u64> {
        (u64::from(blocks.start) * self.size).min(size)
            ..(u64::from(blocks.end) * self.size).min(size)
    }
}

/// The extent that block `index` belongs to.
pub fn extent_of(index: u32) -> u32 {
    index / EXTENT_BLOCKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_different_objects() {
        let names = [
            ("b", "a#b"),
            ("b", "a//b"),
            ("b", "a/b"),
            ("b#a", "b"),
            ("b", " a"),
            ("b", "a "),
            ("b", "%61"),
            ("b", "a"),
        ];
        for (i, left) in names.iter().enumerate() {
            for right in &names[i + 1..] {
                let (left, right) = (
                    ObjectId::new(left.0, left.1).unwrap(),
                    ObjectId::new(right.0, right.1).unwrap(),
                );
                assert_ne!(left, right);
                assert_ne!(left.stable_hash(), right.stable_hash());
            }
        }
    }

    #[test]
    fn a_range_means_what_http_says() {
        assert_eq!(ByteRange::FromTo(0, 0).resolve(10), Some(0..1));
        assert_eq!(ByteRange::FromTo(8, 99).resolve(10), Some(8..10));
        assert_eq!(ByteRange::FromTo(0, u64::MAX).resolve(10), Some(0..10));
        assert_eq!(ByteRange::FromTo(10, 12).resolve(10), None);
        assert_eq!(ByteRange::From(9).resolve(10), Some(9..10));
        assert_eq!(ByteRange::From(10).resolve(10), None);
        assert_eq!(ByteRange::Suffix(3).resolve(10), Some(7..10));
        assert_eq!(ByteRange::Suffix(30).resolve(10), Some(0..10));
        assert_eq!(ByteRange::Suffix(0).resolve(10), None);
        assert_eq!(ByteRange::Suffix(1).resolve(0), Some(0..0));
        assert_eq!(ByteRange::From(0).resolve(0), None);
    }

    #[test]
    fn blocks_cover_a_range_and_nothing_else() {
        let blocks = Blocks { size: 4 };
        assert_eq!(blocks.covering(&(0..0)), 0..0);
        assert_eq!(blocks.covering(&(0..4)), 0..1);
        assert_eq!(blocks.covering(&(3..5)), 0..2);
        assert_eq!(blocks.bytes(2, 10), 8..10);
        assert_eq!(blocks.span(&(1..3), 10), 4..10);
        assert_eq!((extent_of(15), extent_of(16)), (0, 1));
    }

    #[test]
    fn a_prefix_covers_keys_and_not_folders() {
        let object = ObjectId::new("b", "models/a").unwrap();
        assert!(
            Scope::Prefix {
                bucket: "b".into(),
                prefix: "mod".into()
            }
            .covers(&object)
        );
        assert!(
            !Scope::Prefix {
                bucket: "c".into(),
                prefix: "mod".into()
            }
            .covers(&object)
        );
        let keys = |keys: &[&str]| Scope::Keys {
            bucket: "b".into(),
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
        };
        assert!(keys(&["x", "models/a"]).covers(&object));
        assert!(!keys(&["models"]).covers(&object));
        assert!(Scope::All.covers(&object));
        assert!(Scope::from(&object).covers(&object));
    }
}
