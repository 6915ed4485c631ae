//! The reconcile pipeline against a small model of the API server: what is written, when, and what is not.

mod model;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::apply::Fence;
use crate::controller::tests::model::{Model, Request};
use crate::metrics::Metrics;
use crate::plan::Defaults;
use crate::resources::{CacheRole, CacheRoleKind};

const SET: &str = "statefulsets/media";
const CACHE: &str = "falconcaches/media";

struct World {
    model: Model,
    context: Arc<Context>,
    fence: watch::Sender<Option<Instant>>,
}

fn world() -> World {
    let (client, model) = Model::start();
    let (fence, until) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
    let settings = Settings {
        namespaces: Vec::new(),
        defaults: Defaults {
            image: "r/falcon-cache:0.1.0".to_owned(),
        },
        role: CacheRole {
            kind: CacheRoleKind::ClusterRole,
            name: "falcon-cache".to_owned(),
        },
        concurrency: 4,
        resync: Duration::from_mins(1),
        process: "test".to_owned(),
        operator: "ops/falcon-operator".to_owned(),
    };
    let context = Arc::new(Context::new(
        client,
        settings,
        Fence::new(until),
        Arc::new(Metrics::default()),
    ));
    World {
        model,
        context,
        fence,
    }
}

impl World {
    fn cache(&self, spec: &Value) {
        let mut whole = json!({"origin": {"buckets": ["media"]}});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let generation = self.model.get(CACHE).map_or(1, |cache| {
            cache["metadata"]["generation"].as_i64().unwrap() + 1
        });
        let status = self
            .model
            .get(CACHE)
            .map(|cache| cache["status"].clone())
            .filter(|status| !status.is_null());
        let mut object = json!({
            "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
            "metadata": {"name": "media", "namespace": "prod", "uid": "u1", "generation": generation}, "spec": whole
        });
        if let Some(status) = status {
            object["status"] = status;
        }
        self.model.put(CACHE, object);
    }

    async fn reconcile(&self) -> Result<Action, Error> {
        let seen: Watched = serde_json::from_value(self.model.get(CACHE).unwrap_or_else(|| {
            json!({"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
                   "metadata": {"name": "media", "namespace": "prod", "uid": "u1"}, "spec": {"origin": {"buckets": ["media"]}}})
        }))
        .unwrap();
        // A request that is never answered must not hang the test.
        timeout(
            Duration::from_secs(20),
            reconcile(Arc::new(seen), Arc::clone(&self.context)),
        )
        .await
        .unwrap()
    }

    /// The writes since the last call.
    fn writes(&self) -> Vec<String> {
        self.model
            .drain()
            .into_iter()
            .filter(|request| request.method != "GET")
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// As the controllers of Kubernetes would leave it.
    fn settle(&self, pods: i64) {
        self.model.change(SET, |set| {
            let generation = set["metadata"]["generation"].clone();
            set["status"] = json!({"observedGeneration": generation, "replicas": pods, "readyReplicas": pods, "updatedReplicas": pods, "updateRevision": "new"});
        });
        for number in 0..pods {
            let name = format!("media-{number}");
            let labels = json!({"controller-revision-hash": "new", "app.kubernetes.io/instance": "media", "app.kubernetes.io/name": "falcon-cache"});
            self.model.put(&format!("pods/{name}"), json!({
                "metadata": {"name": name, "namespace": "prod", "uid": name, "labels": labels}, "spec": {"containers": []},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}
            }));
        }
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let cache = self.model.get(CACHE).unwrap();
        let all = cache["status"]["conditions"].as_array().unwrap();
        let found = all
            .iter()
            .find(|condition| condition["type"] == kind)
            .unwrap();
        (
            found["status"].as_str().unwrap().to_owned(),
            found["reason"].as_str().unwrap().to_owned(),
        )
    }
}

