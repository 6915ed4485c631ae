//! Heartbeats over a made-up network, in paused time.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::members::DiscoveredNode;
use crate::members::lease::LEASE;
use crate::peer::SenderStatus;
use crate::ring::MemberState;

/// A network of the mind: who hangs does not answer, who is gone refuses, and how many calls each one got.
#[derive(Default)]
struct Network {
    dead: Mutex<HashSet<String>>,
    gone: Mutex<HashSet<String>>,
    refuses: Mutex<HashSet<String>>,
    calls: Mutex<HashMap<String, u32>>,
    last: Mutex<Option<Heartbeat>>,
}

impl Network {
    fn kill(&self, name: &str) {
        self.dead.lock().unwrap().insert(name.to_owned());
    }

    fn revive(&self, name: &str) {
        self.dead.lock().unwrap().remove(name);
    }

    fn calls(&self, name: &str) -> u32 {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl HeartbeatClient for Network {
    fn heartbeat<'a>(
        &'a self,
        url: &'a str,
        heartbeat: &'a Heartbeat,
    ) -> BoxFuture<'a, Result<HeartbeatAck, Error>> {
        Box::pin(async move {
            let name = url.trim_start_matches("http://").to_owned();
            *self.calls.lock().unwrap().entry(name.clone()).or_default() += 1;
            *self.last.lock().unwrap() = Some(heartbeat.clone());
            if self.gone.lock().unwrap().contains(&name) {
                return Err(Error::Timeout {
                    url: url.to_owned(),
                    after: Duration::ZERO,
                });
            }
            if self.refuses.lock().unwrap().contains(&name) {
                let source = io::Error::from(io::ErrorKind::ConnectionRefused).into();
                let url = url.to_owned();
                return Err(Error::Unreachable { url, source });
            }
            if self.dead.lock().unwrap().contains(&name) {
                std::future::pending::<()>().await;
            }
            Ok(HeartbeatAck {
                name,
                incarnation: 1,
                members: vec![],
                owing: vec![],
                sender: SenderStatus {
                    taken: None,
                    reached: true,
                },
            })
        })
    }
}

fn start(
    names: &[&str],
) -> (
    Arc<Members>,
    Arc<Network>,
    JoinHandle<()>,
    CancellationToken,
) {
    let members = Members::new(
        Contact {
            name: "me".to_owned(),
            url: "http://me".to_owned(),
        },
        None,
    );
    let found = |name: &&str| DiscoveredNode {
        name: (*name).to_owned(),
        url: format!("http://{name}"),
        zone: None,
        serving: true,
        terminating: false,
    };
    members.apply_discovery(names.iter().map(found).collect());
    let (network, stop) = (Arc::new(Network::default()), CancellationToken::new());
    let client: Arc<dyn HeartbeatClient> = network.clone();
    let task = tokio::spawn(run(Arc::clone(&members), client, stop.clone()));
    (members, network, task, stop)
}

