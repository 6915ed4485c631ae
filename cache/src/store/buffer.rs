//! A block's bytes: how they arrive, and how they stay charged until the last reader has dropped them.
//!
//! Each allocation has exactly the size of its block and a charge of its own. Every `Bytes` that leaves here holds that
//! charge, even inside a connection's write queue, so memory returns to the budget only once it is free.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::budget::{Charge, Kind};

/// A block that arrived in more pieces than this is copied into one, so that an answer needs fewer writes.
const MAX_PIECES: usize = 32;

/// The bytes that arrived are not those that were announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes arrived than the block has.
    #[error("received {0} bytes for a block of {1}")]
    TooLong(usize, usize),
    /// The block was finished before all of its bytes had arrived.
    #[error("received only {0} bytes for a block of {1}")]
    TooShort(usize, usize),
}

/// A block being filled: one allocation of its length, handed out piece by piece as it grows.
pub struct Buffer {
    rest: BytesMut,
    len: usize,
    filled: usize,
    state: BufferState,
}

enum BufferState {
    /// Nothing has arrived or been allocated yet.
    Empty(Charge),
    /// Everything arrived at once.
    Whole(Block),
    /// It arrives piece by piece.
    Growing(Arc<Charge>, Vec<Bytes>),
}

impl Buffer {
    /// An empty block of `len` bytes. `charge` covers them; the excess is given back.
    pub fn new(mut charge: Charge, len: usize) -> Self {
        debug_assert!(charge.bytes() >= len as u64, "reserve before filling");
        charge.shrink(len as u64);
        Self {
            rest: BytesMut::new(),
            len,
            filled: 0,
            state: BufferState::Empty(charge),
        }
    }

    /// Bytes that have arrived so far.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes of the block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `chunk` and returns it as it stands in the block.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Bytes, Error> {
        let filled = self.filled.saturating_add(chunk.len());
        if filled > self.len {
            return Err(Error::TooLong(filled, self.len));
        }
        if chunk.is_empty() {
            return Ok(Bytes::new());
        }
        self.filled = filled;
        // The state is restored below; the value in between is never seen.
        match std::mem::replace(&mut self.state, BufferState::Whole(Block::nothing())) {
            BufferState::Empty(charge) if chunk.len() == self.len => {
                let block = Block::whole(charge, chunk);
                let piece = block.piece(0, 0..chunk.len());
                self.state = BufferState::Whole(block);
                Ok(piece)
            }
            BufferState::Empty(charge) => {
                self.rest = BytesMut::with_capacity(self.len);
                self.state = BufferState::Growing(Arc::new(charge), Vec::new());
                Ok(self.grow(chunk))
            }
            other => {
                self.state = other;
                Ok(self.grow(chunk))
            }
        }
    }

    fn grow(&mut self, chunk: &[u8]) -> Bytes {
        let BufferState::Growing(charge, pieces) = &mut self.state else {
            return Bytes::new();
        };
        self.rest.extend_from_slice(chunk);
        let data = self.rest.split().freeze();
        pieces.push(data.clone());
        Bytes::from_owner(Piece {
            data,
            _charge: charge.clone(),
        })
    }

    /// The complete block. From now on its bytes count as [`Kind::Blocks`].
    pub fn finish(self) -> Result<Block, Error> {
        if self.filled < self.len {
            return Err(Error::TooShort(self.filled, self.len));
        }
        let (charge, pieces) = match self.state {
            BufferState::Empty(charge) => return Ok(Block::from_bytes(charge, &[])),
            BufferState::Whole(block) => {
                if let BlockContent::Whole(_, Some(charge)) = &*block.0 {
                    charge.turn_into(Kind::Blocks);
                }
                return Ok(block);
            }
            BufferState::Growing(charge, pieces) => (charge, pieces),
        };
        charge.turn_into(Kind::Blocks);
        if pieces.len() > MAX_PIECES {
            // Both allocations exist during the copy, and the old one as long as it has readers: both are charged.
            if let Some(second) = charge.budget().try_charge(Kind::Blocks, self.len as u64) {
                return Ok(Block::from_bytes(second, &pieces.concat()));
            }
        }
        Ok(Block(Arc::new(BlockContent::Pieces(pieces.into(), charge))))
    }
}

