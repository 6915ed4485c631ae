//! Objects of any size that take no memory: each byte follows from its offset.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};

/// Each page begins with its own mark, so a page in a wrong place shows.
const PAGE: u64 = 4096;
const SHIFTS: u64 = 256;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..(PAGE + SHIFTS) / 8)
        .flat_map(|i| mix(i).to_le_bytes())
        .collect()
});

/// The bytes of `range` in the object that `seed` stands for.
pub(crate) fn bytes(seed: u64, range: Range<u64>) -> Bytes {
    let length = usize::try_from(range.end - range.start).expect("it fits in memory");
    let mut out = BytesMut::with_capacity(length);
    pieces(seed, range, |piece| {
        out.extend_from_slice(piece);
        true
    });
    out.freeze()
}

/// True when `found` is what stands at `offset`.
pub(crate) fn matches(seed: u64, offset: u64, found: &[u8]) -> bool {
    let mut left = found;
    pieces(seed, offset..offset + found.len() as u64, |piece| {
        let (next, rest) = left.split_at(piece.len());
        left = rest;
        next == piece
    })
}

/// Gives the bytes of `range` to `take`, piece by piece, for as long as it says true. Nothing is copied.
fn pieces(seed: u64, range: Range<u64>, mut take: impl FnMut(&[u8]) -> bool) -> bool {
    let mut at = range.start;
    while at < range.end {
        let page = at / PAGE;
        let from = usize::try_from(at % PAGE).expect("within a page");
        let until = usize::try_from((range.end - page * PAGE).min(PAGE)).expect("within a page");
        let mark = mix(seed ^ mix(page));
        let noise = &NOISE[usize::try_from(mark % SHIFTS).expect("small")..];
        let mark = mark.to_le_bytes();
        let marked = until.min(mark.len());
        if from < marked && !take(&mark[from..marked]) {
            return false;
        }
        let plain = from.max(mark.len());
        if plain < until && !take(&noise[plain..until]) {
            return false;
        }
        at = (page + 1) * PAGE;
    }
    true
}

/// splitmix64: neighbours get nothing in common.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn any_cut_of_a_synthetic_object_is_the_same_object() {
    let whole = bytes(7, 0..20_000);
    for (from, until) in [(0, 1), (4095, 4097), (5000, 20_000), (19_999, 20_000)] {
        assert_eq!(
            bytes(7, from..until)[..],
            whole[usize::try_from(from).unwrap()..usize::try_from(until).unwrap()]
        );
        assert!(matches(7, from, &bytes(7, from..until)));
    }
    assert!(!matches(8, 0, &whole[..16]));
    assert!(!matches(7, 4096, &whole[..4096]));
}
