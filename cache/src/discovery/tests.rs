//! The watch against a scripted API server, on paused time; and the merge rules as a table.

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower_test::mock::{Handle, SendResponse};

use super::follow::{AT_MOST, QUIET, REFUSALS};
use super::*;

type Line = Result<Frame<Bytes>, std::convert::Infallible>;
type Answer = Response<StreamBody<UnboundedReceiver<Line>>>;

/// The API server's side of the conversation.
struct Server {
    handle: Handle<Request<Body>, Answer>,
}

/// One watch that the server holds open; dropping it ends the answer.
struct Feed(UnboundedSender<Line>);

impl Feed {
    fn send(&self, kind: &str, object: &Value) {
        self.raw(&json!({ "type": kind, "object": object }).to_string());
    }

    fn raw(&self, line: &str) {
        let line = Bytes::from(format!("{line}\n"));
        self.0.unbounded_send(Ok(Frame::data(line))).unwrap();
    }
}

fn answer(status: u16, body: Option<&Value>) -> (Answer, Feed) {
    let (sender, receiver) = unbounded();
    let feed = Feed(sender);
    if let Some(body) = body {
        feed.raw(&body.to_string());
    }
    let response = Response::builder().status(status);
    (response.body(StreamBody::new(receiver)).unwrap(), feed)
}

fn refusal(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Refused", "message": "no", "code": code })
}

impl Server {
    async fn asked(&mut self) -> (String, SendResponse<Answer>) {
        let (request, respond) = self.handle.next_request().await.unwrap();
        assert_eq!(request.method(), "GET");
        (request.uri().to_string(), respond)
    }

    async fn list(&mut self, version: u32, items: &[Value]) {
        let (uri, respond) = self.asked().await;
        assert!(!uri.contains("watch="), "{uri}");
        assert!(
            uri.contains("labelSelector=falcon-discovery-id%3Dmain"),
            "{uri}"
        );
        let kind = if uri.contains("endpointslices") {
            ("discovery.k8s.io/v1", "EndpointSliceList")
        } else {
            ("v1", "EndpointsList")
        };
        let list = json!({
            "apiVersion": kind.0, "kind": kind.1,
            "metadata": { "resourceVersion": version.to_string() }, "items": items,
        });
        respond.send_response(answer(200, Some(&list)).0);
    }

    /// Takes a watch that goes on from `version`.
    async fn watch(&mut self, version: u32) -> Feed {
        let (uri, respond) = self.asked().await;
        for part in [
            "watch=true",
            "labelSelector=falcon-discovery-id%3Dmain",
            "timeoutSeconds=25",
            "allowWatchBookmarks=true",
            &format!("resourceVersion={version}"),
        ] {
            assert!(uri.contains(part), "{part} in {uri}");
        }
        let (response, feed) = answer(200, None);
        respond.send_response(response);
        feed
    }

    /// Answers whatever is asked next with `code`; true if it was a watch.
    async fn refuse(&mut self, code: u16) -> bool {
        let (uri, respond) = self.asked().await;
        respond.send_response(answer(code, Some(&refusal(code))).0);
        uri.contains("watch=true")
    }
}

/// The node's side: the sets as they come.
struct Sets(tokio::sync::mpsc::UnboundedReceiver<Vec<DiscoveredNode>>);

impl Sets {
    async fn next(&mut self) -> Vec<DiscoveredNode> {
        timeout(Duration::from_mins(5), self.0.recv())
            .await
            .expect("a set comes")
            .unwrap()
    }

    /// `name=address` of each, with `-` before a node that doesn't serve and `!` before one that terminates.
    async fn line(&mut self) -> String {
        line(&self.next().await)
    }

    /// Nothing comes for as long as a watch may be silent.
    async fn nothing(&mut self) {
        self.nothing_for(Duration::from_secs(20)).await;
    }

    async fn nothing_for(&mut self, time: Duration) {
        let set = timeout(time, self.0.recv()).await;
        assert!(set.is_err(), "{set:?}");
    }
}

fn line(found: &[DiscoveredNode]) -> String {
    let one = |found: &DiscoveredNode| {
        let terminating = if found.terminating { "!" } else { "" };
        let serving = if found.serving { "" } else { "-" };
        let at = found.url.strip_prefix("http://").unwrap();
        format!("{terminating}{serving}{}={at}", found.name)
    };
    found.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn start(api: WatchedApi) -> (Server, Sets) {
    let (service, handle) = tower_test::mock::pair::<Request<Body>, Answer>();
    let client = kube::Client::new(service, "elsewhere");
    let mut stream = watch(client, "apps", "main", api, 8080);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(set) = stream.next().await {
            if sender.send(set).is_err() {
                return;
            }
        }
    });
    (Server { handle }, Sets(receiver))
}

