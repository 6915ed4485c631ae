//! Histories under trouble: three nodes and a sidecar as processes, writers and readers at both APIs, and everything
//! that goes wrong, chosen by a seed. A checker finds stale, mixed and lost data in what was recorded.
//!
//! `FALCON_HISTORY_SEEDS="3 4"` and `FALCON_HISTORY_SECONDS=60` choose which and how long; `tests/run` runs ten of a
//! minute. A seed gives the same choices; what overlaps with what is up to the machine. Logs: `target/history/`.

mod checker;
mod client;
mod dice;
mod fixed;
mod nemesis;
mod rig;
mod version;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use client::{Given, Writer};
use dice::Dice;
use rig::{ALL, KEYS, Rig};

const WRITERS: usize = 3;
const READERS: usize = 5;

/// Seeds at a time. They wait more than they work, but more of them, and on two cores nodes take each other for
/// unreachable.
const AT_ONCE: usize = 3;

/// From the end of all trouble until all nodes see each other, and until all reads are current.
const HEALED: Duration = Duration::from_secs(40);
const CURRENT: Duration = Duration::from_secs(15);
const ROUNDS: u32 = 3;

/// Trouble goes on for so long before all must be well again.
const PHASE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread")]
async fn no_seed_of_trouble_makes_a_read_stale_a_body_mixed_or_a_write_lost() {
    let seeds = told("FALCON_HISTORY_SEEDS").unwrap_or_else(|| "1".to_owned());
    let seeds: Vec<u64> = seeds
        .split_whitespace()
        .map(|seed| seed.parse().unwrap())
        .collect();
    let seconds = told("FALCON_HISTORY_SECONDS").map_or(10, |seconds| seconds.parse().unwrap());
    let runs = futures::stream::iter(seeds)
        .map(|seed| async move {
            tokio::spawn(one(seed, Duration::from_secs(seconds)))
                .await
                .unwrap()
        })
        .buffer_unordered(AT_ONCE);
    let wrong: Vec<String> = runs.filter_map(async |wrong| wrong.err()).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by its caller what to do"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/history");
    let folder = root.join(name);
    let _gone = std::fs::remove_dir_all(&folder);
    folder
}

/// One seed; what is wrong, with its schedule.
async fn one(seed: u64, long: Duration) -> Result<(), String> {
    let mut dice = Dice::new(seed, 0);
    let mut flags = vec!["--timeout=1500".to_owned()];
    flags.push(format!("--ttl={}", dice.weighed(&[(3, 0), (1, 60)])));
    flags.push(format!(
        "--negative-ttl={}",
        dice.weighed(&[(1, 0), (2, 3_600_000)])
    ));
    if dice.percent(30) {
        flags.push("--cache-on-write".to_owned());
    }
    let folder = folder(&format!("seed-{seed}"));
    let Some(rig) = Rig::start(&folder, &flags).await else {
        return Ok(());
    };
    rig.tell(&format!("seed {seed}, {flags:?}"));
    let rig = Arc::new(rig);
    let mut wrong = Vec::new();
    rig.well_within(HEALED)
        .await
        .expect("a ring that nobody has touched");
    let until = Instant::now() + long;
    let mut phase = 0;
    while Instant::now() < until && wrong.is_empty() {
        phase += 1;
        let phase_long = PHASE.min(until.saturating_duration_since(Instant::now()));
        wrong.extend(in_trouble(&rig, seed * 1000 + phase, phase_long).await);
        wrong.extend(heal(&rig).await);
        wrong.extend(rig.history().violations());
    }
    let history = rig.history();
    println!(
        "seed {seed}: {} reads, {} writes, {} changes at S3, {phase} phases",
        history.reads.len(),
        history.writes.len(),
        history.commits.len()
    );
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    wrong.dedup();
    let all = wrong.len();
    wrong.truncate(10);
    std::fs::write(folder.join("history.txt"), format!("{history:#?}")).unwrap();
    Err(format!(
        "seed {seed}: {all} violations\n{}\nthe schedule:\n{}",
        wrong.join("\n"),
        rig.story()
    ))
}

