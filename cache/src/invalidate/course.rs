//! One invalidation being carried out: the rounds, over the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};

use super::rounds::{Rounds, Step};
use super::{Inner, NodeReport, Report};
use crate::members::jittered;
use crate::object::Scope;
use crate::peer::{self, Ack, Contact, Order};

/// How long a node may take to forget and say so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two attempts at a node that does not answer: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Stands for all members while nobody has said who they are: it answers nothing, so nothing is complete.
const THE_RING: &str = "the ring (not known yet)";

/// An invalidation under way.
pub(super) struct Course {
    inner: Arc<Inner>,
    order: Order,
    rounds: Rounds<String>,
    urls: BTreeMap<String, String>,
    table: BTreeMap<String, NodeReport>,
}

impl Course {
    pub(super) fn new(inner: Arc<Inner>, scope: Scope) -> Self {
        let me = inner.members.name().to_owned();
        Self {
            order: Order {
                scope,
                from: me.clone(),
            },
            inner,
            rounds: Rounds::new(me),
            urls: BTreeMap::new(),
            table: BTreeMap::new(),
        }
    }

    /// Goes on until complete (true), or until the others are told as far as possible.
    pub(super) async fn run(&mut self) -> bool {
        loop {
            match self.next() {
                Step::Tell(names) => self.tell(names).await,
                Step::Complete => return true,
                Step::Incomplete => return false,
            }
        }
    }

    /// Goes on until complete. `covering` is called before each round that restarts the count: whatever has been asked for by
    /// then is covered by the full rounds to come.
    pub(super) async fn persist(&mut self, mut covering: impl FnMut()) {
        self.rounds.be_patient();
        let mut pause = BACK_OFF.0;
        loop {
            if self.rounds.missing().is_empty() {
                pause = BACK_OFF.0;
            } else {
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
            let step = self.next();
            if self.rounds.nothing_counts_yet() {
                covering();
            }
            match step {
                Step::Tell(names) => self.tell(names).await,
                Step::Complete | Step::Incomplete => return,
            }
        }
    }

    /// From now on it is everything that is to be forgotten.
    pub(super) fn widen(&mut self) {
        self.order.scope = Scope::All;
        self.start_over();
    }

    pub(super) fn start_over(&mut self) {
        self.rounds.start_over();
    }

    pub(super) fn report(&self, complete: bool) -> Report {
        Report {
            complete,
            // Who went away in the middle does not stand in the way of what is complete.
            nodes: (self.table.values())
                .filter(|node| node.answered || !complete)
                .cloned()
                .collect(),
        }
    }

    /// The contacts are read anew before each round: who said hello meanwhile is told too.
    fn next(&mut self) -> Step<String> {
        let mut contacts = self.inner.members.contacts();
        if !self.inner.members.know_the_ring() {
            contacts.push(Contact {
                name: THE_RING.to_owned(),
                url: THE_RING.to_owned(),
            });
        }
        let names: Vec<String> = contacts.iter().map(|known| known.name.clone()).collect();
        self.urls
            .extend(contacts.into_iter().map(|known| (known.name, known.url)));
        self.rounds.next(names)
    }

    async fn tell(&mut self, names: Vec<String>) {
        if names.contains(&self.order.from) {
            self.apply();
        }
        let mut calls: FuturesUnordered<_> = names
            .into_iter()
            .filter(|name| *name != self.order.from)
            .map(|name| {
                let url = self.urls.get(&name).cloned().unwrap_or_default();
                ask(&self.inner, &self.order, name, url)
            })
            .collect();
        while let Some((name, answer)) = calls.next().await {
            note(&mut self.table, &name, answer.as_ref());
            match answer {
                Ok(ack) => {
                    self.inner.members.learn(&ack.members);
                    let others = ack.members.iter().map(|member| member.name.clone());
                    self.rounds.ack(&name, others);
                    for Contact { name, url } in ack.members {
                        self.urls.entry(name).or_insert(url);
                    }
                }
                Err(error) => {
                    tracing::warn!(node = name, %error, scope = ?self.order.scope, "an invalidation went unanswered");
                    self.rounds.fail(&name);
                }
            }
        }
    }

    /// This node's own part.
    fn apply(&mut self) {
        let dropped = (self.inner.apply)(&self.order.scope);
        let ack = Ack {
            name: self.order.from.clone(),
            dropped_heads: dropped.heads,
            dropped_blocks: dropped.blocks,
            members: Vec::new(),
        };
        note(&mut self.table, &ack.name, Ok(&ack));
        self.rounds.ack(&ack.name, []);
    }
}

async fn ask(
    inner: &Inner,
    order: &Order,
    name: String,
    url: String,
) -> (String, Result<Ack, peer::Error>) {
    if name == THE_RING {
        let source = "discovery has named nobody yet".into();
        return (name, Err(peer::Error::Unreachable { url, source }));
    }
    let answer = match timeout(PATIENCE, inner.teller.tell(&url, order)).await {
        Err(_) => Err(peer::Error::Timeout {
            url,
            after: PATIENCE,
        }),
        // An address that went over to another node says nothing of this one.
        Ok(Ok(ack)) if ack.name != name => {
            let what = format!("as {}, and {name} was asked", ack.name);
            Err(peer::Error::Broken { url, what })
        }
        Ok(answer) => answer,
    };
    (name, answer)
}

fn note(table: &mut BTreeMap<String, NodeReport>, name: &str, answer: Result<&Ack, &peer::Error>) {
    let node = table.entry(name.to_owned()).or_insert_with(|| NodeReport {
        name: name.to_owned(),
        answered: false,
        dropped_heads: 0,
        dropped_blocks: 0,
        error: None,
    });
    node.answered = answer.is_ok();
    node.error = answer.err().map(ToString::to_string);
    if let Ok(ack) = answer {
        node.dropped_heads += ack.dropped_heads;
        node.dropped_blocks += ack.dropped_blocks;
    }
}
