//! `replay hit-ratio | ring [--quick]`: prints what `tests/bench/bench/lines/hooks.py` reads.

mod hit_ratio;
mod placement;
mod replay;
mod rivals;
mod traces;

// The cache's own files, by the names that they call each other.
#[expect(dead_code, unused_imports, reason = "all of it that the ring does not use")]
#[path = "../../../../cache/src/object.rs"]
mod object;
#[expect(dead_code, reason = "what else the cache does with it")]
#[path = "../../../../cache/src/store/policy.rs"]
mod policy;
#[expect(dead_code, reason = "what else the cache does with it")]
#[path = "../../../../cache/src/ring.rs"]
mod ring;
#[expect(dead_code, reason = "what else the cache does with it")]
#[path = "../../../../cache/src/store/slab.rs"]
mod slab;

pub(crate) use policy::{Policy, Pool};

use std::io::Write;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = match words[..] {
        ["hit-ratio"] => hit_ratio::measure(50_000, 500_000),
        ["hit-ratio", "--quick"] => hit_ratio::measure(5_000, 50_000),
        ["ring"] => placement::measure(1_000_000, 7),
        ["ring", "--quick"] => placement::measure(100_000, 3),
        _ => bail!("usage: replay hit-ratio | ring [--quick]"),
    };
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}