/// Writers, readers and trouble at once, for so long; answers that were wrong in themselves.
async fn in_trouble(rig: &Arc<Rig>, seed: u64, long: Duration) -> Vec<String> {
    let over = Arc::new(AtomicBool::new(false));
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    for me in 0..WRITERS {
        let (rig, over) = (Arc::clone(rig), Arc::clone(&over));
        clients.spawn(async move {
            let mut writer = Writer {
                rig: &rig,
                dice: Dice::new(seed, 1 + me as u64),
                me,
                // No phase repeats a version of another.
                sequence: seed * 1000,
            };
            while !over.load(Ordering::Relaxed) {
                writer.step().await;
                let pause = writer.dice.within(0..250);
                sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    for reader in 0..READERS {
        let (rig, over, wrong) = (Arc::clone(rig), Arc::clone(&over), Arc::clone(&wrong));
        clients.spawn(async move {
            let mut dice = Dice::new(seed, 100 + reader as u64);
            while !over.load(Ordering::Relaxed) {
                if let Err(what) = client::read_some(&rig, &mut dice).await {
                    wrong.lock().unwrap().push(what);
                }
                sleep(Duration::from_millis(dice.within(0..20))).await;
            }
        });
    }
    let mut dice = Dice::new(seed, 1000);
    let until = Instant::now() + long;
    while Instant::now() < until {
        if dice.percent(30) {
            let mut second = dice.clone();
            second.within(0..2);
            tokio::join!(
                nemesis::trouble(rig, &mut dice),
                nemesis::trouble(rig, &mut second)
            );
        } else {
            nemesis::trouble(rig, &mut dice).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    rig.s3.calm();
    clients.join_all().await;
    wrong.lock().unwrap().clone()
}

/// Ends all trouble, waits until all see each other, and reads everything everywhere until it is current.
async fn heal(rig: &Rig) -> Vec<String> {
    rig.s3.calm();
    for at in 0..ALL {
        if !rig.lives(at).await {
            rig.tell(&format!("{at} is started again"));
            assert!(rig.run(at).await);
        }
    }
    if let Err(what) = rig.well_within(HEALED).await {
        return vec![format!("all is well, and {HEALED:?} later {what}")];
    }
    rig.tell("all is well");
    let everybody: Vec<usize> = (0..ALL).collect();
    until_current(rig, &everybody).await
}

/// Reads everything at these nodes until it is current; what is not, in vain.
async fn until_current(rig: &Rig, nodes: &[usize]) -> Vec<String> {
    let until = Instant::now() + CURRENT;
    for round in 0.. {
        let before = rig.history().reads.len();
        let settled = rig.now();
        let at_nodes = join_all(nodes.iter().map(|node| read_all(rig, *node))).await;
        let mut wrong = at_nodes.concat();
        let mut seen = rig.history();
        seen.reads.drain(..before);
        seen.settled.push(settled);
        wrong.extend(seen.violations());
        // On a busy machine one round may take longer than all should.
        if wrong.is_empty() || round >= ROUNDS && Instant::now() > until {
            rig.note_settled();
            return wrong;
        }
        sleep(Duration::from_millis(200)).await;
    }
    unreachable!("it ends by its deadline")
}

/// Reads everything at that node, at both APIs; answers that are wrong in themselves, and errors.
async fn read_all(rig: &Rig, node: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for key in 0..KEYS.len() {
        for (gateway, method) in [(false, Method::GET), (true, Method::HEAD)] {
            match client::read(rig, key, node, gateway, (method, &[])).await {
                Ok(Given::Value) => {}
                Ok(Given::Nothing(what)) => {
                    wrong.push(format!("key {key} at node {node}, all being well: {what}"));
                }
                Err(what) => wrong.push(what),
            }
        }
    }
    wrong
}
