//! Versions of objects whose every 64 bytes say whose they are, so that any range proves its version.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

/// Bytes that carry one stamp.
pub(super) const UNIT: u64 = 64;

/// What one write stored, or meant to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Version {
    /// The place of the key among the keys.
    pub(super) key: usize,
    pub(super) writer: usize,
    pub(super) sequence: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}w{}s{}", self.key, self.writer, self.sequence)
    }
}

/// The content of a version.
pub(super) fn content(version: Version, size: u64) -> Bytes {
    let mut out = BytesMut::new();
    let mut text = String::new();
    for at in (0..size).step_by(usize::try_from(UNIT).expect("small")) {
        text.clear();
        let Version {
            key,
            writer,
            sequence,
        } = version;
        write!(text, "{key} {writer} {sequence} {at} {size} ").expect("a string takes it");
        while text.len() < usize::try_from(UNIT).expect("small") - 1 {
            text.push('.');
        }
        text.push('\n');
        let left = usize::try_from(size - at).expect("it is in memory");
        out.extend_from_slice(&text.as_bytes()[..left.min(text.len())]);
    }
    out.freeze()
}

/// What one whole unit says: its version, where it stands, and the size of the whole.
fn stamp(unit: &[u8]) -> Option<(Version, u64, u64)> {
    let mut words = std::str::from_utf8(unit).ok()?.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let (key, writer) = (number()?, number()?);
    let version = Version {
        key: usize::try_from(key).ok()?,
        writer: usize::try_from(writer).ok()?,
        sequence: number()?,
    };
    Some((version, number()?, number()?))
}

/// Names what stands in bytes that begin at `offset`, for a message: runs of versions, and what is none.
fn described(found: &[u8], offset: u64) -> String {
    let skipped = offset.next_multiple_of(UNIT) - offset;
    let skipped = usize::try_from(skipped).expect("less than a unit");
    let mut runs: Vec<(String, u64)> = Vec::new();
    let unit = usize::try_from(UNIT).expect("small");
    let mut at = offset.next_multiple_of(UNIT);
    for piece in found.get(skipped..).unwrap_or_default().chunks_exact(unit) {
        let said = match stamp(piece) {
            Some((version, place, _)) if place == at => version.to_string(),
            Some((version, place, _)) => format!("{version} of {place}"),
            None => format!("{:?}", String::from_utf8_lossy(&piece[..16])),
        };
        if runs.last().is_none_or(|(last, _)| *last != said) {
            runs.push((said, at));
        }
        at += UNIT;
    }
    let shown = runs.iter().take(6).map(|(said, at)| format!("{said}@{at}"));
    let shown: Vec<_> = shown.collect();
    format!("{} bytes from {offset}: {}", found.len(), shown.join(", "))
}

/// Every version that was ever made, by itself and by its tag.
#[derive(Default)]
pub(super) struct Versions(Mutex<Known>);

#[derive(Default)]
struct Known {
    contents: HashMap<Version, Bytes>,
    tags: HashMap<String, Version>,
}

impl Versions {
    /// Makes one; its bytes.
    pub(super) fn make(&self, version: Version, size: u64) -> Bytes {
        let bytes = content(version, size);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tags.insert(tag(&[&bytes]), version);
        known.contents.insert(version, bytes.clone());
        bytes
    }

    /// Notes that it is stored in these parts, which gives it another tag.
    pub(super) fn in_parts(&self, version: Version, parts: &[&[u8]]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tags.insert(tag(parts), version);
    }

    /// The version of a tag, with or without quotes.
    pub(super) fn of_tag(&self, etag: &str) -> Option<Version> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tags.get(etag.trim_matches('"')).copied()
    }

    /// How many bytes it has.
    pub(super) fn size(&self, version: Version) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contents.get(&version).map(|bytes| bytes.len() as u64)
    }

    /// Which version these bytes are, found at `offset` under that tag; tells what is wrong with them otherwise. `None`
    /// where neither tag nor bytes say it.
    pub(super) fn identify(
        &self,
        etag: Option<&str>,
        offset: u64,
        found: &[u8],
    ) -> Result<Option<Version>, String> {
        let tagged = match etag {
            Some(etag) => Some(
                self.of_tag(etag)
                    .ok_or_else(|| format!("nobody wrote a version with the tag {etag}"))?,
            ),
            None => None,
        };
        let Some(version) = tagged.or_else(|| stamped(found, offset)) else {
            return if (found.len() as u64) < 2 * UNIT {
                Ok(None)
            } else {
                Err(format!("bytes of no version: {}", described(found, offset)))
            };
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = known.contents.get(&version);
        let start = usize::try_from(offset).expect("it is in memory");
        let right = whole.and_then(|whole| whole.get(start..start + found.len()));
        if right == Some(found) {
            return Ok(Some(version));
        }
        let what = described(found, offset);
        Err(format!("not bytes of {version} alone, but {what}"))
    }
}

/// What the first whole unit says.
fn stamped(found: &[u8], offset: u64) -> Option<Version> {
    let unit = usize::try_from(UNIT).expect("small");
    let skipped =
        usize::try_from(offset.next_multiple_of(UNIT) - offset).expect("less than a unit");
    let first = found.get(skipped..skipped + unit)?;
    stamp(first).map(|(version, ..)| version)
}

/// S3's tag, without quotes: of one put, or of an upload in so many parts.
fn tag(parts: &[&[u8]]) -> String {
    let hex = |digest: &[u8]| {
        digest.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes it");
            hex
        })
    };
    if let [whole] = parts {
        return hex(&Md5::digest(whole));
    }
    let mut all = Md5::new();
    for part in parts {
        all.update(Md5::digest(part));
    }
    format!("{}-{}", hex(&all.finalize()), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Version = Version {
        key: 1,
        writer: 2,
        sequence: 3,
    };
    const SECOND: Version = Version {
        key: 1,
        writer: 2,
        sequence: 4,
    };

    #[test]
    fn any_range_of_a_version_proves_it_with_or_without_its_tag() {
        let versions = Versions::default();
        let bytes = versions.make(FIRST, 1000);
        let etag = tag(&[&bytes]);
        for (from, until) in [(0, 1000), (1, 200), (63, 130), (640, 1000), (999, 1000)] {
            let offset = from as u64;
            let found = &bytes[from..until];
            assert_eq!(
                versions.identify(Some(&etag), offset, found),
                Ok(Some(FIRST))
            );
            let unnamed = versions.identify(None, offset, found).unwrap();
            assert!(unnamed == Some(FIRST) || until - from < 128);
        }
    }

    #[test]
    fn bytes_of_two_versions_in_one_body_are_found() {
        let versions = Versions::default();
        let mut mixed = versions.make(FIRST, 1000).to_vec();
        let second = versions.make(SECOND, 1000);
        mixed[500..].copy_from_slice(&second[500..]);
        let wrong = versions.identify(None, 0, &mixed).unwrap_err();
        assert!(wrong.contains("k1w2s3@0, k1w2s4"), "{wrong}");
    }

    #[test]
    fn bytes_that_nobody_wrote_or_from_elsewhere_in_the_object_are_found() {
        let versions = Versions::default();
        let bytes = versions.make(FIRST, 1000);
        assert!(versions.identify(None, 64, &bytes[..200]).is_err());
        assert!(versions.identify(Some("\"0\""), 0, &bytes).is_err());
        assert!(versions.identify(None, 0, &[b'+'; 200]).is_err());
        let longer = [&bytes[..], b"+"].concat();
        assert!(versions.identify(None, 0, &longer).is_err());
    }
}