fn endpoint(pod: &str, address: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "name": pod, "uid": format!("uid-{pod}"), "namespace": "apps" },
    })
}

fn state(mut endpoint: Value, serving: bool, terminating: bool) -> Value {
    endpoint["conditions"] =
        json!({ "ready": true, "serving": serving, "terminating": terminating });
    endpoint
}

fn slice(name: &str, version: u32, endpoints: &[Value]) -> Value {
    typed(name, version, "IPv4", endpoints)
}

fn typed(name: &str, version: u32, family: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "namespace": "apps", "uid": format!("uid-{name}"), "resourceVersion": version.to_string() },
        "addressType": family, "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

fn bookmark(version: u32) -> Value {
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "resourceVersion": version.to_string() } })
}

fn a() -> Value {
    endpoint("falcon-0", "10.0.0.1")
}

fn b() -> Value {
    endpoint("falcon-1", "10.0.0.2")
}

fn merged(slices: &[Value]) -> Vec<DiscoveredNode> {
    let slices: Vec<EndpointSlice> = slices
        .iter()
        .map(|slice| serde_json::from_value(slice.clone()).unwrap())
        .collect();
    slices::merge(&slices.iter().collect::<Vec<_>>(), 8080)
}

#[tokio::test(start_paused = true)]
async fn nodes_come_and_go() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    assert_eq!(sets.line().await, "falcon-0=10.0.0.1:8080");
    let feed = server.watch(1).await;
    feed.send("MODIFIED", &slice("s", 2, &[a(), b()]));
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080"
    );
    feed.send("ADDED", &slice("t", 3, &[endpoint("falcon-2", "10.0.0.3")]));
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080 falcon-2=10.0.0.3:8080"
    );
    feed.send("DELETED", &slice("s", 4, &[a(), b()]));
    assert_eq!(sets.line().await, "falcon-2=10.0.0.3:8080");
}

#[tokio::test(start_paused = true)]
async fn the_slices_are_asked_for_in_the_nodes_own_namespace() {
    let (mut server, _sets) = start(WatchedApi::EndpointSlices);
    let (uri, _) = server.asked().await;
    assert!(
        uri.starts_with("/apis/discovery.k8s.io/v1/namespaces/apps/endpointslices?"),
        "{uri}"
    );
    let (mut server, _sets) = start(WatchedApi::Endpoints);
    let (uri, _) = server.asked().await;
    assert!(
        uri.starts_with("/api/v1/namespaces/apps/endpoints?"),
        "{uri}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_before_the_first_list_is_complete() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    let (_, respond) = server.asked().await;
    let page = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "metadata": { "resourceVersion": "1", "continue": "more" }, "items": [slice("s", 1, &[a()])],
    });
    respond.send_response(answer(200, Some(&page)).0);
    sets.nothing().await;
    let (uri, respond) = server.asked().await;
    assert!(uri.contains("continue=more"), "{uri}");
    let page = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "metadata": { "resourceVersion": "1" }, "items": [slice("t", 1, &[b()])],
    });
    respond.send_response(answer(200, Some(&page)).0);
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cache_without_nodes_is_an_empty_set_and_not_silence() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[]).await;
    assert_eq!(sets.next().await, []);
    let feed = server.watch(1).await;
    feed.send("ADDED", &slice("s", 2, &[a()]));
    assert_eq!(sets.line().await, "falcon-0=10.0.0.1:8080");
    // The controller leaves an empty slice behind, and writes its list as null.
    let mut empty = slice("s", 3, &[]);
    empty["endpoints"] = Value::Null;
    feed.send("MODIFIED", &empty);
    assert_eq!(sets.next().await, []);
}

