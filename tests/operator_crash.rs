//! The operator crashes before and after each of its writes, at a real API server, and the next one brings everything to the same state.

use std::time::Duration;

use falcon_operator::controller::Watched;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::operator::{ApiConnection, Crash, Operator, cache, objects};
use crate::harness::until_within;

const NAME: &str = "media";
const RESYNC: Duration = Duration::from_mins(1);
/// Kubernetes learns every half minute of new kinds whose children it is to collect.
const PATIENCE: Duration = Duration::from_mins(2);

/// What happens to a cache, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Create,
    Update,
    Scale,
    Delete,
}

const STEPS: [Step; 4] = [Step::Create, Step::Update, Step::Scale, Step::Delete];

/// One namespace in which it happens.
struct Stage {
    config: Config,
    /// Whose requests are not counted.
    client: Client,
    namespace: String,
}

impl Stage {
    async fn new(cluster: &ControlPlane, namespace: String) -> Self {
        cluster.namespace(&namespace).await;
        Self {
            config: cluster.config().await,
            client: cluster.client().await,
            namespace,
        }
    }

    fn caches(&self) -> Api<Watched> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What the user does.
    async fn act(&self, step: Step) {
        let api: Api<falcon_operator::crd::FalconCache> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let patch = |spec: Value| Patch::Merge(json!({ "spec": spec }));
        let how = PatchParams::default();
        match step {
            Step::Create => {
                let cache = serde_json::from_value(cache(NAME, &json!({"replicas": 2}))).unwrap();
                api.create(&PostParams::default(), &cache).await.unwrap();
            }
            Step::Update => {
                // A new form of the pods and of the Service, and an object that is to go.
                let spec = json!({"cache": {"memory": "2Gi"}, "service": {"port": 80}, "disruption": {"enabled": false}});
                api.patch(NAME, &how, &patch(spec)).await.unwrap();
            }
            Step::Scale => {
                let spec = json!({"replicas": 3});
                api.patch_scale(NAME, &how, &patch(spec)).await.unwrap();
            }
            Step::Delete => {
                api.delete(NAME, &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// All that there is: the cache's status without its times, and its objects.
    async fn picture(&self) -> Value {
        let status = self.status().await;
        json!([status, objects(&self.client, &self.namespace, NAME).await])
    }

    async fn status(&self) -> Value {
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &kube::api::ApiResource::erase::<falcon_operator::crd::FalconCache>(&()),
        );
        let Some(cache) = api.get_opt(NAME).await.unwrap() else {
            return Value::Null;
        };
        let mut status = cache.data["status"].clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition
                .as_object_mut()
                .unwrap()
                .remove("lastTransitionTime");
        }
        let text = status.to_string().replace(&self.namespace, "NAMESPACE");
        serde_json::from_str(&text).unwrap()
    }

    /// Reconciles until the process crashes or everything is as in the picture; true if it crashed.
    async fn work(&self, operator: &Operator, picture: &Value) -> bool {
        let what = format!("{} comes to its end: {picture}", self.namespace);
        until_within(PATIENCE, &what, || async {
            if !self.look(operator).await {
                return Some(true);
            }
            (self.picture().await == *picture).then_some(false)
        })
        .await
    }

    /// One reconcile, of what a watch would have shown; false if the process crashed.
    async fn look(&self, operator: &Operator) -> bool {
        match self.caches().get_opt(NAME).await.unwrap() {
            Some(seen) => operator.reconcile(&seen).await,
            None => true,
        }
    }

    /// Reconciles until neither the operator nor Kubernetes has anything more to do; the picture then.
    async fn settle(&self, operator: &Operator, pods: u64) -> Value {
        let what = format!("{} settles", self.namespace);
        until_within(PATIENCE, &what, || async {
            let before = operator.writes();
            self.look(operator).await;
            let status = self.status().await;
            let still =
                operator.writes() == before && (status.is_null() || status["replicas"] == pods);
            if !still {
                return None;
            }
            let picture = self.picture().await;
            let left = picture[1].as_array().unwrap().len();
            (pods > 0 || left == 0).then_some(picture)
        })
        .await
    }
}

/// The pictures after each step without a crash, and the writes of each.
async fn undisturbed(cluster: &ControlPlane) -> Vec<(Value, usize)> {
    let stage = Stage::new(cluster, "undisturbed".to_owned()).await;
    let operator = Operator::start(
        &stage.config,
        &stage.namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let mut pictures = Vec::new();
    for (step, pods) in STEPS.into_iter().zip([2, 2, 3, 0]) {
        let before = operator.writes();
        stage.act(step).await;
        let picture = stage.settle(&operator, pods).await;
        pictures.push((picture, operator.writes() - before));
    }
    pictures
}

/// A run with a crash at the n-th write of one step; whether there were so many.
async fn disturbed(
    cluster: &ControlPlane,
    pictures: &[(Value, usize)],
    place: usize,
    death: Crash,
    number: usize,
) -> bool {
    let namespace = format!(
        "dies-{place}-{number}-{}",
        format!("{death:?}").to_lowercase()
    );
    let stage = Stage::new(cluster, namespace).await;
    let first = Operator::start(
        &stage.config,
        &stage.namespace,
        RESYNC,
        ApiConnection::default(),
    );
    for (at, step) in STEPS.into_iter().enumerate().take(place) {
        stage.act(step).await;
        stage.work(&first, &pictures[at].0).await;
    }
    let connection = ApiConnection::failing_at(number, death);
    let dying = Operator::start(&stage.config, &stage.namespace, RESYNC, connection);
    stage.act(STEPS[place]).await;
    let died = stage.work(&dying, &pictures[place].0).await;
    let next = Operator::start(
        &stage.config,
        &stage.namespace,
        RESYNC,
        ApiConnection::default(),
    );
    stage.work(&next, &pictures[place].0).await;
    // The state is final: another reconcile writes nothing.
    let before = next.writes();
    stage.look(&next).await;
    assert_eq!(next.writes(), before, "{}", stage.namespace);
    died
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_the_operator_brings_all_to_the_same_end() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let pictures = std::sync::Arc::new(undisturbed(cluster).await);
    assert_eq!(
        pictures[3].0,
        json!([null, []]),
        "nothing is left of a deleted cache"
    );
    let mut lives = JoinSet::new();
    for (place, step) in STEPS.into_iter().enumerate() {
        for death in [Crash::Before, Crash::After] {
            let pictures = std::sync::Arc::clone(&pictures);
            lives.spawn(async move {
                let mut number = 1;
                while disturbed(cluster, &pictures, place, death, number).await {
                    number += 1;
                }
                (step, death, number - 1)
            });
        }
    }
    let mut deaths = 0;
    while let Some(life) = lives.join_next().await {
        let (step, death, count) = life.unwrap();
        println!("{step:?}: died {death:?} each of {count} writes");
        deaths += count;
    }
    let writes: usize = pictures.iter().map(|(_, writes)| writes).sum();
    assert!(
        deaths >= writes,
        "{deaths} deaths, {writes} writes undisturbed"
    );
}
