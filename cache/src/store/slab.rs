//! A vector that grows without moving, so its memory never doubles, not even for a moment.

use std::ops::{Index, IndexMut, Range};

const CHUNK: usize = 1024;

/// How many places are visited before a lock is released for a moment: about 0.1 ms.
const SLICE: u32 = 4096;

/// No place in a slab; ends lists of places.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Values found by their place.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Places taken so far; the next push takes this one.
    pub(crate) fn len(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(value),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    /// Forgets everything, keeps one chunk's memory.
    pub(crate) fn clear(&mut self) {
        self.chunks.truncate(1);
        if let Some(first) = self.chunks.first_mut() {
            first.clear();
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        let place = place as usize;
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        let place = place as usize;
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }
}

/// A slab that reuses its places: free ones first.
pub(crate) struct Slots<T> {
    slots: Slab<Slot<T>>,
    free: u32,
}

enum Slot<T> {
    Held(T),
    /// Nothing is here; this is the next free place.
    Free(u32),
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Slab::new(),
            free: NOWHERE,
        }
    }

    /// The most places ever taken.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The next places to look at, from `from` on; empty when there are none.
    pub(crate) fn slice(&self, from: u32) -> Range<u32> {
        let end = u32::try_from(self.len()).unwrap_or(u32::MAX);
        from..end.min(from.saturating_add(SLICE))
    }

    /// True if the next value reuses a place.
    pub(crate) fn has_free(&self) -> bool {
        self.free != NOWHERE
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let place = self.free;
        if place == NOWHERE {
            let place = u32::try_from(self.slots.len()).expect("the budget ends before the places");
            self.slots.push(Slot::Held(value));
            return place;
        }
        if let Slot::Free(next) = std::mem::replace(&mut self.slots[place], Slot::Held(value)) {
            self.free = next;
        }
        place
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        match self.slots.get(place)? {
            Slot::Held(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        // All places come from here, so none is beyond the slots.
        match &mut self.slots[place] {
            Slot::Held(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Removes the value; its place is free again.
    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        self.get(place)?;
        let slot = std::mem::replace(&mut self.slots[place], Slot::Free(self.free));
        self.free = place;
        match slot {
            Slot::Held(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Forgets everything, keeps one chunk's memory.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.free = NOWHERE;
    }
}
