//! The StatefulSet with its pod template and volumes.
//!
//! The template depends on the plan alone, so only a change of the plan restarts pods. Secrets are mounted as files
//! that the cache reloads, so new keys restart none.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, KeyToPath, LocalObjectReference, PodSecurityContext, PodSpec,
    PodTemplateSpec, ProjectedVolumeSource, SeccompProfile, SecretProjection, SecretVolumeSource,
    TopologySpreadConstraint, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::pod::Spread;
use crate::plan::{CaBundle, Plan};
use crate::resources::container::{
    self, GATEWAY_ACCESS, ORIGIN_CA, ORIGIN_KEYS, PEER_TOKEN, PRE_STOP_SECONDS,
};
use crate::resources::{access, meta};

/// User and group of the image.
const NOBODY: i64 = 65_532;
/// Readable by the pod's `fsGroup`, and by no one else.
const GROUP_READS: i32 = 0o440;
/// Time beyond the drain for leaving the ring and stopping.
const GRACE_BEYOND_DRAIN: i64 = 10;

pub(super) fn stateful_set(plan: &Plan) -> StatefulSet {
    StatefulSet {
        metadata: meta::object(&plan.identity, &plan.identity.name),
        spec: Some(StatefulSetSpec {
            replicas: Some(plan.replicas),
            service_name: Some(meta::headless_name(&plan.identity)),
            selector: meta::selector(&plan.identity),
            // Pods of a ring need no order, and in an ordered set a pod that never becomes ready blocks all others.
            // Immutable.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(update_strategy(plan)),
            revision_history_limit: Some(3),
            template: template(plan),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn update_strategy(plan: &Plan) -> StatefulSetUpdateStrategy {
    StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            partition: Some(0),
            // 1 is the default, and clusters before 1.35 drop the field.
            max_unavailable: Some(plan.max_unavailable.clone())
                .filter(|value| *value != IntOrString::Int(1)),
        }),
    }
}

fn template(plan: &Plan) -> PodTemplateSpec {
    let mut annotations = container::default_container();
    annotations.extend(plan.pod.annotations.clone());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(plan)),
    };
    if let Some(overrides) = &plan.pod.overrides {
        template.merge_from(overrides.clone());
    }
    // Last, after the overrides: a StatefulSet whose pods don't match its selector is rejected.
    template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default()
        .extend(meta::pod_labels(plan));
    template
}

fn pod(plan: &Plan) -> PodSpec {
    let named = |name: &String| LocalObjectReference { name: name.clone() };
    PodSpec {
        service_account_name: Some(access::account_name(plan).to_owned()),
        // Only for the watch of the ring.
        automount_service_account_token: Some(true),
        // The cache needs no environment variables for each Service of the namespace.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(
            i64::try_from(plan.drain.as_secs()).unwrap_or(i64::MAX / 2)
                + PRE_STOP_SECONDS
                + GRACE_BEYOND_DRAIN,
        ),
        security_context: Some(security_context(plan)),
        image_pull_secrets: none_if_empty(plan.image.pull_secrets.iter().map(named).collect()),
        node_selector: Some(plan.pod.node_selector.clone()).filter(|labels| !labels.is_empty()),
        affinity: plan.pod.affinity.clone(),
        tolerations: none_if_empty(plan.pod.tolerations.clone()),
        topology_spread_constraints: none_if_empty(spread(plan)),
        priority_class_name: plan.pod.priority_class.clone(),
        containers: vec![container::container(plan)],
        volumes: Some(volumes(plan)),
        ..PodSpec::default()
    }
}

fn security_context(plan: &Plan) -> PodSecurityContext {
    let mut context = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    };
    if let Some(theirs) = &plan.pod.security_context {
        context.merge_from(theirs.clone());
    }
    context
}

fn spread(plan: &Plan) -> Vec<TopologySpreadConstraint> {
    let constraint = |topology: &str, spread: Spread| {
        let otherwise = match spread {
            Spread::Disabled => return None,
            Spread::Preferred => "ScheduleAnyway",
            Spread::Required => "DoNotSchedule",
        };
        Some(TopologySpreadConstraint {
            label_selector: Some(meta::selector(&plan.identity)),
            max_skew: 1,
            topology_key: topology.to_owned(),
            when_unsatisfiable: otherwise.to_owned(),
            ..TopologySpreadConstraint::default()
        })
    };
    let spread = &plan.pod.spread;
    [
        constraint("topology.kubernetes.io/zone", spread.zone),
        constraint("kubernetes.io/hostname", spread.node),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn volumes(plan: &Plan) -> Vec<Volume> {
    let mut volumes = vec![secret_volume(
        PEER_TOKEN.0,
        meta::peer_secret_name(&plan.identity),
        vec![item("token", "token")],
    )];
    if let Some(keys) = &plan.origin.credentials {
        let required = vec![
            item(&keys.access_key_id_key, "access-key-id"),
            item(&keys.secret_access_key_key, "secret-access-key"),
        ];
        let projection = |items, optional| VolumeProjection {
            secret: Some(SecretProjection {
                name: keys.name.clone(),
                items: Some(items),
                optional,
            }),
            ..VolumeProjection::default()
        };
        // The session token in a projection of its own, since only a whole projection can be optional.
        let token = vec![item(&keys.session_token_key, "session-token")];
        volumes.push(Volume {
            name: ORIGIN_KEYS.0.to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(GROUP_READS),
                sources: Some(vec![
                    projection(required, None),
                    projection(token, Some(true)),
                ]),
            }),
            ..Volume::default()
        });
    }
    if let Some(secret) = plan
        .s3
        .as_ref()
        .and_then(|gateway| gateway.access_secret.clone())
    {
        volumes.push(secret_volume(GATEWAY_ACCESS.0, secret, Vec::new()));
    }
    volumes.extend(plan.origin.ca_bundle.as_ref().map(ca_volume));
    volumes
}

fn ca_volume(bundle: &CaBundle) -> Volume {
    match bundle {
        CaBundle::Secret { name, key } => {
            secret_volume(ORIGIN_CA.0, name.clone(), vec![item(key, "ca.crt")])
        }
        CaBundle::ConfigMap { name, key } => Volume {
            name: ORIGIN_CA.0.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: name.clone(),
                items: Some(vec![item(key, "ca.crt")]),
                default_mode: Some(GROUP_READS),
                optional: None,
            }),
            ..Volume::default()
        },
    }
}

fn secret_volume(volume: &str, secret: String, items: Vec<KeyToPath>) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: none_if_empty(items),
            default_mode: Some(GROUP_READS),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    }
}

fn none_if_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}
