//! The barrier over made-up nodes: who is asked, in how many rounds, and what is reported.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::members::DiscoveredNode;
use crate::peer::{Contact, Heartbeat};

/// A network of the mind: what each node was told, who is deaf, and whom each one names.
#[derive(Default)]
struct Network {
    told: Mutex<HashMap<String, Vec<Scope>>>,
    deaf: Mutex<HashSet<String>>,
    names: Mutex<HashMap<String, Vec<Contact>>>,
    /// Whom each node has been told of as having not answered.
    unanswered: Mutex<HashMap<String, HashSet<String>>>,
}

impl Network {
    fn told(&self, name: &str) -> Vec<Scope> {
        self.told
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    fn is_deaf(&self, name: &str, deaf: bool) {
        let mut all = self.deaf.lock().unwrap();
        if deaf {
            all.insert(name.to_owned());
        } else {
            all.remove(name);
        }
    }
}

impl InvalidateClient for Network {
    fn send<'a>(
        &'a self,
        url: &'a str,
        request: &'a InvalidateRequest,
    ) -> BoxFuture<'a, Result<InvalidateAck, peer::Error>> {
        Box::pin(async move {
            let name = url.trim_start_matches("http://").to_owned();
            sleep(Duration::from_millis(1)).await;
            if self.deaf.lock().unwrap().contains(&name) {
                sleep(Duration::from_mins(1)).await;
            }
            let mut told = self.told.lock().unwrap();
            told.entry(name.clone())
                .or_default()
                .push(request.scope.clone());
            let unanswered = request.unanswered.iter().map(|node| node.name.clone());
            let mut all = self.unanswered.lock().unwrap();
            all.entry(name.clone()).or_default().extend(unanswered);
            let members = self.names.lock().unwrap().get(&name).cloned();
            Ok(InvalidateAck {
                name,
                dropped_heads: 1,
                dropped_blocks: 2,
                members: members.unwrap_or_default(),
            })
        })
    }
}

struct Cache {
    members: Arc<Members>,
    network: Arc<Network>,
    applied: Arc<AtomicU64>,
    invalidator: Invalidator,
    stop: CancellationToken,
}

fn contact(name: &str) -> Contact {
    Contact {
        name: name.to_owned(),
        url: format!("http://{name}"),
    }
}

fn found(names: &[&str]) -> Vec<DiscoveredNode> {
    let found = |name: &&str| DiscoveredNode {
        name: (*name).to_owned(),
        url: format!("http://{name}"),
        zone: None,
        serving: true,
        terminating: false,
    };
    names.iter().map(found).collect()
}

fn cache(names: &[&str]) -> Cache {
    let cache = cache_of(Members::new(contact("me"), None));
    cache.members.apply_discovery(found(names));
    cache
}

fn cache_of(members: Arc<Members>) -> Cache {
    let (network, applied) = (Arc::new(Network::default()), Arc::new(AtomicU64::new(0)));
    let stop = CancellationToken::new();
    let counter = Arc::clone(&applied);
    let invalidator = Invalidator::new(
        Arc::clone(&members),
        Arc::clone(&network) as Arc<dyn InvalidateClient>,
        Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Dropped {
                heads: 1,
                blocks: 2,
            }
        }),
        Arc::default(),
        stop.clone(),
    );
    Cache {
        members,
        network,
        applied,
        invalidator,
        stop,
    }
}

fn key(key: &str) -> Scope {
    Scope::Key {
        bucket: "b".to_owned(),
        key: key.to_owned(),
    }
}

async fn nothing_pends(invalidator: &Invalidator) {
    let done = async {
        while invalidator.pending() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(2), done)
        .await
        .expect("it comes to an end");
}

