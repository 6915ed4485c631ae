//! Carries one invalidation out: the rounds, over the network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

use super::rounds::{Rounds, Step};
use super::{Inner, NodeReport, Report};
use crate::object::Scope;
use crate::peer::{self, Contact, InvalidateAck, InvalidateRequest};

/// How long a node may take to forget, and to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stands for all members while discovery has not named them: it never answers, so nothing is complete.
const THE_RING: &str = "the ring (not known yet)";

/// An invalidation under way.
pub(super) struct Coordinator {
    inner: Arc<Inner>,
    request: InvalidateRequest,
    rounds: Rounds<String>,
    urls: BTreeMap<String, String>,
    table: BTreeMap<String, NodeReport>,
}

impl Coordinator {
    pub(super) fn new(inner: Arc<Inner>, scope: Scope) -> Self {
        let me = inner.members.name().to_owned();
        Self {
            request: InvalidateRequest {
                scope,
                from: me.clone(),
                unanswered: Vec::new(),
            },
            inner,
            rounds: Rounds::new(me),
            urls: BTreeMap::new(),
            table: BTreeMap::new(),
        }
    }

    /// Runs until the invalidation is complete (true), or the other nodes are told as far as possible; also returns the
    /// nodes that have not answered.
    pub(super) async fn run(&mut self) -> bool {
        loop {
            match self.next() {
                Step::Tell(names) => self.tell(names).await,
                Step::Complete => return true,
                Step::Incomplete => {
                    let owing = self.contacts_of(self.rounds.missing());
                    self.inner.members.owe(&owing, &self.request.scope);
                    return false;
                }
            }
        }
    }

    /// What has to be sent again once discovery has named the nodes; `None` if it had already.
    pub(super) fn missed_the_ring(&self) -> Option<Scope> {
        let missed = self.rounds.missing().contains(THE_RING);
        missed.then(|| self.request.scope.clone())
    }

    pub(super) fn report(&self, complete: bool) -> Report {
        Report {
            complete,
            // A node that went away in the middle does not make it incomplete.
            nodes: (self.table.values())
                .filter(|node| node.answered || !complete)
                .cloned()
                .collect(),
        }
    }

    /// The contacts are read again before each round, so that nodes that sent a heartbeat meanwhile are told too.
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

    fn contacts_of(&self, names: &BTreeSet<String>) -> Vec<Contact> {
        let contact = |name: &String| {
            let url = self.urls.get(name).filter(|url| *url != THE_RING)?;
            Some(Contact {
                name: name.clone(),
                url: url.clone(),
            })
        };
        names.iter().filter_map(contact).collect()
    }

    async fn tell(&mut self, names: Vec<String>) {
        self.request.unanswered = self.contacts_of(self.rounds.announced());
        if names.contains(&self.request.from) {
            self.apply();
        }
        let mut calls: FuturesUnordered<_> = names
            .into_iter()
            .filter(|name| *name != self.request.from)
            .map(|name| {
                let url = self.urls.get(&name).cloned().unwrap_or_default();
                ask(&self.inner, &self.request, name, url)
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
                    tracing::warn!(node = name, %error, scope = ?self.request.scope, "failed to invalidate at a node; it is asked again");
                    self.rounds.fail(&name);
                }
            }
        }
    }

    /// This node's own part.
    fn apply(&mut self) {
        self.inner
            .members
            .owe(&self.request.unanswered, &self.request.scope);
        let dropped = (self.inner.apply)(&self.request.scope);
        let ack = InvalidateAck {
            name: self.request.from.clone(),
            dropped_heads: dropped.heads,
            dropped_blocks: dropped.blocks,
            members: Vec::new(),
        };
        note(&mut self.table, &ack.name, Ok(&ack));
        self.rounds.ack(&ack.name, []);
    }
}

/// Sends a request to a node, and waits this long for its answer.
pub(super) async fn ask(
    inner: &Inner,
    request: &InvalidateRequest,
    name: String,
    url: String,
) -> (String, Result<InvalidateAck, peer::Error>) {
    if name == THE_RING {
        let source = "discovery has not named the nodes yet".into();
        return (name, Err(peer::Error::Unreachable { url, source }));
    }
    let answer = match timeout(PATIENCE, inner.client.send(&url, request)).await {
        Err(_) => Err(peer::Error::Timeout {
            url,
            after: PATIENCE,
        }),
        // The answer of another node, which has this one's address now, says nothing about this one.
        Ok(Ok(ack)) if ack.name != name => {
            let what = format!("as {}, and {name} was asked", ack.name);
            Err(peer::Error::Broken { url, what })
        }
        Ok(answer) => answer,
    };
    (name, answer)
}

fn note(
    table: &mut BTreeMap<String, NodeReport>,
    name: &str,
    answer: Result<&InvalidateAck, &peer::Error>,
) {
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