async fn becomes(members: &Members, name: &str, state: MemberState) -> Duration {
    let started = Instant::now();
    let mut ring = members.ring();
    let is = |ring: &Arc<crate::ring::Ring>| {
        ring.member(name)
            .is_some_and(|member| member.state == state)
    };
    timeout(Duration::from_mins(1), ring.wait_for(is))
        .await
        .expect("the state comes about")
        .unwrap();
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_silent_with_the_next_hello_whenever_it_goes() {
    for ms in (0..300).step_by(7) {
        let (members, network, ..) = start(&["a", "b"]);
        assert!(members.wait_announced(Instant::now() + PATIENCE).await);
        tokio::time::advance(Duration::from_millis(ms)).await;
        network.gone.lock().unwrap().insert("a".to_owned());
        let took = becomes(&members, "a", MemberState::Unreachable).await;
        assert!(took <= PERIOD + Duration::from_millis(1), "{took:?}");
        assert_eq!(
            members.ring().borrow().member("b").unwrap().state,
            MemberState::Serving
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_quiet_at_once_and_silent_after_three_hellos() {
    let (members, network, ..) = start(&["a"]);
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    network.kill("a");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(members.idle_for("a").unwrap() >= Duration::from_millis(350));
    let serving = |members: &Members| members.ring().borrow().member("a").unwrap().state;
    assert_eq!(serving(&members), MemberState::Serving);
    let took = becomes(&members, "a", MemberState::Unreachable).await;
    assert!(took <= 3 * (PERIOD + PATIENCE), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_late_answer_moves_no_ring() {
    let (members, network, ..) = start(&["a"]);
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    let version = members.ring().borrow().version();
    network.kill("a");
    tokio::time::sleep(PERIOD + PATIENCE).await;
    network.revive("a");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(members.ring().borrow().version(), version);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_suspected_is_back_with_its_next_answer() {
    let (members, ..) = start(&["a"]);
    members.suspect("a");
    let took = becomes(&members, "a", MemberState::Serving).await;
    assert!(took <= PERIOD, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_long_dead_is_asked_once_a_second_and_noticed_when_it_is_back() {
    let (members, network, ..) = start(&["a", "b"]);
    network.kill("a");
    becomes(&members, "a", MemberState::Unreachable).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = (network.calls("a"), network.calls("b"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let slow = network.calls("a") - before.0;
    assert!((8..=10).contains(&slow), "{slow}");
    assert!(network.calls("b") - before.1 >= 66);
    network.revive("a");
    let took = becomes(&members, "a", MemberState::Serving).await;
    assert!(took <= SLOW_PERIOD + PERIOD + PATIENCE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn hello_has_been_said_although_one_of_them_is_dead() {
    let (members, network, ..) = start(&["a", "b"]);
    network.kill("a");
    assert!(!members.is_announced());
    assert!(
        members
            .wait_announced(Instant::now() + PATIENCE + PERIOD)
            .await
    );
    assert_eq!(
        members.ring().borrow().member("a").unwrap().state,
        MemberState::Unreachable
    );
}

#[tokio::test(start_paused = true)]
async fn without_discovery_hello_has_not_been_said() {
    let members = Members::new(
        Contact {
            name: "me".to_owned(),
            url: "http://me".to_owned(),
        },
        None,
    );
    assert!(!members.wait_announced(Instant::now() + SLOW_PERIOD).await);
}

#[tokio::test(start_paused = true)]
async fn leaving_is_said_at_once() {
    let (members, network, ..) = start(&["a"]);
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    let calls = network.calls("a");
    members.leave();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(network.calls("a"), calls + 1);
    assert!(network.last.lock().unwrap().as_ref().unwrap().leaving);
}

#[tokio::test(start_paused = true)]
async fn a_ring_is_published_only_when_something_changed() {
    let (members, ..) = start(&["a", "b"]);
    let version = members.ring().borrow().version();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(members.ring().borrow().version(), version);
    members.suspect("a");
    assert_eq!(members.ring().borrow().version(), version + 1);
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_ends_when_told_to() {
    let (_members, _network, task, stop) = start(&["a"]);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_without_answers_trusts_nothing_once_its_lease_has_expired() {
    let (members, network, ..) = start(&["a", "b"]);
    let forgotten = Arc::new(AtomicU32::new(0));
    let count = forgotten.clone();
    members.on_lapse(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert!(!members.holds_lease(Instant::now()), "nobody has answered");
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    assert!(members.holds_lease(Instant::now()));
    assert_eq!(forgotten.swap(0, Ordering::SeqCst), 1);
    network.kill("a");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(members.holds_lease(Instant::now()), "two of three answer");
    network.kill("b");
    let alone = Instant::now();
    while members.holds_lease(Instant::now()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let held = alone.elapsed();
    assert!(
        held + 2 * PERIOD > LEASE && held <= LEASE + Duration::from_millis(10),
        "{held:?}"
    );
    assert_eq!(forgotten.load(Ordering::SeqCst), 0);
    network.revive("a");
    becomes(&members, "a", MemberState::Serving).await;
    assert!(members.holds_lease(Instant::now()));
    assert_eq!(forgotten.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_process_stood_still_holds_no_lease_when_it_goes_on() {
    let (members, ..) = start(&["a"]);
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    assert!(members.holds_lease(Instant::now()));
    let stopped_for = LEASE + Duration::from_millis(1);
    assert!(!members.holds_lease(Instant::now() + stopped_for));
}

#[tokio::test(start_paused = true)]
async fn where_no_process_listens_nobody_has_to_answer() {
    let (members, network, ..) = start(&["a"]);
    network.refuses.lock().unwrap().insert("a".to_owned());
    assert!(members.wait_announced(Instant::now() + PATIENCE).await);
    tokio::time::sleep(2 * LEASE).await;
    assert!(members.holds_lease(Instant::now()));
}