#[tokio::test]
async fn everything_is_made_in_order_with_the_pods_last() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    let writes = world.writes();
    let order: Vec<&str> = writes
        .iter()
        .map(String::as_str)
        .filter(|write| !write.contains("events"))
        .collect();
    assert_eq!(
        order,
        [
            "PATCH serviceaccounts/media",
            "PATCH rolebindings/media",
            "PATCH services/media-peers",
            "PATCH services/media",
            "PATCH networkpolicies/media",
            "PATCH poddisruptionbudgets/media",
            "POST secrets/media-peer-token",
            "PATCH statefulsets/media",
            "PATCH falconcaches/media/status",
        ]
    );
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "Creating".to_owned())
    );
    assert_eq!(
        world.model.get("secrets/media-peer-token").unwrap()["stringData"]["token"]
            .as_str()
            .unwrap()
            .len(),
        64
    );
}

#[tokio::test]
async fn every_write_is_an_apply_of_our_own_fields() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    let patches: Vec<Request> = world
        .model
        .drain()
        .into_iter()
        .filter(|request| request.method == "PATCH" && !request.path.starts_with("events"))
        .collect();
    assert!(!patches.is_empty());
    for patch in patches {
        assert_eq!(
            patch.content_type, "application/apply-patch+yaml",
            "{}",
            patch.path
        );
        assert!(
            patch.query.contains("fieldManager=falcon-operator")
                && patch.query.contains("force=true"),
            "{}",
            patch.query
        );
    }
}

#[tokio::test]
async fn a_second_reconcile_with_nothing_changed_writes_nothing() {
    let world = world();
    world.cache(&json!({"cache": {"memory": "2Gi"}, "pod": {"resources": {"cpuRequest": "0.5"}}}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    assert_eq!(
        world.condition("Ready"),
        ("True".to_owned(), "Ready".to_owned())
    );
    world.writes();
    for _ in 0..5 {
        world.reconcile().await.unwrap();
    }
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_process_writes_nothing_either() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    world.writes();
    let settings = world.context.settings.clone();
    let fresh = Context::new(
        world.context.client.clone(),
        settings,
        Fence::new(world.fence.subscribe()),
        Arc::default(),
    );
    let world = World {
        context: Arc::new(fresh),
        ..world
    };
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_api_server_normalises_is_written_once() {
    let world = world();
    world.cache(&json!({"pod": {"overrides": {"spec": {"containers": [{"name": "cache", "resources": {"limits": {"cpu": "0.5"}}}]}}}}));
    world.model.reword("\"0.5\"", "\"500m\"");
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    world.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), Vec::<String>::new());
    // And a real change of such an object is still seen.
    world.model.change(SET, |set| {
        set["spec"]["template"]["spec"]["enableServiceLinks"] = json!(true);
    });
    world.reconcile().await.unwrap();
    assert_eq!(world.writes()[0], "PATCH statefulsets/media");
}

#[tokio::test]
async fn a_manual_change_is_reverted_and_nothing_else() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    world.writes();
    world.model.change("services/media", |service| {
        service["spec"]["ports"][0]["port"] = json!(81);
    });
    world.model.change(SET, |set| {
        set["metadata"]["annotations"] = json!({"somebody": "else"});
    });
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), ["PATCH services/media"]);
    assert_eq!(
        world.model.get("services/media").unwrap()["spec"]["ports"][0]["port"],
        8080
    );
}

