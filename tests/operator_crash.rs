//! The operator crashes before and after each of its writes, at a real API server, and the next one brings everything
//! to the same state.

use std::time::Duration;

use falcon_operator::controller::Watched;
use falcon_operator::crd::FalconCache;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::namespace::TestNamespace;
use crate::harness::operator::{ApiConnection, Crash, Operator, objects};
use crate::harness::until_within;

const NAME: &str = "media";
const RESYNC: Duration = Duration::from_mins(1);
/// Kubernetes learns every half minute of new kinds whose children it is to collect.
const PATIENCE: Duration = Duration::from_mins(2);

/// What happens to a cache, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Update,
    Scale,
    Delete,
}

const STEPS: [Step; 4] = [Step::Create, Step::Update, Step::Scale, Step::Delete];

/// The namespace in which it happens.
struct Stage(TestNamespace);

impl Stage {
    async fn new(cluster: &ControlPlane, namespace: &str) -> Self {
        Self(TestNamespace::create_in(cluster, namespace).await)
    }

    /// What the user does.
    async fn act(&self, step: Step) {
        let api = self.0.api::<FalconCache>();
        let patch = |spec: Value| Patch::Merge(json!({ "spec": spec }));
        let how = PatchParams::default();
        match step {
            Step::Create => {
                self.0.create_cache(NAME, &json!({"replicas": 2})).await;
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
        json!([status, objects(&self.0.client, &self.0.name, NAME).await])
    }

    async fn status(&self) -> Value {
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
            self.0.client.clone(),
            &self.0.name,
            &kube::api::ApiResource::erase::<FalconCache>(&()),
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
        let text = status.to_string().replace(&self.0.name, "NAMESPACE");
        serde_json::from_str(&text).unwrap()
    }

    /// Reconciles until the process crashes or everything is as in the picture; true if it crashed.
    async fn work(&self, operator: &Operator, picture: &Value) -> bool {
        let what = format!("{} comes to its end: {picture}", self.0.name);
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
        match self.0.api::<Watched>().get_opt(NAME).await.unwrap() {
            Some(seen) => operator.reconcile(&seen).await,
            None => true,
        }
    }

    /// Reconciles until neither the operator nor Kubernetes has anything more to do; the picture then.
    async fn settle(&self, operator: &Operator, pods: u64) -> Value {
        let what = format!("{} settles", self.0.name);
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
    let stage = Stage::new(cluster, "undisturbed").await;
    let operator = stage.0.operator(RESYNC);
    let mut pictures = Vec::new();
    for (step, pods) in STEPS.into_iter().zip([2, 2, 3, 0]) {
        let before = operator.writes();
        stage.act(step).await;
        let picture = stage.settle(&operator, pods).await;
        pictures.push((picture, operator.writes() - before));
    }
    pictures
}

/// A run with a crash at the n-th write of one step; false if the step has fewer writes.
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
    let stage = Stage::new(cluster, &namespace).await;
    let first = stage.0.operator(RESYNC);
    for (at, step) in STEPS.into_iter().enumerate().take(place) {
        stage.act(step).await;
        stage.work(&first, &pictures[at].0).await;
    }
    let connection = ApiConnection::failing_at(number, death);
    let dying = stage.0.operator_over(RESYNC, connection);
    stage.act(STEPS[place]).await;
    let died = stage.work(&dying, &pictures[place].0).await;
    let next = stage.0.operator(RESYNC);
    stage.work(&next, &pictures[place].0).await;
    // The state is final: another reconcile writes nothing.
    let before = next.writes();
    stage.look(&next).await;
    assert_eq!(next.writes(), before, "{}", stage.0.name);
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
