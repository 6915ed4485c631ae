//! Several operators, one of them active.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::harness::kubernetes::ControlPlane;
use crate::harness::node::binary_of;
use crate::harness::until_within;

/// A lease of 15 s is free when it was not renewed for as long.
const PATIENCE: Duration = Duration::from_mins(1);

fn start(cluster: &ControlPlane, name: &str) -> Option<Child> {
    let Some(binary) = binary_of("operator") else {
        println!(
            "skipped: falcon-operator is not built beside the tests, or is older than its sources"
        );
        return None;
    };
    let operator = Command::new(binary)
        .args([
            "run",
            "--watch-namespaces=lead",
            "--lease-namespace=lead",
            "--admin-port=0",
        ])
        .arg(format!("--pod-name={name}"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    Some(operator.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_replaced_and_one_that_lost_its_lease_exits() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    cluster.namespace("lead").await;
    let leases: Api<Lease> = Api::namespaced(cluster.client().await, "lead");
    let led_by = async |name: &str| {
        until_within(PATIENCE, &format!("{name} leads"), || async {
            let lease = leases.get_opt("falcon-operator").await.unwrap()?;
            let holder = lease.spec?.holder_identity?;
            (holder == name).then_some(())
        })
        .await;
    };
    let Some(mut first) = start(cluster, "first") else {
        return;
    };
    led_by("first").await;
    let mut second = start(cluster, "second").unwrap();
    first.kill().await.unwrap();
    led_by("second").await;

    let taken = json!({"spec": {"holderIdentity": "somebody else"}});
    leases
        .patch(
            "falcon-operator",
            &PatchParams::default(),
            &Patch::Merge(taken),
        )
        .await
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, second.wait()).await;
    let ended = ended.expect("who lost the lease ends").unwrap();
    assert_eq!(ended.code(), Some(1));
}