/// A complete, immutable block. A clone is the same memory; it stays charged until the last clone and the last piece
/// are dropped.
#[derive(Clone)]
pub struct Block(Arc<BlockContent>);

enum BlockContent {
    Whole(Box<[u8]>, Option<Charge>),
    Pieces(Box<[Bytes]>, Arc<Charge>),
}

impl Block {
    /// A block with a copy of `bytes`, in an allocation of exactly that size. `charge` covers them; the excess is given
    /// back.
    pub fn from_bytes(mut charge: Charge, bytes: &[u8]) -> Self {
        charge.shrink(bytes.len() as u64);
        charge.turn_into(Kind::Blocks);
        Self::whole(charge, bytes)
    }

    fn whole(charge: Charge, bytes: &[u8]) -> Self {
        Self(Arc::new(BlockContent::Whole(bytes.into(), Some(charge))))
    }

    fn nothing() -> Self {
        Self(Arc::new(BlockContent::Whole(Box::default(), None)))
    }

    /// Bytes of the block.
    pub fn len(&self) -> u64 {
        let len = match &*self.0 {
            BlockContent::Whole(data, _) => data.len(),
            BlockContent::Pieces(pieces, _) => pieces.iter().map(Bytes::len).sum(),
        };
        len as u64
    }

    /// True if the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of its bytes, in order; each piece holds the block's charge.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.slice(0..u64::MAX).collect()
    }

    /// Those of its bytes that lie in `range`, in order; each piece holds the block's charge.
    pub fn slice(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + '_ {
        let count = match &*self.0 {
            BlockContent::Whole(..) => 1,
            BlockContent::Pieces(pieces, _) => pieces.len(),
        };
        let mut before = 0;
        (0..count).filter_map(move |at| {
            let len = match &*self.0 {
                BlockContent::Whole(data, _) => data.len(),
                BlockContent::Pieces(pieces, _) => pieces[at].len(),
            };
            let within = |offset: u64| {
                usize::try_from(offset.saturating_sub(before)).map_or(len, |offset| offset.min(len))
            };
            let part = within(range.start)..within(range.end);
            before += len as u64;
            (!part.is_empty()).then(|| self.piece(at, part))
        })
    }

    fn piece(&self, at: usize, part: Range<usize>) -> Bytes {
        match &*self.0 {
            BlockContent::Whole(data, _) => {
                let whole = part.len() == data.len();
                let bytes = Bytes::from_owner(self.clone());
                if whole { bytes } else { bytes.slice(part) }
            }
            BlockContent::Pieces(pieces, charge) => Bytes::from_owner(Piece {
                data: pieces[at].slice(part),
                _charge: charge.clone(),
            }),
        }
    }

    /// Bytes that return to the budget if it is dropped without readers.
    pub(crate) fn charged(&self) -> u64 {
        match &*self.0 {
            BlockContent::Whole(_, charge) => charge.as_ref().map_or(0, Charge::bytes),
            BlockContent::Pieces(_, charge) => charge.bytes(),
        }
    }

    /// True while a reader holds it: dropping it would free nothing. Exact only while no other thread can get a clone.
    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
            || matches!(&*self.0, BlockContent::Pieces(_, charge) if Arc::strong_count(charge) > 1)
    }
}

/// The owner of a whole block's `Bytes`.
impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        match &*self.0 {
            BlockContent::Whole(data, _) => data,
            // Pieces have owners of their own.
            BlockContent::Pieces(..) => &[],
        }
    }
}

struct Piece {
    data: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::budget::Budget;
    use super::*;

    fn buffer(budget: &Budget, len: usize) -> Buffer {
        Buffer::new(budget.try_charge(Kind::Fills, len as u64).unwrap(), len)
    }