#[tokio::test(start_paused = true)]
async fn too_old_a_version_is_listed_again_and_what_vanished_meanwhile_is_gone() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server
        .list(1, &[slice("s", 1, &[a()]), slice("t", 1, &[b()])])
        .await;
    sets.next().await;
    let feed = server.watch(1).await;
    feed.send("ERROR", &refusal(410));
    server.list(90, &[slice("t", 80, &[b()])]).await;
    assert_eq!(sets.line().await, "falcon-1=10.0.0.2:8080");
    server.watch(90).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_refused_with_410_is_listed_again_too() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    assert!(server.refuse(410).await);
    server.list(9, &[slice("s", 8, &[b()])]).await;
    assert_eq!(sets.line().await, "falcon-1=10.0.0.2:8080");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lost_its_past_is_listed_again() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1000, &[slice("s", 1000, &[a()])]).await;
    sets.next().await;
    for _ in 0..REFUSALS {
        assert!(server.refuse(504).await, "it goes on from where it was");
    }
    // Restored from a backup: the versions are lower than those known.
    server.list(7, &[slice("s", 6, &[b()])]).await;
    assert_eq!(sets.line().await, "falcon-1=10.0.0.2:8080");
    server.watch(7).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_the_last_set_holds_and_then_the_watch_goes_on() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    feed.send("BOOKMARK", &bookmark(5));
    drop(feed);
    let began = Instant::now();
    for _ in 0..3 {
        assert!(server.refuse(500).await);
    }
    sets.nothing().await;
    assert!(began.elapsed() > Duration::from_secs(2), "it backs off");
    let feed = server.watch(5).await;
    feed.send("MODIFIED", &slice("s", 6, &[a(), b()]));
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_halfway_takes_nothing_away() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server
        .list(1, &[slice("s", 1, &[a()]), slice("t", 1, &[b()])])
        .await;
    sets.next().await;
    server.watch(1).await.send("ERROR", &refusal(410));
    let (_, respond) = server.asked().await;
    let page = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "metadata": { "resourceVersion": "9", "continue": "more" }, "items": [slice("t", 8, &[b()])],
    });
    respond.send_response(answer(200, Some(&page)).0);
    assert!(!server.refuse(500).await);
    sets.nothing().await;
    server
        .list(9, &[slice("s", 1, &[a()]), slice("t", 8, &[b()])])
        .await;
    sets.nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_is_refused_is_tried_again() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    for code in [403, 500, 503] {
        assert!(!server.refuse(code).await);
    }
    server.list(1, &[slice("s", 1, &[a()])]).await;
    assert_eq!(sets.line().await, "falcon-0=10.0.0.1:8080");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_made_up_for_by_a_list() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    feed.raw(r#"{"type":"MODIFIED","object":{"metadata":{"name":7}}}"#);
    server.list(3, &[slice("s", 2, &[a(), b()])]).await;
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_cut_in_the_middle_of_an_event_goes_on_before_it() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    let half = Bytes::from_static(br#"{"type":"MODIFIED","object":{"#);
    feed.0.unbounded_send(Ok(Frame::data(half))).unwrap();
    drop(feed);
    let feed = server.watch(1).await;
    feed.send("MODIFIED", &slice("s", 2, &[b()]));
    assert_eq!(sets.line().await, "falcon-1=10.0.0.2:8080");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_in_silence_is_noticed_in_half_a_minute() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    let began = Instant::now();
    let _silent = server.watch(1).await;
    server.watch(1).await;
    assert!(began.elapsed() <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_and_writes_that_change_no_node_are_not_told() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a()])]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    feed.send("BOOKMARK", &bookmark(2));
    feed.send("MODIFIED", &slice("s", 3, &[a()]));
    feed.send("MODIFIED", &slice("s", 3, &[a()]));
    feed.send("BOOKMARK", &bookmark(9));
    sets.nothing().await;
    drop(feed);
    server.watch(9).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_state_that_is_told_again_changes_nothing() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(9, &[slice("s", 9, &[a(), b()])]).await;
    sets.next().await;
    let feed = server.watch(9).await;
    feed.send("MODIFIED", &slice("s", 7, &[a()]));
    sets.nothing().await;
    feed.send("ADDED", &slice("s", 9, &[a(), b()]));
    let mut namesake = slice("s", 8, &[]);
    namesake["metadata"]["uid"] = json!("another");
    feed.send("DELETED", &namesake);
    feed.send("DELETED", &slice("unknown", 8, &[a()]));
    sets.nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_slice_made_anew_under_its_name_counts() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(9, &[slice("s", 9, &[a()])]).await;
    sets.next().await;
    let feed = server.watch(9).await;
    let mut anew = slice("s", 10, &[b()]);
    anew["metadata"]["uid"] = json!("another");
    feed.send("ADDED", &anew);
    assert_eq!(sets.line().await, "falcon-1=10.0.0.2:8080");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_moves_to_another_slice_is_never_missing() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server
        .list(1, &[slice("s", 1, &[a()]), slice("t", 1, &[])])
        .await;
    sets.next().await;
    let feed = server.watch(1).await;
    feed.send("MODIFIED", &slice("s", 2, &[a()]));
    for (kind, at) in [
        ("DELETED", slice("s", 3, &[a()])),
        ("MODIFIED", slice("t", 4, &[a()])),
    ] {
        sets.nothing_for(QUIET * 3 / 4).await;
        feed.send(kind, &at);
    }
    sets.nothing().await;
    feed.send("MODIFIED", &slice("t", 5, &[a(), b()]));
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_in_a_row_are_told_once_and_without_end_all_the_same() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    let pods = |count: u32| -> Vec<Value> {
        (0..count)
            .map(|pod| endpoint(&format!("falcon-{pod}"), &format!("10.0.0.{}", pod + 1)))
            .collect()
    };
    for count in 1..=5 {
        feed.send("MODIFIED", &slice("s", 10 + count, &pods(count)));
    }
    assert_eq!(sets.next().await.len(), 5);
    sets.nothing().await;
    let began = Instant::now();
    let writer = tokio::spawn(async move {
        for count in 6..100 {
            feed.send("MODIFIED", &slice("s", 10 + count, &pods(count)));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        feed
    });
    assert!(sets.next().await.len() < 99);
    assert!(
        began.elapsed() <= AT_MOST + 2 * QUIET,
        "{:?}",
        began.elapsed()
    );
    writer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_serving_or_terminates_is_still_told_of() {
    let (mut server, mut sets) = start(WatchedApi::EndpointSlices);
    server.list(1, &[slice("s", 1, &[a(), b()])]).await;
    sets.next().await;
    let feed = server.watch(1).await;
    let mut version = 1;
    for (serving, terminating, told) in [
        (false, false, "-falcon-1"),
        (true, false, "falcon-1"),
        (true, true, "!falcon-1"),
        (false, true, "!-falcon-1"),
    ] {
        version += 1;
        let now = state(b(), serving, terminating);
        feed.send("MODIFIED", &slice("s", version, &[a(), now]));
        assert_eq!(
            sets.line().await,
            format!("falcon-0=10.0.0.1:8080 {told}=10.0.0.2:8080")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_say_the_same_in_the_old_words() {
    let (mut server, mut sets) = start(WatchedApi::Endpoints);
    let address =
        |pod: &str, ip: &str| json!({ "ip": ip, "targetRef": { "kind": "Pod", "name": pod } });
    let endpoints = |version: u32, ready: &[Value], not_ready: &[Value]| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": "cache", "namespace": "apps", "uid": "u", "resourceVersion": version.to_string() },
            "subsets": [{
                "addresses": ready, "notReadyAddresses": not_ready,
                "ports": [{ "name": "admin", "port": 9095 }, { "name": "http", "port": 80 }],
            }],
        })
    };
    let (first, second) = (
        address("falcon-0", "10.0.0.1"),
        address("falcon-1", "10.0.0.2"),
    );
    server
        .list(
            1,
            &[endpoints(
                1,
                std::slice::from_ref(&first),
                std::slice::from_ref(&second),
            )],
        )
        .await;
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:80 -falcon-1=10.0.0.2:80"
    );
    let feed = server.watch(1).await;
    feed.send("MODIFIED", &endpoints(2, &[first, second], &[]));
    assert_eq!(
        sets.line().await,
        "falcon-0=10.0.0.1:80 falcon-1=10.0.0.2:80"
    );
    let bare = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "cache", "namespace": "apps", "uid": "u", "resourceVersion": "3" },
    });
    feed.send("MODIFIED", &bare);
    assert_eq!(sets.next().await, []);
}

