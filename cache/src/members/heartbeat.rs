//! The heartbeat: a hello to every contact, several times a second. Who does not answer is silent; who answers is back.
//!
//! It is also how a node makes itself known before it reports ready, and how it says that it leaves.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Members, jittered};
use crate::peer::{Contact, Error, Hello, Peers, Token, Welcome};

/// From one hello to the next, at most. With [`PATIENCE`] it makes 500 ms: so soon a dead node is known to be dead.
const PERIOD: Duration = Duration::from_millis(150);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(350);

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
            Some((name, answer)) = calls.next() => {
                if let Some(pace) = paces.get_mut::<String>(&name) {
                    pace.waiting = false;
                }
                match answer {
                    Ok(Ok(welcome)) => members.answered(&name, &welcome),
                    Ok(Err(_)) => members.unanswered(&name),
                    Err(_late) => members.late(&name),
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
            });
            if pace.waiting || !urgent && pace.rests(now, long_silent) {
                continue;
            }
            *pace = Pace {
                waiting: true,
                last: Some(now),
            };
            calls.push(greet(Arc::clone(&caller), contact, Arc::clone(&hello)));
        }
    }
}

/// Tells all contacts that this node leaves, and waits for their answers as long as for any other.
pub async fn farewell(members: &Members, caller: &Arc<dyn Caller>) {
    let hello = Arc::new(members.hello());
    let greetings = members
        .contacts()
        .into_iter()
        .map(|contact| greet(Arc::clone(caller), contact, Arc::clone(&hello)));
    join_all(greetings).await;
}

/// One hello: the contact's name, and what came of it in time.
async fn greet(
    caller: Arc<dyn Caller>,
    contact: Contact,
    hello: Arc<Hello>,
) -> (String, Result<Result<Welcome, Error>, Elapsed>) {
    let answer = timeout(PATIENCE, caller.hello(&contact.url, &hello)).await;
    (contact.name, answer)
}

/// How one contact is being asked.
struct Pace {
    waiting: bool,
    last: Option<Instant>,
}

impl Pace {
    fn rests(&self, now: Instant, long_silent: bool) -> bool {
        long_silent && self.last.is_some_and(|last| now < last + SLOW_PERIOD)
    }
}

#[cfg(test)]
mod tests;
