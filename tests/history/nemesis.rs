//! What goes wrong, as the seed has it.

use std::time::Duration;

use tokio::time::sleep;

use super::dice::Dice;
use super::rig::{ALL, NODES, Rig};
use crate::harness::s3::Fault;

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Stop,
    Unreachable,
    Cut,
    Kill,
    Terminate,
    Sidecar,
    S3Away,
    S3,
}

const TROUBLES: [(u64, Trouble); 8] = [
    (4, Trouble::Stop),
    (3, Trouble::Unreachable),
    (2, Trouble::Cut),
    (3, Trouble::Kill),
    (2, Trouble::Terminate),
    (1, Trouble::Sidecar),
    (1, Trouble::S3Away),
    (8, Trouble::S3),
];

const WRITES: [&str; 5] = [
    "PutObject",
    "CopyObject",
    "CompleteMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
];

const READS: [&str; 2] = ["GetObject", "HeadObject"];

/// One trouble, from its beginning to its end.
pub(super) async fn trouble(rig: &Rig, dice: &mut Dice) {
    let node = dice.place(NODES);
    let long = Duration::from_millis(dice.within(100..4000));
    let trouble = dice.weighed(&TROUBLES);
    if !matches!(trouble, Trouble::S3) {
        rig.tell(&format!("{trouble:?} {node} for {long:?}"));
    }
    match trouble {
        Trouble::Stop => rig.hang(node, true, sleep(long)).await,
        Trouble::Unreachable => rig.hang(node, false, sleep(long)).await,
        Trouble::Cut => rig.cut(node),
        Trouble::Kill => again(rig, node, long, false).await,
        Trouble::Terminate => again(rig, node, long, true).await,
        Trouble::Sidecar if dice.percent(50) => rig.hang(ALL - 1, true, sleep(long)).await,
        Trouble::Sidecar => again(rig, ALL - 1, long, false).await,
        Trouble::S3Away => {
            rig.s3.stop().await;
            sleep(long / 4).await;
            rig.s3.start_again().await;
        }
        Trouble::S3 => {
            let (what, fault) = fault(dice);
            rig.tell(&format!("S3: {what}"));
            rig.s3.fault(fault);
            sleep(long / 4).await;
        }
    }
    sleep(Duration::from_millis(dice.within(0..800))).await;
}

async fn again(rig: &Rig, node: usize, long: Duration, gently: bool) {
    rig.end(node, gently).await;
    sleep(long / 2).await;
    assert!(rig.run(node).await, "it was there before");
}

fn fault(dice: &mut Dice) -> (String, Fault) {
    let write = WRITES[dice.place(WRITES.len())];
    let read = READS[dice.place(READS.len())];
    let times = u32::try_from(dice.within(1..5)).expect("few");
    let long = Duration::from_millis(dice.within(200..6000));
    let bytes = dice.within(0..200_000);
    let (what, op, fault) = match dice.within(0..14) {
        0 => ("500", write, Fault::status(500, "InternalError")),
        1 => ("503", write, Fault::status(503, "SlowDown")),
        2 | 3 => ("loses the answer", write, Fault::lose_answer()),
        4 | 5 => ("is late", write, Fault::late(long)),
        6 => ("delays", write, Fault::delay(long)),
        7 => ("500", read, Fault::status(500, "InternalError")),
        8 => ("loses the answer", read, Fault::lose_answer()),
        9 => ("delays", read, Fault::delay(long)),
        10 => ("cuts", "GetObject", Fault::cut_body(bytes)),
        11 => ("ignores conditions", read, Fault::ignore_conditions()),
        12 => ("ignores ranges", "GetObject", Fault::ignore_range()),
        _ => {
            let names = ["etag", "content-length", "content-range", "last-modified"];
            let name = names[dice.place(names.len())];
            let fault = Fault::without(name).of(read).times(times);
            return (format!("{read} without {name}, {times} times"), fault);
        }
    };
    let said = format!("{op} {what} ({long:?}, {bytes} bytes), {times} times");
    (said, fault.of(op).times(times))
}