#[test]
fn a_pod_in_two_slices_counts_once_and_the_better_news_holds() {
    let leaving = state(endpoint("falcon-0", "10.0.0.9"), true, true);
    let unready = state(endpoint("falcon-0", "10.0.0.8"), false, false);
    for slices in [
        [
            slice("s", 1, &[a()]),
            slice("t", 2, std::slice::from_ref(&leaving)),
        ],
        [
            slice("s", 1, std::slice::from_ref(&unready)),
            slice("t", 2, &[a()]),
        ],
        [slice("t", 1, &[leaving, unready]), slice("s", 2, &[a()])],
    ] {
        assert_eq!(line(&merged(&slices)), "falcon-0=10.0.0.1:8080");
    }
    // Of equals the one written last.
    let moved = endpoint("falcon-0", "10.0.0.7");
    assert_eq!(
        line(&merged(&[slice("s", 1, &[a()]), slice("t", 2, &[moved])])),
        "falcon-0=10.0.0.7:8080"
    );
}

#[test]
fn one_address_family_is_followed_and_it_is_ipv4_where_nodes_have_it() {
    let six = typed(
        "six",
        1,
        "IPv6",
        &[
            endpoint("falcon-0", "fd00::1"),
            endpoint("falcon-1", "fd00::2"),
        ],
    );
    let four = slice("four", 1, &[a(), b()]);
    let both = "falcon-0=10.0.0.1:8080 falcon-1=10.0.0.2:8080";
    assert_eq!(line(&merged(&[six.clone(), four.clone()])), both);
    assert_eq!(line(&merged(&[four, six.clone()])), both);
    // A slice without nodes says nothing of a family.
    assert_eq!(
        line(&merged(&[slice("four", 1, &[]), six])),
        "falcon-0=[fd00::1]:8080 falcon-1=[fd00::2]:8080"
    );
}

