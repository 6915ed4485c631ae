//! What the S3 of the tests can do wrong, on demand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Call;
use crate::harness::DEADLINE;

/// One thing to do wrong, at every request that it names.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(super) what: What,
    op: Option<&'static str>,
    object: Option<(String, String)>,
    left: Option<u32>,
    spared: u32,
}

#[derive(Clone)]
pub(super) enum What {
    Delay(Duration),
    Hold(Gate),
    HoldAnswer(Gate),
    HoldBody(u64, Gate),
    Trickle(u64, Duration),
    Pace(u64),
    CutBody(u64),
    Header(&'static str, Option<String>),
    Unsized(i64),
    Status(u16, &'static str),
    StatusUnread(u16, &'static str),
    StatusAfter(u16, &'static str),
    Land(Gate),
    Blanks(Gate),
    IgnoreConditions,
    IgnoreRange,
    Lose,
    Late(Duration),
}

impl What {
    pub(super) fn landing(&self) -> Option<&Gate> {
        match self {
            Self::Land(gate) => Some(gate),
            _ => None,
        }
    }
}

impl Fault {
    fn new(what: What) -> Self {
        Self {
            what,
            op: None,
            object: None,
            left: None,
            spared: 0,
        }
    }

    /// Waits before the answer.
    pub(crate) fn delay(by: Duration) -> Self {
        Self::new(What::Delay(by))
    }

    /// Answers when the gate opens.
    pub(crate) fn hold(gate: &Gate) -> Self {
        Self::new(What::Hold(gate.clone()))
    }

    /// Makes its answer at once, and sends it when the gate opens: what was true when it was asked.
    pub(crate) fn hold_answer(gate: &Gate) -> Self {
        Self::new(What::HoldAnswer(gate.clone()))
    }

    /// Sends `after` bytes of the body and the rest when the gate opens.
    pub(crate) fn hold_body(after: u64, gate: &Gate) -> Self {
        Self::new(What::HoldBody(after, gate.clone()))
    }

    /// Sends `after` bytes of the body and then one at a time, one `every` so long.
    pub(crate) fn trickle(after: u64, every: Duration) -> Self {
        Self::new(What::Trickle(after, every))
    }

    /// Sends so many bytes of the body a second, in pieces of a tenth.
    pub(crate) fn pace(a_second: u64) -> Self {
        Self::new(What::Pace(a_second))
    }

    /// Cuts the connection after so many bytes of the body.
    pub(crate) fn cut_body(after: u64) -> Self {
        Self::new(What::CutBody(after))
    }

    /// Answers with this header, whatever is true.
    pub(crate) fn header(name: &'static str, value: &str) -> Self {
        Self::new(What::Header(name, Some(value.to_owned())))
    }

    /// Answers without this header.
    pub(crate) fn without(name: &'static str) -> Self {
        Self::new(What::Header(name, None))
    }

    /// Sends the body in chunks without a length, `more` bytes longer or shorter than it is.
    pub(crate) fn chunked(more: i64) -> Self {
        Self::new(What::Unsized(more))
    }

    /// Answers with an error of S3.
    pub(crate) fn status(status: u16, code: &'static str) -> Self {
        Self::new(What::Status(status, code))
    }

    /// Answers with an error of S3 before it has read a byte of the request's body, and hangs up.
    pub(crate) fn status_unread(status: u16, code: &'static str) -> Self {
        Self::new(What::StatusUnread(status, code))
    }

    /// Does what it was asked to do, and answers with an error of S3.
    pub(crate) fn status_after(status: u16, code: &'static str) -> Self {
        Self::new(What::StatusAfter(status, code))
    }

    /// Takes the whole request and never answers; does what it was asked to do when the gate opens, whoever is still
    /// there.
    pub(crate) fn land(gate: &Gate) -> Self {
        Self::new(What::Land(gate.clone()))
    }

    /// Answers with a head at once, then with a blank now and then, and with its body when the gate opens.
    pub(crate) fn blanks(gate: &Gate) -> Self {
        Self::new(What::Blanks(gate.clone()))
    }

    /// Answers as if no If-Match, If-None-Match or date had been sent.
    pub(crate) fn ignore_conditions() -> Self {
        Self::new(What::IgnoreConditions)
    }

    /// Answers as if no Range had been sent.
    pub(crate) fn ignore_range() -> Self {
        Self::new(What::IgnoreRange)
    }

    /// Does what it is asked for, and cuts the connection in place of an answer.
    pub(crate) fn lose_answer() -> Self {
        Self::new(What::Lose)
    }

    /// Takes the whole request and does what it asks for so much later, whether or not its client still waits.
    pub(crate) fn late(by: Duration) -> Self {
        Self::new(What::Late(by))
    }

    /// Only at this operation, by S3's name.
    pub(crate) fn of(mut self, op: &'static str) -> Self {
        self.op = Some(op);
        self
    }

    /// Only at this object.
    pub(crate) fn on(mut self, bucket: &str, key: &str) -> Self {
        self.object = Some((bucket.to_owned(), key.to_owned()));
        self
    }

    /// Only the next so many times.
    pub(crate) fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }

    /// Not at the next so many requests.
    pub(crate) fn after(mut self, spared: u32) -> Self {
        self.spared = spared;
        self
    }

    fn names(&self, call: &Call) -> bool {
        self.op.is_none_or(|op| op == call.op)
            && self
                .object
                .as_ref()
                .is_none_or(|(bucket, key)| *bucket == call.bucket && *key == call.key)
    }
}

/// The faults that are in force.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.0.lock().unwrap().push(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// What goes wrong with this request; counts it.
    pub(super) fn at(&self, call: &Call) -> Vec<What> {
        let mut faults = self.0.lock().unwrap();
        let mut hit = Vec::new();
        for fault in faults.iter_mut().filter(|fault| fault.names(call)) {
            if fault.spared > 0 {
                fault.spared -= 1;
                continue;
            }
            match &mut fault.left {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            hit.push(fault.what.clone());
        }
        faults.retain(|fault| fault.left != Some(0));
        hit
    }
}

/// Holds requests until the test opens it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(watch::Sender<bool>, watch::Sender<u32>)>);

impl Gate {
    /// A closed one.
    pub(crate) fn new() -> Self {
        Self(Arc::new((watch::Sender::new(false), watch::Sender::new(0))))
    }

    /// Lets all through, now and later.
    pub(crate) fn open(&self) {
        self.0.0.send_replace(true);
    }

    /// Waits until `requests` have come to the gate.
    pub(crate) async fn reached(&self, requests: u32) {
        let mut waiting = self.0.1.subscribe();
        timeout(DEADLINE, waiting.wait_for(|n| *n >= requests))
            .await
            .expect("no request came to the gate")
            .expect("the gate stands");
    }

    pub(super) async fn pass(&self) {
        self.0.1.send_modify(|n| *n += 1);
        let mut open = self.0.0.subscribe();
        open.wait_for(|open| *open).await.expect("the gate stands");
    }
}
