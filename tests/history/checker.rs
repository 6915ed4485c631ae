//! What a history must hold. Pure: times come in as numbers, by one clock.
//!
//! The S3 of the test notes each change of an object with its time, so it is known which value was current when. A
//! write or an invalidation that was answered as complete is a bound: a read that starts after that answer must give
//! what was current at some moment between the write's landing (an invalidation's start) and the read's end. One that
//! was answered as incomplete bounds the nodes that answered; but a sidecar, which is told of nothing, may ask a node
//! that did not and that was alive and only out of reach. When all is well again, and Falcon has had time, every landed
//! write of Falcon's is a bound, whatever its client was told.

use std::fmt;

use super::version::Version;

/// Microseconds since the history began.
pub(super) type Time = u64;

/// What an object may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    Stored(Version),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Stored(version) => version.fmt(f),
        }
    }
}

/// From the moment before a request was sent to the moment after its answer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Time,
    pub(super) end: Time,
}

impl Span {
    fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// An answer to a read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) key: usize,
    pub(super) node: usize,
    pub(super) span: Span,
    pub(super) value: Value,
    /// What was asked and where the answer said that it came from, for a message.
    pub(super) how: String,
}

/// What a request was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Store(Version),
    Remove,
    /// To forget what was known, not to change it.
    Invalidate,
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done; these nodes have not forgotten yet.
    Done { unanswered: Vec<usize> },
    /// Not done.
    Refused,
    /// Done or not; it was answered (with an error), or not at all.
    Unknown { answered: bool },
}

/// A request that changes something.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) keys: Vec<usize>,
    /// Which node was asked.
    pub(super) node: usize,
    pub(super) span: Span,
    pub(super) effect: Effect,
    pub(super) outcome: Outcome,
    pub(super) how: String,
}

/// A change at S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) key: usize,
    pub(super) at: Time,
    pub(super) value: Value,
    /// It was made behind Falcon's back, and is no request's work.
    pub(super) behind: bool,
}

/// All that happened.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// In their order.
    pub(super) commits: Vec<Commit>,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    /// When which node was alive and out of reach.
    pub(super) hung: Vec<(usize, Span)>,
    /// When which node was killed, or told to end.
    pub(super) ended: Vec<(usize, Time)>,
    /// Who stands beside the ring.
    pub(super) sidecars: Vec<usize>,
    /// Moments by which all was well again and nothing ran.
    pub(super) settled: Vec<Time>,
}

/// A node that hangs is out of reach for its peers a little longer than for its clock.
const AFTERMATH: Time = 3_000_000;

/// From when on a read must not give what was current before `covers`.
struct Bound<'a> {
    from: Time,
    covers: Time,
    /// Nodes that it does not bind.
    unless: Vec<usize>,
    why: &'a str,
}

impl History {
    /// Everything that is wrong with it, one line each.
    pub(super) fn violations(&self) -> Vec<String> {
        let keys = self.commits.iter().map(|commit| commit.key);
        let keys = keys.chain(self.reads.iter().map(|read| read.key)).max();
        let mut wrong = Vec::new();
        for key in 0..keys.map_or(0, |last| last + 1) {
            let bounds = self.bounds(key);
            for read in self.reads.iter().filter(|read| read.key == key) {
                wrong.extend(self.judge(read, &bounds));
            }
        }
        wrong.extend(
            self.writes
                .iter()
                .filter_map(|write| self.told_wrong(write)),
        );
        wrong
    }

    /// Changes of one key, with the moment until which each was current; nothing is there at first.
    fn eras(&self, key: usize) -> Vec<(Value, Span)> {
        let mut eras = vec![(
            Value::Absent,
            Span {
                start: 0,
                end: Time::MAX,
            },
        )];
        for commit in self.commits.iter().filter(|commit| commit.key == key) {
            eras.last_mut().expect("the first is there").1.end = commit.at;
            let span = Span {
                start: commit.at,
                end: Time::MAX,
            };
            eras.push((commit.value, span));
        }
        eras
    }

