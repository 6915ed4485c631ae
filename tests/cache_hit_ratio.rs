//! Which blocks go first, judged by generated traces: the real policy beside LRU. The benchmark has them larger, with
//! more rivals.

#[path = "bench/replay/src/replay.rs"]
mod replay;
#[path = "bench/replay/src/traces.rs"]
mod traces;

use std::fmt::Write;

use falcon_cache::store::{Policy, Pool};
use replay::{Falcon, Lru};

/// Trace; percent of its bytes that the cache has; blocks found by the policy, and by LRU. The seeds are fixed, and so
/// are these figures: a change of the policy changes them, and is to be judged by them.
const FOUND: &str = "
    zipf 0.8, 1 %: 7215 3565
    zipf 0.8, 5 %: 14541 10267
    zipf 0.8, 10 %: 19275 15022
    zipf 1.0, 1 %: 12607 8176
    zipf 1.0, 5 %: 20974 17244
    zipf 1.0, 10 %: 25416 22391
    zipf 0.8, once-only and scans, 1 %: 11807 5846
    zipf 0.8, once-only and scans, 5 %: 20476 12473
    zipf 0.8, once-only and scans, 10 %: 26610 17788
    zipf 1.0, once-only and scans, 1 %: 15780 10423
    zipf 1.0, once-only and scans, 5 %: 23332 16108
    zipf 1.0, once-only and scans, 10 %: 28888 19737
    loops slightly larger than the cache, 1 %: 923 0
    loops slightly larger than the cache, 5 %: 16794 9978
    loops slightly larger than the cache, 10 %: 25677 19868
    churn, 1 %: 10686 6631
    churn, 5 %: 16041 13442
    churn, 10 %: 18900 17661
    data frames, 1 %: 4155 4805
    data frames, 5 %: 13485 10550
    data frames, 10 %: 17872 15065
";

/// The one where LRU has more: a cache of 34 MiB for tables of gigabytes. What is asked for again within a few blocks
/// LRU finds at once, and the policy from the second time on. In the benchmark moka's TinyLFU and quick_cache lose
/// there as well.
const FEWER: &str = "data frames, 1 %";

#[test]
fn the_policy_finds_exactly_these_blocks_and_hardly_ever_fewer_than_lru() {
    let mut found = String::from("\n");
    for trace in traces::all(2_000, 30_000) {
        for percent in [1, 5, 10] {
            let capacity = trace.footprint() * percent / 100;
            let falcon = replay::replay(&trace, &mut Falcon::new(&trace, capacity));
            let lru = replay::replay(&trace, &mut Lru::new(&trace, capacity));
            let which = format!("{}, {percent} %", trace.name);
            let fewer = falcon.blocks < lru.blocks
                || falcon.bytes < lru.bytes
                || falcon.requests < lru.requests;
            assert_eq!(fewer, which == FEWER, "{which}: {falcon:?}, {lru:?}");
            writeln!(found, "    {which}: {} {}", falcon.blocks, lru.blocks).unwrap();
        }
    }
    assert_eq!(found, FOUND, "{found}");
}
