//! What S3 said about a version's parts, as they were uploaded.

use std::ops::Range;
use std::sync::Arc;

use super::FieldLines;

/// The most parts that are remembered for a version: 8 GiB with the part size of most clients.
const MOST: usize = 1024;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Which bytes of the object it is.
    pub bytes: Range<u64>,
    /// How many parts the object has; `None` if it was uploaded in one.
    pub count: Option<u32>,
    /// Its own checksums.
    pub checksums: FieldLines,
}

/// The parts that S3 was asked for. A clone costs one reference count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(Option<Arc<[Part]>>);

impl Parts {
    /// The part with this number.
    pub fn get(&self, number: u32) -> Option<&Part> {
        let parts = self.all();
        let place = parts
            .binary_search_by_key(&number, |part| part.number)
            .ok()?;
        parts.get(place)
    }

    /// These and one more; `None` if it is known already, or there are too many.
    #[must_use]
    pub fn with(&self, part: Part) -> Option<Self> {
        let parts = self.all();
        let place = parts.binary_search_by_key(&part.number, |part| part.number);
        let place = place.err().filter(|_| parts.len() < MOST)?;
        let (before, after) = parts.split_at(place);
        let parts = before
            .iter()
            .cloned()
            .chain([part])
            .chain(after.iter().cloned());
        Some(Self(Some(parts.collect())))
    }

    /// True when none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Their size in memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let lines = self
            .all()
            .iter()
            .map(|part| part.checksums.as_bytes().len());
        (size_of_val(self.all()) + lines.sum::<usize>()) as u64
    }

    fn all(&self) -> &[Part] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32) -> Part {
        Part {
            number,
            bytes: 0..1,
            count: None,
            checksums: FieldLines::default(),
        }
    }

    #[test]
    fn parts_are_found_by_their_numbers_and_are_bounded() {
        let mut parts = Parts::default();
        for number in [5, 1, 3] {
            parts = parts.with(part(number)).unwrap();
        }
        assert_eq!(parts.get(3), Some(&part(3)));
        assert_eq!(parts.get(2), None);
        assert_eq!(parts.with(part(3)), None);
        for number in 6.. {
            match parts.with(part(number)) {
                Some(more) => parts = more,
                None => break,
            }
        }
        assert_eq!(parts.all().len(), MOST);
    }
}