    #[test]
    fn the_charge_lives_until_the_last_piece_is_dropped() {
        let budget = Budget::new(100);
        for chunks in [&[10][..], &[3, 7], &[1, 0, 9]] {
            let mut filling = buffer(&budget, 10);
            let pieces: Vec<Bytes> = chunks
                .iter()
                .map(|len| filling.push(&[7; 10][..*len]).unwrap())
                .collect();
            assert_eq!(budget.used_by(Kind::Fills), 10);
            let block = filling.finish().unwrap();
            assert_eq!(
                (budget.used_by(Kind::Fills), budget.used_by(Kind::Blocks)),
                (0, 10)
            );
            assert!(block.is_in_use());
            drop(pieces);
            assert!(!block.is_in_use());
            let tail = block.slice(9..10).next().unwrap().slice(0..1);
            assert!(block.is_in_use());
            drop(block);
            assert_eq!(budget.used(), 10);
            assert_eq!(tail, [7u8][..]);
            drop(tail);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn too_many_bytes_and_too_few_are_errors() {
        let budget = Budget::new(100);
        let mut filling = buffer(&budget, 4);
        filling.push(b"abc").unwrap();
        assert_eq!(filling.push(b"de"), Err(Error::TooLong(5, 4)));
        assert_eq!(filling.finish().err(), Some(Error::TooShort(3, 4)));
        let mut filling = buffer(&budget, 4);
        filling.push(b"abcd").unwrap();
        assert_eq!(filling.push(b"e"), Err(Error::TooLong(5, 4)));
        assert_eq!(filling.finish().unwrap().pieces(), [&b"abcd"[..]]);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_small_block_does_not_pin_the_buffer_it_came_in() {
        let budget = Budget::new(100);
        let large = Bytes::from(vec![1; 1 << 20]);
        let charge = budget.try_charge(Kind::Fills, 90).unwrap();
        let block = Block::from_bytes(charge, &large.slice(5..15));
        let mut filling = buffer(&budget, 10);
        filling.push(&large.slice(0..10)).unwrap();
        let filled = filling.finish().unwrap();
        assert!(large.is_unique());
        assert_eq!(budget.used(), 20);
        for block in [block, filled] {
            let BlockContent::Whole(data, _) = &*block.0 else {
                panic!("one piece")
            };
            assert_eq!(data.len(), 10);
        }
    }

    #[test]
    fn a_block_of_many_pieces_becomes_one_when_there_is_memory_for_the_copy() {
        for (limit, expected) in [(100, 1), (79, 40)] {
            let budget = Budget::new(limit);
            let mut filling = buffer(&budget, 40);
            let first = filling.push(&[0]).unwrap();
            for i in 1..40 {
                filling.push(&[i]).unwrap();
            }
            let block = filling.finish().unwrap();
            assert_eq!(block.pieces().len(), expected);
            assert_eq!(block.pieces().concat(), (0..40).collect::<Vec<u8>>());
            // The reader of the first piece still holds the old allocation.
            assert_eq!(budget.used(), if expected == 1 { 80 } else { 40 });
            drop(first);
            assert_eq!(budget.used(), 40);
        }
    }

    proptest! {
        #[test]
        fn a_slice_has_the_bytes_of_its_range(chunks in prop::collection::vec(0usize..9, 0..50), from in 0usize..200, len in 0usize..200) {
            let total: usize = chunks.iter().sum();
            let budget = Budget::new(1000);
            let data: Vec<u8> = (0..=255).cycle().take(total).collect();
            let mut filling = buffer(&budget, total);
            let mut at = 0;
            for chunk in chunks {
                prop_assert_eq!(filling.push(&data[at..at + chunk]).unwrap(), &data[at..at + chunk]);
                at += chunk;
            }
            let block = filling.finish().unwrap();
            prop_assert_eq!(block.len(), total as u64);
            prop_assert_eq!(block.pieces().concat(), data.clone());
            let (from, to) = (from.min(total), (from + len).min(total));
            let got: Vec<Bytes> = block.slice(from as u64..to as u64).collect();
            prop_assert_eq!(got.concat(), &data[from..to]);
            prop_assert!(got.iter().all(|piece| !piece.is_empty()));
        }
    }
}