#[tokio::test]
async fn replicas_follow_the_cache_but_never_fight_an_autoscaler() {
    let world = world();
    world.cache(&json!({"replicas": 3}));
    world.reconcile().await.unwrap();
    world.cache(&json!({"replicas": 5}));
    world.reconcile().await.unwrap();
    assert_eq!(world.model.get(SET).unwrap()["spec"]["replicas"], 5);
    // By hand: reverted.
    world
        .model
        .change(SET, |set| set["spec"]["replicas"] = json!(1));
    world.reconcile().await.unwrap();
    assert_eq!(world.model.get(SET).unwrap()["spec"]["replicas"], 5);
    // By an autoscaler that targets the StatefulSet: respected, and reported.
    world.model.change(SET, |set| {
        set["spec"]["replicas"] = json!(8);
        set["metadata"]["managedFields"].as_array_mut().unwrap().push(json!({
            "manager": "kube-controller-manager", "operation": "Update", "subresource": "scale", "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}
        }));
    });
    for _ in 0..3 {
        world.reconcile().await.unwrap();
    }
    assert_eq!(world.model.get(SET).unwrap()["spec"]["replicas"], 8);
    assert_eq!(world.condition("ConfigurationWarning").0, "True");
    world.settle(8);
    world.reconcile().await.unwrap();
    world.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_set_with_an_immutable_field_that_differs_is_orphaned_and_recreated() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world
        .model
        .change(SET, |set| set["spec"]["serviceName"] = json!("older"));
    world.model.drain();
    assert_eq!(
        world.reconcile().await.unwrap(),
        Action::requeue(WAITING_PAUSE)
    );
    let deleted = world
        .model
        .drain()
        .into_iter()
        .find(|request| request.method == "DELETE")
        .unwrap();
    assert_eq!(
        (deleted.path.as_str(), &deleted.body["propagationPolicy"]),
        (SET, &json!("Orphan"))
    );
    assert!(deleted.body["preconditions"]["uid"].is_string());
    assert_eq!(world.condition("Ready").1, "Replacing");
    world.reconcile().await.unwrap();
    assert_eq!(
        world.model.get(SET).unwrap()["spec"]["serviceName"],
        "media-peers"
    );
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_touched() {
    let world = world();
    world.cache(&json!({"networkPolicy": {"enabled": false}}));
    world.model.put("networkpolicies/media", json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "media", "namespace": "prod", "uid": "x"}}));
    world.model.put("services/media", json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "media", "namespace": "prod", "uid": "y"}, "spec": {"type": "ExternalName"}}));
    world.reconcile().await.unwrap_err();
    assert!(world.model.get("networkpolicies/media").is_some());
    assert_eq!(
        world.model.get("services/media").unwrap()["spec"]["type"],
        "ExternalName"
    );
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "NameTaken".to_owned())
    );
}

#[tokio::test]
async fn what_is_switched_off_goes_away() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.cache(&json!({"disruption": {"enabled": false}, "networkPolicy": {"enabled": false}}));
    world.reconcile().await.unwrap();
    assert!(
        world.model.get("poddisruptionbudgets/media").is_none()
            && world.model.get("networkpolicies/media").is_none()
    );
}

#[tokio::test]
async fn a_field_that_is_no_longer_wanted_is_removed() {
    let world = world();
    world.cache(&json!({"pod": {"nodeSelector": {"disk": "fast"}}}));
    world.reconcile().await.unwrap();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    assert!(
        world.model.get(SET).unwrap()["spec"]["template"]["spec"]
            .get("nodeSelector")
            .is_none()
    );
}

#[tokio::test]
async fn a_mistake_is_reported_and_what_is_running_is_not_touched() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    world.writes();
    world.cache(&json!({"cache": {"memory": "none"}}));
    world.reconcile().await.unwrap();
    let writes = world.writes();
    assert!(
        writes
            .iter()
            .all(|write| write.contains("falconcaches") || write.contains("events")),
        "{writes:?}"
    );
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "InvalidSpec".to_owned())
    );
    assert_eq!(world.condition("Available").0, "True");
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("Ready").0, "True");
}

#[tokio::test]
async fn an_object_that_can_t_be_parsed_is_reported() {
    let world = world();
    world.model.put(
        CACHE,
        json!({"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache", "metadata": {"name": "media", "namespace": "prod", "uid": "u1", "generation": 1}, "spec": {"replicas": "three"}}),
    );
    world.reconcile().await.unwrap();
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "InvalidSpec".to_owned())
    );
    world.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_paused_cache_is_only_observed() {
    let world = world();
    world.cache(&json!({"paused": true}));
    world.reconcile().await.unwrap();
    let writes = world.writes();
    assert!(
        writes
            .iter()
            .all(|write| write.contains("falconcaches") || write.contains("events")),
        "{writes:?}"
    );
    assert_eq!(world.condition("Paused").0, "True");
}

