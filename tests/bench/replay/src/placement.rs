//! The ring: what moves when a member comes or goes, how even the shares are, how long a look-up takes.

#![expect(clippy::disallowed_types, reason = "nothing here is paused")]

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

use crate::object::ObjectId;
use crate::ring::{Member, MemberState, Ring};

const COUNTS: [usize; 5] = [3, 4, 5, 8, 64];
/// For these it is told how long a look-up takes.
const TIMED: [usize; 3] = [3, 8, 64];

pub(crate) fn measure(keys: usize, rounds: usize) -> Value {
    let objects: Vec<ObjectId> = (0..keys)
        .map(|i| ObjectId::new("bucket", &format!("objects/{i}.bin")).expect("a short key"))
        .collect();
    let mut worst: f64 = 1.0;
    let (mut rows, mut all_minimal) = (Vec::new(), true);
    for count in COUNTS {
        let (fewer, more) = (ring(count), ring(count + 1));
        let (before, after) = (owners(&fewer, &objects), owners(&more, &objects));
        // The members are sorted by name, and names are numbers of one length: the one that comes is the last.
        let must = after.iter().filter(|owner| **owner == count).count();
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .count();
        all_minimal &= moved == must;
        let mut shares = vec![0usize; count];
        for owner in &before {
            shares[*owner] += 1;
        }
        let largest = shares.iter().max().expect("there are members");
        let uneven = float(largest * count) / float(keys);
        if count <= 8 {
            worst = worst.max(uneven);
        }
        let took = if TIMED.contains(&count) {
            format!("{:.1}", nanoseconds(&fewer, &objects, rounds))
        } else {
            String::new()
        };
        rows.push(vec![
            count.to_string(),
            moved.to_string(),
            must.to_string(),
            format!("{:.3}", float(moved) / float(must)),
            format!("{uneven:.4}"),
            took,
        ]);
    }
    let minimal = if all_minimal {
        "exactly the keys that must"
    } else {
        "MORE KEYS THAN MUST"
    };
    let timed: Vec<String> = rows
        .iter()
        .filter(|row| !row[5].is_empty())
        .map(|row| format!("{} ns at {} members", row[5], row[0]))
        .collect();
    json!({
        "read": format!(
            "A member that comes or goes moves {minimal}; up to 8 members the largest share is {worst:.4} of the mean; a look-up takes {}.",
            timed.join(", ")
        ),
        "tables": [{
            "caption": format!("{keys} keys; one member more, or that one less"),
            "columns": ["members", "keys moved", "must move", "moved / must", "largest share / mean", "ns a look-up"],
            "rows": rows,
        }],
        "notes": [
            "The cache's own `ring.rs`, built as for images. The same keys move in both directions. A look-up hashes the place of an object's first run with each member, and finds the highest; the object's own hash is made once, with its name.",
            "Of that many keys, chance alone makes the largest of 64 shares some hundredths larger than the mean.",
        ],
    })
}

fn ring(count: usize) -> Ring {
    let member = |i: usize| Member {
        name: format!("falcon-{i:02}"),
        url: format!("http://10.0.0.{i}:8080"),
        zone: None,
        state: MemberState::Serving,
    };
    Ring::new("falcon-00", (0..count).map(member).collect(), 1)
}

/// The place of each object's owner among the members.
fn owners(ring: &Ring, objects: &[ObjectId]) -> Vec<usize> {
    let place = |object: &ObjectId| {
        let owner = ring.owner(object, 0).expect("there are members");
        ring.members()
            .iter()
            .position(|member| std::ptr::eq(member, owner))
            .expect("it is one of them")
    };
    objects.iter().map(place).collect()
}

/// Objects whose look-ups are timed, again and again: few enough to stay near the processor, as one's name does that
/// was just made.
const NEAR: usize = 5_000;

/// Of one look-up: the median of some rounds.
fn nanoseconds(ring: &Ring, objects: &[ObjectId], rounds: usize) -> f64 {
    let again = objects.len() / NEAR;
    let mut rounds: Vec<f64> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..again {
                for object in &objects[..NEAR] {
                    black_box(ring.owner(black_box(object), 0));
                }
            }
            began.elapsed().as_secs_f64() * 1e9 / float(again * NEAR)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of keys are far below 2^53"
)]
fn float(number: usize) -> f64 {
    number as f64
}