#[test]
fn a_node_is_named_by_its_pod_else_its_host_else_its_address() {
    let named = |target: Value, hostname: Value| {
        let endpoint =
            json!({ "addresses": ["10.0.0.1"], "targetRef": target, "hostname": hostname });
        merged(&[slice("s", 1, &[endpoint])])[0].name.clone()
    };
    let pod = json!({ "kind": "Pod", "name": "pod" });
    assert_eq!(named(pod, json!("host")), "pod");
    assert_eq!(
        named(json!({ "kind": "Node", "name": "node" }), json!("host")),
        "host"
    );
    assert_eq!(
        named(json!({ "kind": "Pod", "name": "" }), Value::Null),
        "10.0.0.1"
    );
    assert_eq!(named(Value::Null, Value::Null), "10.0.0.1");
}

#[test]
fn what_is_not_said_means_serving_and_not_terminating() {
    for conditions in [Value::Null, json!({}), json!({ "ready": false })] {
        let endpoint =
            json!({ "addresses": ["10.0.0.1"], "conditions": conditions, "zone": "eu-1a" });
        let found = &merged(&[slice("s", 1, &[endpoint])])[0];
        assert!(found.serving && !found.terminating);
        assert_eq!(found.zone.as_deref(), Some("eu-1a"));
    }
}

#[test]
fn the_port_is_the_one_named_http_else_the_only_one_else_this_nodes() {
    let port = |ports: Value| {
        let mut slice = slice("s", 1, &[a()]);
        slice["ports"] = ports;
        merged(&[slice])[0].url.clone()
    };
    let (http, other) = (
        json!({ "name": "http", "port": 80 }),
        json!({ "name": "x", "port": 81 }),
    );
    assert_eq!(port(json!([other, http])), "http://10.0.0.1:80");
    assert_eq!(port(json!([other])), "http://10.0.0.1:81");
    assert_eq!(
        port(json!([other, { "name": "y", "port": 82 }])),
        "http://10.0.0.1:8080"
    );
    for none in [
        json!([]),
        Value::Null,
        json!([{ "name": "http" }]),
        json!([{ "name": "http", "port": 0 }]),
        json!([{ "port": 70_000 }]),
    ] {
        assert_eq!(port(none), "http://10.0.0.1:8080");
    }
}

#[test]
fn what_is_no_address_of_a_node_is_left_out() {
    let endpoints: Vec<Value> = [
        "falcon-0.example",
        "",
        "0.0.0.0",
        "224.0.0.1",
        "10.0.0.1/get",
        "10.0.0.1",
    ]
    .iter()
    .enumerate()
    .map(|(at, address)| endpoint(&format!("falcon-{at}"), address))
    .chain([json!({ "addresses": [] }), json!({})])
    .collect();
    assert_eq!(
        line(&merged(&[slice("s", 1, &endpoints)])),
        "falcon-5=10.0.0.1:8080"
    );
    assert_eq!(
        merged(&[typed(
            "s",
            1,
            "FQDN",
            &[endpoint("falcon-0", "falcon.example")]
        )]),
        []
    );
}
