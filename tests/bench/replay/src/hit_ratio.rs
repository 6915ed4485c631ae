//! The hit ratio: each trace through each policy, at three sizes of the cache.

use std::thread;

use moka::policy::EvictionPolicy;
use serde_json::{Value, json};

use crate::replay::{Falcon, Hits, Lru, replay};
use crate::rivals::{Moka, Quick, belady};
use crate::traces::{self, Trace};

/// Percent of the footprint.
const SIZES: [u64; 3] = [1, 5, 10];
const NAMES: [&str; 6] = [
    "Falcon",
    "LRU",
    "moka, TinyLFU",
    "moka, LRU",
    "quick_cache",
    "Belady",
];
const FALCON: usize = 0;
const LRU: usize = 1;
const BELADY: usize = 5;

/// A trace at one size.
struct Row {
    trace: &'static str,
    percent: u64,
    asked: Hits,
    /// As [`NAMES`].
    hits: [Hits; NAMES.len()],
}

pub(crate) fn measure(objects: u32, requests: u32) -> Value {
    let traces = traces::all(objects, requests);
    let rows: Vec<Row> = thread::scope(|scope| {
        let running: Vec<_> = traces
            .iter()
            .map(|trace| scope.spawn(|| rows_of(trace)))
            .collect();
        running
            .into_iter()
            .flat_map(|rows| rows.join().expect("a replay ends"))
            .collect()
    });
    json!({
        "read": read(&rows),
        "tables": [table("By bytes, in %", &rows, |hits| hits.bytes), table("By requests answered from memory as a whole, in %", &rows, |hits| hits.requests)],
        "notes": [
            format!("Generated traces of fixed seeds (`replay/src/traces.rs`): about {objects} objects and {requests} requests each, cut into blocks of 1 MiB as a node holds them. Cache sizes are parts of all bytes that are asked for. The same figures at each run and on each machine."),
            "Falcon is the cache's own `store/policy.rs`, called as its store calls it; it is an S3-FIFO, so no other one stands beside it.",
            "Belady knows the future and holds parts of blocks, a byte being a page: no policy can have more bytes. By requests it is not the best.",
            "The last column: of what Belady has and LRU has not, how much Falcon has.",
        ],
    })
}

fn rows_of(trace: &Trace) -> Vec<Row> {
    let footprint = trace.footprint();
    let mut asked = Hits::default();
    for request in trace.requests() {
        asked.requests += 1;
        asked.blocks += request.len() as u64;
        asked.bytes += request
            .iter()
            .map(|block| u64::from(trace.sizes[*block as usize]))
            .sum::<u64>();
    }
    let row = |percent: u64| {
        let capacity = footprint * percent / 100;
        Row {
            trace: trace.name,
            percent,
            asked,
            hits: [
                replay(trace, &mut Falcon::new(trace, capacity)),
                replay(trace, &mut Lru::new(trace, capacity)),
                replay(trace, &mut Moka::new(capacity, EvictionPolicy::tiny_lfu())),
                replay(trace, &mut Moka::new(capacity, EvictionPolicy::lru())),
                replay(trace, &mut Quick::new(trace, capacity)),
                belady(trace, capacity),
            ],
        }
    };
    SIZES.into_iter().map(row).collect()
}

/// The sentence that the figures come to.
fn read(rows: &[Row]) -> String {
    let mut closed: Vec<f64> = rows
        .iter()
        .filter_map(|row| row.closed(|hits| hits.bytes))
        .collect();
    closed.sort_by(f64::total_cmp);
    let best = rows
        .iter()
        .filter(|row| (1..BELADY).all(|other| row.hits[other].bytes <= row.hits[FALCON].bytes))
        .count();
    let below = |value: fn(&Hits) -> u64| {
        rows.iter()
            .filter(|row| value(&row.hits[FALCON]) < value(&row.hits[LRU]))
            .count()
    };
    format!(
        "Of {} replays Falcon has the most bytes in {best}, fewer bytes than LRU in {}, fewer whole requests than LRU in {}; of what Belady has more than LRU it has {:.0} % in the median, {:.0} % at least.",
        rows.len(),
        below(|hits| hits.bytes),
        below(|hits| hits.requests),
        closed[closed.len() / 2],
        closed[0],
    )
}

impl Row {
    /// Falcon's share of the gap between LRU and Belady, in percent; `None` where there is none.
    fn closed(&self, value: fn(&Hits) -> u64) -> Option<f64> {
        let [falcon, lru, best] = [FALCON, LRU, BELADY].map(|at| float(value(&self.hits[at])));
        (best > lru).then(|| 100.0 * (falcon - lru) / (best - lru))
    }
}

fn table(caption: &str, rows: &[Row], value: fn(&Hits) -> u64) -> Value {
    let mut columns = vec!["trace", "cache"];
    columns.extend(NAMES);
    columns.push("of the gap");
    let lines = rows.iter().map(|row| {
        let mut line = vec![row.trace.to_owned(), format!("{} %", row.percent)];
        let all = float(value(&row.asked));
        line.extend(
            row.hits
                .iter()
                .map(|hits| format!("{:.1}", 100.0 * float(value(hits)) / all)),
        );
        line.push(
            row.closed(value)
                .map_or("—".to_owned(), |closed| format!("{closed:.0} %")),
        );
        line
    });
    json!({"caption": caption, "columns": columns, "rows": lines.collect::<Vec<_>>()})
}

#[expect(
    clippy::cast_precision_loss,
    reason = "all of these are far below 2^53"
)]
fn float(number: u64) -> f64 {
    number as f64
}
