//! The heartbeat: a message to every contact, several times a second. A node that refuses it, or leaves several
//! unanswered, is unreachable; one that answers is back.
//!
//! On a busy machine one late answer proves nothing, and a ring that changes for it reads S3 again. A request that
//! waits for a node does not have to wait for the proof: it asks `Members::idle_for`.
//!
//! It is also how a node makes itself known before it reports ready, and how it says that it leaves.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Members, jittered};
use crate::peer::{Contact, Error, Heartbeat, HeartbeatAck, Peers, RefusalKind, Token};

/// From one heartbeat to the next, at most.
const PERIOD: Duration = Duration::from_millis(150);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(350);

/// This many late answers in a row mean that the node hangs: it is unreachable after about a second.
const LATE: u32 = 3;

/// How long the answer of a node that is already unreachable may take: on a busy machine a late answer still renews the
/// lease.
const LONG_PATIENCE: Duration = Duration::from_secs(1);

/// From one heartbeat to the next for a contact that has been unreachable for long.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// Sends a heartbeat over the network.
pub trait HeartbeatClient: Send + Sync {
    /// Sends `heartbeat` to the node at `url`. The caller bounds the time.
    fn heartbeat<'a>(
        &'a self,
        url: &'a str,
        heartbeat: &'a Heartbeat,
    ) -> BoxFuture<'a, Result<HeartbeatAck, Error>>;
}

impl HeartbeatClient for Peers {
    fn heartbeat<'a>(
        &'a self,
        url: &'a str,
        heartbeat: &'a Heartbeat,
    ) -> BoxFuture<'a, Result<HeartbeatAck, Error>> {
        Box::pin(self.heartbeat(url, heartbeat))
    }
}

/// Sends a heartbeat to all contacts until `stop`, from a thread of its own with connections of its own: the node's
/// work for its readers delays neither the heartbeats nor the reading of their answers.
///
/// # Errors
/// The system refuses another thread.
pub fn start(members: Arc<Members>, token: Token, stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let running = move || runtime.block_on(run(members, Arc::new(Peers::new(token)), stop));
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(running)?;
    Ok(())
}

/// Sends a heartbeat to all contacts until `stop`. A contact whose answer is still awaited is not asked again.
async fn run(members: Arc<Members>, client: Arc<dyn HeartbeatClient>, stop: CancellationToken) {
    let mut calls = FuturesUnordered::new();
    let mut probes: HashMap<String, ProbeState> = HashMap::new();
    let mut next = Instant::now();
    loop {
        let urgent = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((name, answer, sent)) = calls.next() => {
                let late = probes.get_mut::<String>(&name).map_or(LATE, |probe| probe.count(&name, &answer));
                match answer {
                    HeartbeatOutcome::Ack(ack) => members.record_ack(&name, &ack, sent),
                    HeartbeatOutcome::Late if members.is_announced() && (late < LATE || is_active(&members, &name)) => {}
                    HeartbeatOutcome::Late => members.record_missed(&name, false),
                    HeartbeatOutcome::Refused(error) => members.record_missed(&name, error.is_refused_connection()),
                }
                continue;
            }
            () = members.heartbeat_due.notified() => true,
            () = sleep_until(next) => false,
        };
        let now = Instant::now();
        next = now + jittered(PERIOD);
        let heartbeat = Arc::new(members.heartbeat());
        let contacts = members.heartbeat_targets();
        let known: HashSet<&str> = contacts.iter().map(|(contact, _)| &*contact.name).collect();
        probes.retain(|name, probe| probe.waiting || known.contains(name.as_str()));
        for (contact, is_lost) in contacts {
            let probe = probes.entry(contact.name.clone()).or_insert(ProbeState {
                waiting: false,
                last: None,
                late: 0,
                logged: false,
            });
            if probe.waiting || !urgent && probe.rests(now, is_lost) {
                continue;
            }
            probe.waiting = true;
            probe.last = Some(now);
            let patience = if probe.late < LATE {
                PATIENCE
            } else {
                LONG_PATIENCE
            };
            calls.push(send_heartbeat(
                Arc::clone(&client),
                contact,
                Arc::clone(&heartbeat),
                patience,
            ));
        }
    }
}

/// Tells all contacts that this node leaves, and waits for their answers.
pub async fn send_leave(members: &Members, client: &Arc<dyn HeartbeatClient>) {
    let heartbeat = Arc::new(members.heartbeat());
    let messages = members.contacts().into_iter().map(|contact| {
        send_heartbeat(
            Arc::clone(client),
            contact,
            Arc::clone(&heartbeat),
            PATIENCE,
        )
    });
    join_all(messages).await;
}

/// It answered something else lately: it is busy, and answers readers before heartbeats.
fn is_active(members: &Members, name: &str) -> bool {
    members.idle_for(name).is_some_and(|idle| idle < PATIENCE)
}

/// What came of one heartbeat.
enum HeartbeatOutcome {
    Ack(HeartbeatAck),
    /// Nothing listens there, or what listens does not belong to this cache.
    Refused(Error),
    /// No answer came in time.
    Late,
}

/// One heartbeat: the contact's name, its answer, and when it was sent.
async fn send_heartbeat(
    client: Arc<dyn HeartbeatClient>,
    contact: Contact,
    heartbeat: Arc<Heartbeat>,
    patience: Duration,
) -> (String, HeartbeatOutcome, Instant) {
    let sent = Instant::now();
    let answer = match timeout(patience, client.heartbeat(&contact.url, &heartbeat)).await {
        Ok(Ok(ack)) => HeartbeatOutcome::Ack(ack),
        Ok(Err(error)) => HeartbeatOutcome::Refused(error),
        Err(_) => HeartbeatOutcome::Late,
    };
    (contact.name, answer, sent)
}

/// How one contact is being asked.
struct ProbeState {
    waiting: bool,
    last: Option<Instant>,
    /// Late answers in a row.
    late: u32,
    /// The log already says that this contact refuses this node's heartbeats.
    logged: bool,
}

impl ProbeState {
    /// Notes that the call is over; returns the number of late answers in a row.
    fn count(&mut self, name: &str, answer: &HeartbeatOutcome) -> u32 {
        self.waiting = false;
        self.late = match answer {
            HeartbeatOutcome::Late => self.late + 1,
            HeartbeatOutcome::Ack(_) | HeartbeatOutcome::Refused(_) => 0,
        };
        match answer {
            HeartbeatOutcome::Ack(_) => self.logged = false,
            // The ring's log has nodes that are down. One that is up and refuses is a misconfiguration.
            HeartbeatOutcome::Refused(error @ (Error::Refused(_) | Error::Broken { .. }))
                if !self.logged =>
            {
                self.logged = true;
                warn_of_refusal(name, error);
            }
            HeartbeatOutcome::Refused(_) | HeartbeatOutcome::Late => {}
        }
        self.late
    }

    fn rests(&self, now: Instant, is_lost: bool) -> bool {
        is_lost && self.last.is_some_and(|last| now < last + SLOW_PERIOD)
    }
}

fn warn_of_refusal(name: &str, error: &Error) {
    if matches!(error, Error::Refused(refusal) if refusal.kind == RefusalKind::Unauthorized) {
        tracing::warn!(
            name,
            "a node refuses this node's token: the two share nothing until --peer-token-file holds the same token at both"
        );
    } else {
        tracing::warn!(name, %error, "a node refuses this node's heartbeats: the two share nothing");
    }
}

#[cfg(test)]
mod tests;