#[tokio::test]
async fn a_pod_stuck_on_an_older_template_is_deleted_once() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.model.put(
        "pods/media-2",
        json!({
            "metadata": {"name": "media-2", "namespace": "prod", "uid": "p2", "labels": {
                "controller-revision-hash": "old", "app.kubernetes.io/instance": "media", "app.kubernetes.io/name": "falcon-cache"}},
            "spec": {"containers": []},
            "status": {"containerStatuses": [{"name": "cache", "image": "bad", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
        }),
    );
    world.model.drain();
    world.reconcile().await.unwrap();
    let deleted: Vec<Request> = world
        .model
        .drain()
        .into_iter()
        .filter(|request| request.method == "DELETE")
        .collect();
    assert_eq!(deleted.len(), 1);
    assert_eq!(
        (
            deleted[0].path.as_str(),
            &deleted[0].body["preconditions"]["uid"]
        ),
        ("pods/media-2", &json!("p2"))
    );
}

#[tokio::test]
async fn a_failing_write_backs_off_and_is_reported_when_it_lasts() {
    let world = world();
    world.cache(&json!({}));
    world.model.fail("PATCH statefulsets/media", 503);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let error = world.reconcile().await.unwrap_err();
        let seen: Watched = serde_json::from_value(world.model.get(CACHE).unwrap()).unwrap();
        error_policy(&seen, &error, &world.context);
        pauses.push(
            world
                .context
                .backoff
                .failures(&Identity::from_object(&seen)),
        );
    }
    assert_eq!(pauses, [1, 2, 3, 4]);
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "ApplyFailed".to_owned())
    );
    world.model.heal();
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("Degraded").0, "False");
    assert_eq!(world.context.backoff.len(), 0);
}

#[tokio::test]
async fn a_rejected_object_is_reported_at_once_with_the_api_servers_message() {
    let world = world();
    world.cache(&json!({}));
    world.model.fail("PATCH statefulsets/media", 422);
    world.reconcile().await.unwrap_err();
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "ApplyRejected".to_owned())
    );
}

#[tokio::test]
async fn every_write_may_be_the_last_one_of_a_process() {
    let reference = world();
    reference.cache(&json!({}));
    reference.reconcile().await.unwrap();
    let writes = reference.writes();
    for broken in writes.iter().filter(|write| !write.contains("events")) {
        for committed in [false, true] {
            let world = world();
            world.cache(&json!({}));
            world.model.crash_at(broken, committed);
            world.reconcile().await.unwrap_err();
            world.model.heal();
            world.reconcile().await.unwrap();
            assert_eq!(
                world.model.contents(),
                reference.model.contents(),
                "{broken}, committed: {committed}"
            );
        }
    }
}

