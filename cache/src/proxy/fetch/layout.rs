//! How an object is cut into parts: neighbouring blocks that are fetched by one request.

use std::ops::Range;

use crate::object::{Blocks, EXTENT_BLOCKS};

/// Blocks, and how many of them make a part. A part never reaches into the next extent.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct PartLayout {
    blocks: Blocks,
    per_part: u32,
}

impl PartLayout {
    /// Parts of at most `part_bytes`.
    pub(super) fn new(blocks: Blocks, part_bytes: u64) -> Self {
        let per_part = u32::try_from(part_bytes / blocks.size)
            .unwrap_or(EXTENT_BLOCKS)
            .clamp(1, EXTENT_BLOCKS);
        Self { blocks, per_part }
    }

    /// The block after the last of the part that block `index` lies in.
    pub(in crate::proxy) fn end(self, index: u32) -> u32 {
        (index / self.per_part + 1) * self.per_part
    }

    /// The first block of the part that block `index` lies in.
    pub(in crate::proxy) fn start(self, index: u32) -> u32 {
        index / self.per_part * self.per_part
    }

    /// The blocks of an extent, in an object of `size`, and its bytes.
    pub(in crate::proxy) fn extent(self, extent: u32, size: u64) -> (Range<u32>, Range<u64>) {
        let first = extent * EXTENT_BLOCKS;
        let bytes = self.blocks.span(&(first..first + EXTENT_BLOCKS), size);
        (self.blocks.covering(&bytes), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_never_reaches_into_the_next_extent() {
        for (part_bytes, per_part) in [
            (8 << 20, 8),
            (1 << 20, 1),
            (64 << 20, EXTENT_BLOCKS),
            (1, 1),
        ] {
            let layout = PartLayout::new(Blocks { size: 1 << 20 }, part_bytes);
            for index in 0..3 * EXTENT_BLOCKS {
                let part = layout.start(index)..layout.end(index);
                assert!(part.contains(&index));
                assert_eq!(part.end - part.start, per_part);
                assert_eq!(part.start / EXTENT_BLOCKS, (part.end - 1) / EXTENT_BLOCKS);
            }
        }
    }

    #[test]
    fn the_last_extent_ends_with_the_object() {
        let layout = PartLayout::new(Blocks { size: 100 }, 800);
        assert_eq!(layout.extent(0, 1650), (0..16, 0..1600));
        assert_eq!(layout.extent(1, 1650), (16..17, 1600..1650));
    }
}
