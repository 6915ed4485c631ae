//! The heartbeat: a hello to every contact, several times a second. Who refuses it, or leaves several unanswered, is
//! silent; who answers is back.
//!
//! One late answer is no proof on a busy machine, and a ring that moves for it reads S3 again. A request that waits for
//! a node does not have to wait for the proof: it asks `Members::quiet_for`.
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
use crate::peer::{Contact, Error, Hello, Peers, Token, Welcome};

/// From one hello to the next, at most.
const PERIOD: Duration = Duration::from_millis(150);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(350);

/// So many late answers in a row are a node that hangs: silent after a second and some.
const LATE: u32 = 3;

/// How long the answer of a node that is silent already may take: on a busy machine a late answer still renews the lease.
const LONG_PATIENCE: Duration = Duration::from_secs(1);

/// From one hello to the next for a contact that has been silent for long.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// Says hello over the network.
pub trait Caller: Send + Sync {
    /// Says `hello` to the node at `url`. The caller bounds the time.
    fn hello<'a>(&'a self, url: &'a str, hello: &'a Hello)
    -> BoxFuture<'a, Result<Welcome, Error>>;
}

impl Caller for Peers {
    fn hello<'a>(
        &'a self,
        url: &'a str,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Welcome, Error>> {
        Box::pin(self.hello(url, hello))
    }
}

/// Says hello to all contacts until `stop`, from a thread of its own with connections of its own: what the node has to
/// do for its readers does not make it late, neither in asking nor in noticing that an answer is there.
///
/// # Errors
/// The system has no further thread.
pub fn start(members: Arc<Members>, token: Token, stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let beating = move || runtime.block_on(beat(members, Arc::new(Peers::new(token)), stop));
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(beating)?;
    Ok(())
}

/// Says hello to all contacts until `stop`. A contact that still owes an answer is not asked again.
async fn beat(members: Arc<Members>, caller: Arc<dyn Caller>, stop: CancellationToken) {
    let mut calls = FuturesUnordered::new();
    let mut paces: HashMap<String, Pace> = HashMap::new();
    let mut next = Instant::now();
    loop {
        let urgent = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((name, answer, said)) = calls.next() => {
                let late = paces.get_mut::<String>(&name).map_or(LATE, |pace| pace.count(&name, &answer));
                match answer {
                    Answer::Welcome(welcome) => members.answered(&name, &welcome, said),
                    Answer::Late if members.said_hello() && (late < LATE || is_heard(&members, &name)) => {}
                    Answer::Late => members.unanswered(&name, false),
                    Answer::Refused(error) => members.unanswered(&name, error.is_refused_connection()),
                }
                continue;
            }
            () = members.news.notified() => true,
            () = sleep_until(next) => false,
        };
        let now = Instant::now();
        next = now + jittered(PERIOD);
        let hello = Arc::new(members.hello());
        let contacts = members.to_greet();
        let known: HashSet<&str> = contacts.iter().map(|(contact, _)| &*contact.name).collect();
        paces.retain(|name, pace| pace.waiting || known.contains(name.as_str()));
        for (contact, long_silent) in contacts {
            let pace = paces.entry(contact.name.clone()).or_insert(Pace {
                waiting: false,
                last: None,
                late: 0,
                told: false,
            });
            if pace.waiting || !urgent && pace.rests(now, long_silent) {
                continue;
            }
            pace.waiting = true;
            pace.last = Some(now);
            let patience = if pace.late < LATE {
                PATIENCE
            } else {
                LONG_PATIENCE
            };
            calls.push(greet(
                Arc::clone(&caller),
                contact,
                Arc::clone(&hello),
                patience,
            ));
        }
    }
}

/// Tells all contacts that this node leaves, and waits for their answers as long as for any other.
pub async fn farewell(members: &Members, caller: &Arc<dyn Caller>) {
    let hello = Arc::new(members.hello());
    let greetings = members
        .contacts()
        .into_iter()
        .map(|contact| greet(Arc::clone(caller), contact, Arc::clone(&hello), PATIENCE));
    join_all(greetings).await;
}

/// Something else came from it lately: it is busy, and answers readers rather than hellos.
fn is_heard(members: &Members, name: &str) -> bool {
    members
        .quiet_for(name)
        .is_some_and(|quiet| quiet < PATIENCE)
}

/// What came of one hello.
enum Answer {
    Welcome(Welcome),
    /// Nobody listens, or who listens does not know this cache.
    Refused(Error),
    /// Not in time.
    Late,
}

/// One hello: the contact's name, its answer, and when it was said.
async fn greet(
    caller: Arc<dyn Caller>,
    contact: Contact,
    hello: Arc<Hello>,
    patience: Duration,
) -> (String, Answer, Instant) {
    let said = Instant::now();
    let answer = match timeout(patience, caller.hello(&contact.url, &hello)).await {
        Ok(Ok(welcome)) => Answer::Welcome(welcome),
        Ok(Err(error)) => Answer::Refused(error),
        Err(_) => Answer::Late,
    };
    (contact.name, answer, said)
}

/// How one contact is being asked.
struct Pace {
    waiting: bool,
    last: Option<Instant>,
    /// Late answers in a row.
    late: u32,
    /// The log has it that this contact shows this node the door.
    told: bool,
}

impl Pace {
    /// Notes that the call is over; the late answers in a row.
    fn count(&mut self, name: &str, answer: &Answer) -> u32 {
        self.waiting = false;
        self.late = match answer {
            Answer::Late => self.late + 1,
            Answer::Welcome(_) | Answer::Refused(_) => 0,
        };
        match answer {
            Answer::Welcome(_) => self.told = false,
            // A node that is away is told by the ring; one that is there and refuses is a mistake of somebody's.
            Answer::Refused(error @ (Error::Refused(_) | Error::Broken { .. })) if !self.told => {
                self.told = true;
                tracing::warn!(name, %error, "a node refuses this one's hellos: they share nothing");
            }
            Answer::Refused(_) | Answer::Late => {}
        }
        self.late
    }

    fn rests(&self, now: Instant, long_silent: bool) -> bool {
        long_silent && self.last.is_some_and(|last| now < last + SLOW_PERIOD)
    }
}

#[cfg(test)]
mod tests;