#[tokio::test]
async fn an_operator_that_lost_the_lease_writes_nothing() {
    let world = world();
    world.cache(&json!({}));
    world.fence.send_replace(Some(Instant::now()));
    world.reconcile().await.unwrap_err();
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cache_that_is_gone_is_forgotten() {
    let world = world();
    assert_eq!(world.reconcile().await.unwrap(), Action::await_change());
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn monitors_are_created_only_where_their_api_is_available() {
    let world = world();
    world.cache(&json!({}));
    world.model.serve_monitors();
    world.reconcile().await.unwrap();
    assert!(
        world
            .writes()
            .contains(&"PATCH podmonitors/media".to_owned())
    );
    world.cache(&json!({"monitoring": {"kind": "ServiceMonitor"}}));
    world.reconcile().await.unwrap();
    assert!(
        world.model.get("podmonitors/media").is_none()
            && world.model.get("servicemonitors/media").is_some()
    );
}

/// Every object of the cache as `kubectl delete --cascade=orphan` leaves it: without an owner.
fn orphan(world: &World) -> Vec<String> {
    let mut orphans = Vec::new();
    for path in world.model.contents().into_keys() {
        if path != CACHE {
            world.model.change(&path, |object| {
                let meta = object["metadata"].as_object_mut().unwrap();
                meta.remove("ownerReferences");
            });
            orphans.push(path);
        }
    }
    orphans
}

#[tokio::test]
async fn a_new_cache_adopts_objects_of_its_name_that_lost_their_owner() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    let orphans = orphan(&world);
    world
        .model
        .change(CACHE, |cache| cache["metadata"]["uid"] = json!("u2"));
    world.reconcile().await.unwrap();
    assert_eq!(
        world.condition("Degraded"),
        ("False".to_owned(), "AsExpected".to_owned())
    );
    for path in orphans {
        // The operator has no right to read or change Secrets: the token is used as it is.
        if !path.starts_with("secrets/") {
            let object = world.model.get(&path).unwrap();
            let owners = &object["metadata"]["ownerReferences"];
            assert_eq!(owners[0]["uid"], "u2", "{path}: {owners}");
        }
    }
    world.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_orphan_that_is_not_wanted_is_removed() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    orphan(&world);
    world.cache(&json!({"networkPolicy": {"enabled": false}}));
    world.reconcile().await.unwrap();
    assert!(world.model.get("networkpolicies/media").is_none());
}

#[tokio::test]
async fn what_still_belongs_to_a_deleted_cache_of_the_same_name_is_waited_for() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world
        .model
        .change(CACHE, |cache| cache["metadata"]["uid"] = json!("u2"));
    assert_eq!(
        world.reconcile().await.unwrap(),
        Action::requeue(WAITING_PAUSE)
    );
    assert_eq!(world.condition("Ready").1, "Replacing");
    // Kubernetes collects it.
    for path in world.model.contents().into_keys() {
        if path != CACHE {
            world.model.remove(&path);
        }
    }
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("Ready").1, "Creating");
}

#[tokio::test]
async fn a_name_that_is_taken_is_reported_with_whose_it_is_and_what_to_do() {
    let world = world();
    let labels = json!(crate::resources::meta::labels(&Identity {
        name: "media".to_owned(),
        ..Identity::default()
    }));
    let other = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "d", "controller": true}]);
    for (labels, owners, whose) in [
        (json!({}), json!([]), "no controller"),
        (
            json!({"app.kubernetes.io/managed-by": "Helm"}),
            json!([]),
            "no controller",
        ),
        (labels, other, "Deployment shop"),
    ] {
        world.cache(&json!({}));
        world.model.put("services/media", json!({"apiVersion": "v1", "kind": "Service", "metadata": {
            "name": "media", "namespace": "prod", "uid": "y", "labels": labels, "ownerReferences": owners}, "spec": {"type": "ExternalName"}}));
        world.reconcile().await.unwrap_err();
        assert_eq!(world.condition("Ready").1, "NameTaken");
        let cache = world.model.get(CACHE).unwrap();
        let message = cache["status"]["conditions"][0]["message"]
            .as_str()
            .unwrap();
        assert!(
            message.contains(whose) && message.contains("kubectl delete service media"),
            "{message}"
        );
    }
}

/// Another cache of the namespace, with this discovery id.
fn other_cache(name: &str, created: &str, id: &str) -> Value {
    json!({
        "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}"), "generation": 1, "creationTimestamp": created},
        "spec": {"origin": {"buckets": ["media"]}, "discovery": {"id": id}}
    })
}