#[tokio::test(start_paused = true)]
async fn every_node_is_told_twice_this_one_included() {
    let cache = cache(&["a", "b"]);
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(report.complete);
    let nodes: Vec<_> = report
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.answered, node.dropped_heads))
        .collect();
    assert_eq!(nodes, [("a", true, 2), ("b", true, 2), ("me", true, 2)]);
    assert_eq!(cache.network.told("a"), [key("k"), key("k")]);
    assert_eq!(cache.applied.load(Ordering::SeqCst), 2);
    assert_eq!(cache.invalidator.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_is_complete() {
    let cache = cache(&[]);
    assert!(cache.invalidator.invalidate(Scope::All).await.complete);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_complete_before_discovery_has_spoken() {
    let cache = cache_of(Members::new(contact("me"), None));
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(!report.complete);
    let missing: Vec<_> = report.nodes.iter().filter(|node| !node.answered).collect();
    assert_eq!(missing[0].name, "the ring (not known yet)");
    cache.members.apply_discovery(found(&["a"]));
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_tells_the_ring_and_itself_and_a_ring_of_nobody_is_told_later() {
    let cache = cache_of(Members::beside(contact("sidecar@web")));
    cache.members.apply_discovery(found(&["a", "b"]));
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(report.complete);
    let names: Vec<_> = report.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "sidecar@web"]);
    assert_eq!(cache.network.told("a").len(), 2);

    let cache = cache_of(Members::beside(contact("sidecar@web")));
    cache.members.apply_discovery(vec![]);
    assert!(!cache.invalidator.invalidate(key("k")).await.complete);
    cache.members.apply_discovery(found(&["a"]));
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_another_names_is_told_twice_and_everybody_with_it() {
    let cache = cache(&["a"]);
    let names = HashMap::from([("a".to_owned(), vec![contact("new"), contact("me")])]);
    *cache.network.names.lock().unwrap() = names;
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(report.complete);
    assert_eq!(cache.network.told("new").len(), 2);
    assert_eq!(cache.network.told("a").len(), 3);
    assert!(cache.members.contacts().contains(&contact("new")));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_hello_in_the_middle_is_told_twice() {
    let cache = cache(&["a"]);
    let invalidator = cache.invalidator.clone();
    let task = tokio::spawn(async move { invalidator.invalidate(key("k")).await });
    while cache.network.told("a").is_empty() {
        sleep(Duration::from_micros(100)).await;
    }
    cache.members.record_heartbeat(&Heartbeat {
        name: "new".to_owned(),
        url: "http://new".to_owned(),
        incarnation: 7,
        leaving: false,
        sidecar: false,
        joining: false,
        members: vec![],
    });
    assert!(task.await.unwrap().complete);
    assert_eq!(cache.network.told("new").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deaf_node_makes_it_incomplete_and_is_told_when_it_hears_again() {
    let cache = cache(&["a", "b"]);
    cache.network.is_deaf("b", true);
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(!report.complete);
    let deaf = &report.nodes[1];
    assert_eq!((deaf.name.as_str(), deaf.answered), ("b", false));
    assert!(deaf.error.is_some());
    assert_eq!(
        cache.network.told("a").len(),
        2,
        "the others are told all the same"
    );
    sleep(Duration::from_secs(30)).await;
    assert_eq!(cache.invalidator.pending(), 1);
    assert_eq!(
        cache.network.told("a").len(),
        2,
        "they are not made to forget over and over"
    );
    cache.network.is_deaf("b", false);
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("b").len(), 1);
    assert_eq!(
        cache.network.told("a").len(),
        2,
        "nothing that the deaf one knew was copied"
    );
}

#[tokio::test(start_paused = true)]
async fn one_lost_answer_costs_a_round_and_not_the_promise() {
    let cache = cache(&["a"]);
    cache.network.is_deaf("a", true);
    let invalidator = cache.invalidator.clone();
    let task = tokio::spawn(async move { invalidator.invalidate(key("k")).await });
    sleep(Duration::from_millis(500)).await;
    cache.network.is_deaf("a", false);
    assert!(task.await.unwrap().complete);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_waited_for_no_longer() {
    let cache = cache(&["a", "b"]);
    cache.network.is_deaf("b", true);
    assert!(!cache.invalidator.invalidate(key("k")).await.complete);
    cache.members.record_missed("b", false);
    cache.members.apply_discovery(vec![]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cache.invalidator.pending(), 1, "it may still be alive");
    nothing_pends(&cache.invalidator).await;
    assert!(cache.network.told("b").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_another_name_does_not_count() {
    let cache = cache(&[]);
    cache.members.apply_discovery(vec![DiscoveredNode {
        name: "a".to_owned(),
        url: "http://somebody".to_owned(),
        zone: None,
        serving: true,
        terminating: false,
    }]);
    assert!(!cache.invalidator.invalidate(key("k")).await.complete);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_stop_it() {
    let cache = cache(&["a"]);
    let call = cache.invalidator.invalidate(key("k"));
    assert!(timeout(Duration::from_micros(1), call).await.is_err());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cache.network.told("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_invalidations_of_one_key_are_never_made_one() {
    let cache = cache(&["a"]);
    let (first, second) = tokio::join!(
        cache.invalidator.invalidate(key("k")),
        cache.invalidator.invalidate(key("k"))
    );
    assert!(first.complete && second.complete);
    assert_eq!(cache.network.told("a").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_node_deaf_for_long_gets_what_it_owes_and_the_others_nothing_more() {
    let cache = cache(&["a", "b"]);
    cache.network.is_deaf("a", true);
    let calls = (0..400).map(|i| {
        let invalidator = cache.invalidator.clone();
        async move { invalidator.invalidate(key(&i.to_string())).await }
    });
    let reports = futures::future::join_all(calls).await;
    assert!(reports.iter().all(|report| !report.complete));
    assert_eq!(cache.invalidator.pending(), 1);
    assert!(cache.members.owes("a") && !cache.members.owes("b"));
    cache.network.is_deaf("a", false);
    let back = Instant::now();
    nothing_pends(&cache.invalidator).await;
    assert!(back.elapsed() <= Duration::from_secs(3));
    let told = cache.network.told("a");
    assert_eq!(told.len(), 400);
    assert_eq!(told.into_iter().collect::<HashSet<_>>().len(), 400);
    assert_eq!(cache.network.told("b").len(), 800, "two rounds each");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_owes_more_than_is_remembered_alone_forgets_everything() {
    let cache = cache(&["a", "b"]);
    cache.network.is_deaf("a", true);
    for i in 0..300 {
        let long = key(&format!("{i}{}", "x".repeat(1_000)));
        cache.members.owe(&[contact("a")], &long);
    }
    let report = cache.invalidator.invalidate(key("k")).await;
    assert!(!report.complete);
    cache.network.is_deaf("a", false);
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("a"), [Scope::All]);
    assert_eq!(cache.network.told("b"), [key("k"), key("k")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_is_asked_for_until_the_process_ends() {
    let cache = cache(&["a"]);
    cache.network.is_deaf("a", true);
    assert!(!cache.invalidator.invalidate(key("k")).await.complete);
    cache.stop.cancel();
    sleep(Duration::from_millis(10)).await;
    cache.network.is_deaf("a", false);
    sleep(Duration::from_secs(30)).await;
    assert!(cache.network.told("a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_participant_reaches_nodes_that_its_coordinator_could_not() {
    let cache = cache(&["a", "b", "c"]);
    let request = |unanswered: &[&str]| InvalidateRequest {
        scope: key("k"),
        from: "c".to_owned(),
        unanswered: unanswered.iter().map(|name| contact(name)).collect(),
    };
    cache
        .invalidator
        .apply_request(&request(&["me", "a", "stranger"]));
    assert!(cache.members.owes("a") && cache.members.owes("stranger"));
    assert!(!cache.members.owes("me"));
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("a"), [key("k")]);
    assert_eq!(cache.network.told("stranger"), [key("k")]);
    assert!(cache.network.told("b").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_known_only_to_the_one_that_owes_is_reached_too() {
    let cache = cache(&["a"]);
    let names = HashMap::from([("a".to_owned(), vec![contact("new"), contact("me")])]);
    *cache.network.names.lock().unwrap() = names;
    cache.members.owe(&[contact("a")], &key("k"));
    nothing_pends(&cache.invalidator).await;
    assert_eq!(cache.network.told("new"), [key("k")]);
    assert_eq!(cache.network.told("a").len(), 2, "it hears who else owes");
    let unanswered = cache.network.unanswered.lock().unwrap()["a"].clone();
    assert!(unanswered.contains("new"));
    cache.members.learn(&[contact("later")]);
    sleep(Duration::from_secs(1)).await;
    assert!(cache.network.told("later").is_empty(), "nothing is owed");
}

#[tokio::test(start_paused = true)]
async fn the_others_are_told_who_owes_before_the_caller_hears_of_it() {
    for flaky in [false, true] {
        let cache = cache(&["a", "b"]);
        cache.network.is_deaf("b", true);
        let invalidator = cache.invalidator.clone();
        let call = tokio::spawn(async move { invalidator.invalidate(key("k")).await });
        if flaky {
            // In the second round it is another one that does not answer.
            sleep(Duration::from_millis(999)).await;
            cache.network.is_deaf("b", false);
            cache.network.is_deaf("a", true);
            sleep(Duration::from_millis(999)).await;
            cache.network.is_deaf("a", false);
            cache.network.is_deaf("b", true);
        }
        let report = call.await.unwrap();
        assert!(!report.complete);
        let unanswered = cache.network.unanswered.lock().unwrap();
        let told = |name: &str| unanswered.get(name).cloned().unwrap_or_default();
        for node in &report.nodes {
            let by = if node.name == "a" { "b" } else { "a" };
            let known = node.answered || node.name == "me" || told(by).contains(&node.name);
            assert!(known, "{by} knows of no debt of {}", node.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_hears_who_owes_what() {
    let (old, new) = (cache(&["a"]), cache(&["old", "a"]));
    old.network.is_deaf("a", true);
    old.members.owe(&[contact("a")], &key("k"));
    let heartbeat = |joining| Heartbeat {
        name: "new".to_owned(),
        url: "http://new".to_owned(),
        incarnation: 7,
        leaving: false,
        sidecar: false,
        joining,
        members: vec![],
    };
    assert!(
        old.members
            .record_heartbeat(&heartbeat(false))
            .owing
            .is_empty()
    );
    let mut ack = old.members.record_heartbeat(&heartbeat(true));
    ack.name = "old".to_owned();
    new.members.record_ack("old", &ack, Instant::now());
    assert!(new.members.owes("a"));
    nothing_pends(&new.invalidator).await;
    assert_eq!(new.network.told("a"), [key("k")]);
}

#[tokio::test]
async fn an_order_is_carried_out_and_answered_with_those_who_are_known() {
    let cache = cache(&["a"]);
    let ack = cache.invalidator.apply_request(&InvalidateRequest {
        scope: key("k"),
        from: "a".to_owned(),
        unanswered: vec![],
    });
    assert_eq!(cache.applied.load(Ordering::SeqCst), 1);
    assert_eq!((ack.name.as_str(), ack.dropped_blocks), ("me", 2));
    assert_eq!(ack.members, [contact("me"), contact("a")]);
}
