//! When an invalidation is complete: the rounds, without clock or network.
//!
//! One fan-out is not enough. A node that has dropped its copy may copy the old head again from a home that has not
//! dropped it yet. After one full round no home holds the old version or can still store it; the second full round
//! removes what was copied during the first, and voids the tickets of copies under way. That holds only because a node
//! answers a peer from its own reads of S3, never with a copied head: otherwise two nodes that take each other for the
//! home could hand an old head back and forth through any number of rounds. `model.rs` tries all of this.
//!
//! A node that does not answer owes the invalidation, and each round's request names the nodes that have not answered
//! so far. The caller hears of an incomplete invalidation only after the other nodes have heard who owes it, so they
//! remember it even if the coordinator dies.

use std::collections::BTreeSet;

/// How many full rounds in a row every node of one set has to answer.
const ROUNDS: u8 = 2;

/// How many rounds in a row may miss an answer before the caller gets its own.
const LAME_ROUNDS: u8 = 2;

/// A caller never waits for more rounds than this, even if nodes keep coming and going.
const MAX_ROUNDS: u8 = 16;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step<N> {
    /// Tell these, in parallel, and report each outcome.
    Tell(Vec<N>),
    /// Every node has forgotten.
    Complete,
    /// Some nodes did not answer; the others have been told as far as possible.
    Incomplete,
}

/// One invalidation's way through the nodes, including this one; `N` names a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rounds<N> {
    set: BTreeSet<N>,
    waiting: BTreeSet<N>,
    failed: BTreeSet<N>,
    /// Nodes that missed a round before the present one, whose request names them.
    announced: BTreeSet<N>,
    /// The set grew during the round.
    grown: bool,
    clean: u8,
    lame: u8,
    begun: u8,
    needed: u8,
}

impl<N: Ord + Clone> Rounds<N> {
    /// No node has been told yet. `me` is this node.
    pub(super) fn new(me: N) -> Self {
        Self {
            set: BTreeSet::from([me]),
            waiting: BTreeSet::new(),
            failed: BTreeSet::new(),
            announced: BTreeSet::new(),
            grown: false,
            clean: 0,
            lame: 0,
            begun: 0,
            needed: ROUNDS,
        }
    }

    /// The next step, once every node of the last one has an outcome. `known` are the present contacts: new ones join;
    /// one that did not answer and is no longer known is given up.
    pub(super) fn next(&mut self, known: impl IntoIterator<Item = N>) -> Step<N> {
        debug_assert!(self.waiting.is_empty(), "the round is not over");
        self.close();
        self.meet(known);
        if self.clean >= self.needed {
            return Step::Complete;
        }
        // A node that has answered both rounds is not named, so the others remember exactly which nodes may hold
        // something old.
        let all_announced = self.failed.is_subset(&self.announced);
        if self.lame >= LAME_ROUNDS && all_announced || self.begun >= MAX_ROUNDS {
            return Step::Incomplete;
        }
        self.announced.append(&mut self.failed);
        self.waiting = self.set.clone();
        self.begun += 1;
        Step::Tell(self.waiting.iter().cloned().collect())
    }

    /// `name` has forgotten, and knows `members`.
    pub(super) fn ack(&mut self, name: &N, members: impl IntoIterator<Item = N>) {
        if self.waiting.remove(name) {
            for member in members {
                self.grown |= self.set.insert(member);
            }
        }
    }

    /// `name` did not answer; it may have forgotten or not.
    pub(super) fn fail(&mut self, name: &N) {
        if let Some(name) = self.waiting.take(name) {
            self.failed.insert(name);
        }
    }

    /// Nodes that did not answer when they were last told.
    pub(super) fn missing(&self) -> &BTreeSet<N> {
        &self.failed
    }

    /// Nodes that missed a round before this one.
    pub(super) fn announced(&self) -> &BTreeSet<N> {
        &self.announced
    }

    #[cfg(test)]
    pub(super) fn satisfied_by(mut self, rounds: u8) -> Self {
        self.needed = rounds;
        self
    }

    #[cfg(test)]
    pub(super) fn begun(&self) -> u8 {
        self.begun
    }

    #[cfg(test)]
    pub(super) fn renamed(&self, name: impl Fn(&N) -> N) -> Self {
        let all = |names: &BTreeSet<N>| names.iter().map(&name).collect();
        Self {
            set: all(&self.set),
            waiting: all(&self.waiting),
            failed: all(&self.failed),
            announced: all(&self.announced),
            ..self.clone()
        }
    }

    fn close(&mut self) {
        let told_all = self.begun > 0 && !self.grown;
        let answered = self.failed.is_empty();
        self.clean = if told_all && answered {
            self.clean + 1
        } else {
            0
        };
        self.lame = if told_all && !answered {
            self.lame + 1
        } else {
            0
        };
        self.grown = false;
    }

    fn meet(&mut self, known: impl IntoIterator<Item = N>) {
        let known: BTreeSet<N> = known.into_iter().collect();
        for gone in self.failed.difference(&known) {
            self.set.remove(gone);
        }
        self.failed.retain(|name| known.contains(name));
        if self.failed.is_empty() {
            self.lame = 0;
        }
        let before = self.set.len();
        self.set.extend(known);
        if self.set.len() > before {
            self.clean = 0;
            self.lame = 0;
        }
    }
}