    fn bounds(&self, key: usize) -> Vec<Bound<'_>> {
        let mut bounds = Vec::new();
        for write in self.writes.iter().filter(|write| write.keys.contains(&key)) {
            let Outcome::Done { unanswered } = &write.outcome else {
                continue;
            };
            let mut unless = unanswered.clone();
            let hung = |node: &usize| self.was_hung(*node, write.span);
            if unanswered.iter().any(hung) {
                unless.extend(&self.sidecars);
            }
            bounds.push(Bound {
                from: write.span.end,
                covers: self.covered(key, write),
                unless,
                why: &write.how,
            });
        }
        for at in &self.settled {
            bounds.push(Bound {
                from: *at,
                covers: self.settled_bound(key, *at),
                unless: vec![],
                why: "all being well again",
            });
        }
        bounds
    }

    /// When a write that was told to be done landed; for what left no trace, when it was sent.
    fn covered(&self, key: usize, write: &Write) -> Time {
        let wanted = match write.effect {
            Effect::Store(version) => Value::Stored(version),
            Effect::Remove => Value::Absent,
            Effect::Invalidate => return write.span.start,
        };
        let landed = self.commits.iter().find(|commit| {
            commit.key == key && commit.value == wanted && commit.at >= write.span.start
        });
        landed
            .filter(|commit| commit.at <= write.span.end)
            .map_or(write.span.start, |commit| commit.at)
    }

    fn was_hung(&self, node: usize, span: Span) -> bool {
        self.hung.iter().any(|(hung, out)| {
            let out = Span {
                start: out.start,
                end: out.end.saturating_add(AFTERMATH),
            };
            *hung == node && out.overlaps(span)
        })
    }

    /// The last change for which Falcon answers when all is well again.
    fn settled_bound(&self, key: usize, at: Time) -> Time {
        let of_key = |write: &&Write| write.keys.contains(&key) && write.span.start < at;
        let forgotten = self.writes.iter().filter(of_key).filter(|write| {
            write.effect == Effect::Invalidate && matches!(write.outcome, Outcome::Done { .. })
        });
        let forgotten = forgotten.map(|write| write.span.start).max().unwrap_or(0);
        let landed = self.commits.iter().filter(|commit| {
            let makers: Vec<&Write> = self
                .writes
                .iter()
                .filter(of_key)
                .filter(|write| may_have_made(write, commit))
                .collect();
            commit.key == key
                && commit.at < at
                && !makers.is_empty()
                && makers
                    .iter()
                    .all(|write| self.answers_for(write, commit, at))
        });
        landed
            .map(|commit| commit.at)
            .max()
            .unwrap_or(0)
            .max(forgotten)
    }

    /// True when Falcon must see to it that this write's change is seen: somebody was told, or the node that was asked
    /// lived on long enough to know.
    fn answers_for(&self, write: &Write, commit: &Commit, settled: Time) -> bool {
        let lived = |until: Time| {
            let during = write.span.start..=until;
            !(self.ended.iter()).any(|(node, at)| *node == write.node && during.contains(at))
        };
        match write.outcome {
            Outcome::Done { .. } | Outcome::Unknown { answered: true } => {
                commit.at <= write.span.end || lived(settled)
            }
            Outcome::Refused | Outcome::Unknown { answered: false } => lived(settled),
        }
    }

    fn judge(&self, read: &Read, bounds: &[Bound<'_>]) -> Option<String> {
        let holds =
            |bound: &&Bound<'_>| bound.from < read.span.start && !bound.unless.contains(&read.node);
        let bound = bounds.iter().filter(holds).max_by_key(|bound| bound.covers);
        let covers = bound.map_or(0, |bound| bound.covers);
        let eras = self.eras(read.key);
        let current = |era: &(Value, Span)| era.1.end > covers && era.1.start <= read.span.end;
        if eras.iter().any(|era| era.0 == read.value && current(era)) {
            return None;
        }
        let allowed: Vec<_> = eras
            .iter()
            .filter(|era| current(era))
            .map(|era| era.0.to_string())
            .collect();
        let what = match eras.iter().rfind(|era| era.0 == read.value) {
            None => "which S3 never held".to_owned(),
            Some((_, era)) => format!(
                "current from {} to {}",
                seconds(era.start),
                seconds(era.end)
            ),
        };
        Some(format!(
            "key {} at node {} from {} to {}, {}: {}, {what}; after {} it must be one of {}",
            read.key,
            read.node,
            seconds(read.span.start),
            seconds(read.span.end),
            read.how,
            read.value,
            bound.map_or_else(String::new, |bound| format!(
                "{} (answered at {}, landed at {})",
                bound.why,
                seconds(bound.from),
                seconds(covers)
            )),
            allowed.join(", "),
        ))
    }

    /// A write that is told to be done must have landed, and one that was refused must not.
    fn told_wrong(&self, write: &Write) -> Option<String> {
        let Effect::Store(version) = write.effect else {
            return None;
        };
        let landed = self.commits.iter().any(|commit| {
            commit.value == Value::Stored(version) && write.keys.contains(&commit.key)
        });
        let what = match (&write.outcome, landed) {
            (Outcome::Done { .. }, false) => "told to be done, and S3 never had it",
            (Outcome::Refused, true) => "told to be refused, and S3 has stored it",
            _ => return None,
        };
        let Span { start, end } = write.span;
        Some(format!(
            "{version} at node {} from {} to {}, {}: {what}",
            write.node,
            seconds(start),
            seconds(end),
            write.how
        ))
    }
}

/// True when this change can be that request's work.
fn may_have_made(write: &Write, commit: &Commit) -> bool {
    if commit.behind {
        return false;
    }
    match write.effect {
        Effect::Store(version) => commit.value == Value::Stored(version),
        Effect::Remove => {
            let open = matches!(write.outcome, Outcome::Unknown { .. });
            commit.value == Value::Absent
                && write.span.start <= commit.at
                && (open || commit.at <= write.span.end)
        }
        Effect::Invalidate => false,
    }
}

/// A moment as a message has it.
pub(super) fn seconds(time: Time) -> String {
    if time == Time::MAX {
        return "the end".to_owned();
    }
    format!("{}.{:06}", time / 1_000_000, time % 1_000_000)
}

#[cfg(test)]
mod tests;