#[tokio::test(start_paused = true)]
async fn of_two_caches_with_one_discovery_id_the_younger_waits_for_the_older() {
    let world = world();
    world.cache(&json!({"discovery": {"id": "ring"}}));
    world.model.change(CACHE, |cache| {
        cache["metadata"]["creationTimestamp"] = json!("2026-11-27T10:00:00Z");
    });
    let elder = other_cache("elder", "2026-11-27T09:00:00Z", "ring");
    world.model.put("falconcaches/elder", elder);
    world.reconcile().await.unwrap_err();
    assert_eq!(
        world.condition("Degraded"),
        ("True".to_owned(), "DiscoveryIdTaken".to_owned())
    );
    let made = |world: &World| {
        world
            .writes()
            .iter()
            .any(|write| write.contains("services/"))
    };
    assert!(!made(&world), "nothing of the younger is made");
    // One that is younger still is no hindrance, and one of another id neither.
    world.model.remove("falconcaches/elder");
    for (name, id) in [("younger", "ring"), ("else", "another")] {
        let cache = other_cache(name, "2026-11-27T11:00:00Z", id);
        world.model.put(&format!("falconcaches/{name}"), cache);
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    world.reconcile().await.unwrap();
    assert!(made(&world));
    assert_eq!(world.condition("Degraded").0, "False");
    let status = world.model.get(CACHE).unwrap()["status"].take();
    assert_eq!(status["discoveryId"], "ring");
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/other/leases/falcon-operator";

fn lease(version: u32) -> Value {
    json!({"metadata": {"name": "falcon-operator", "namespace": "other", "resourceVersion": version.to_string()},
           "spec": {"holderIdentity": "other-0"}})
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_another_live_operator_is_not_touched_until_that_one_is_gone() {
    let world = world();
    world.cache(&json!({}));
    world.model.change(CACHE, |cache| {
        cache["status"] = json!({"operator": "other/falcon-operator", "conditions": []});
    });
    for renewal in 0..30 {
        world.model.put(LEASE, lease(renewal));
        world.reconcile().await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let writes = world.writes();
    assert!(
        writes.len() == 1 && writes[0].contains("events"),
        "it is reported once, and nothing else is written: {writes:?}"
    );
    // Nobody renews the Lease any more.
    for _ in 0..8 {
        world.reconcile().await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert!(world.model.get(SET).is_some());
    let status = world.model.get(CACHE).unwrap()["status"].take();
    assert_eq!(status["operator"], "ops/falcon-operator");
}

#[tokio::test(start_paused = true)]
async fn two_operators_without_a_lease_do_not_take_turns_with_a_cache() {
    let world = world();
    world.cache(&json!({}));
    world.reconcile().await.unwrap();
    world.settle(3);
    world.reconcile().await.unwrap();
    world.writes();
    world.model.change(CACHE, |cache| {
        cache["status"]["operator"] = json!("other/falcon-operator");
    });
    for _ in 0..60 {
        world.reconcile().await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let writes = world.writes();
    assert!(
        writes.iter().all(|write| write.contains("events")),
        "{writes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_with_rejected_pods_retries_and_reports_the_cause() {
    let world = world();
    world.cache(&json!({"replicas": 2}));
    world.reconcile().await.unwrap();
    world.settle(1);
    world.model.change(SET, |set| {
        set["metadata"]["uid"] = json!("set");
        set["status"]["replicas"] = json!(1);
    });
    let refusal = json!({
        "metadata": {"name": "media.1", "namespace": "prod"}, "reason": "FailedCreate", "eventTime": null, "type": "Warning",
        "regarding": {"kind": "StatefulSet", "name": "media", "uid": "set"}, "deprecatedLastTimestamp": "2026-11-27T10:00:00Z",
        "note": "Create Pod media-1 in StatefulSet media failed error: pods \"media-1\" is forbidden: exceeded quota: one-pod"
    });
    world.model.put("events/media.1", refusal);
    world.reconcile().await.unwrap();
    assert_eq!(
        world.condition("Ready"),
        ("False".to_owned(), "QuotaExceeded".to_owned())
    );
    world.writes();
    tokio::time::advance(Duration::from_secs(15)).await;
    world.reconcile().await.unwrap();
    assert_eq!(world.writes(), ["PATCH statefulsets/media"]);
    let set = world.model.get(SET).unwrap();
    assert_eq!(
        set["metadata"]["annotations"]["falconcache.io/retries"],
        "1"
    );
    // It helped.
    world.settle(2);
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("Ready").1, "Ready");
    world.writes();
    // A moment without a pod, and the old Event still there: no alarm.
    world.model.remove("pods/media-1");
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("Degraded").0, "False");
}
