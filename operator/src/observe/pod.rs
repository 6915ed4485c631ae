//! One pod: does it answer, and if not, why. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

/// A pod as far as the operator cares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Address, once it has one.
    pub ip: Option<String>,
    /// Revision of the template that it was made from.
    pub revision: String,
    /// Kubernetes takes it for ready.
    pub ready: bool,
    /// It is being deleted: when the grace of that ends.
    pub leaves_at: Option<Timestamp>,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// It answered the operator before and does not any more, while others of the cache do.
    pub silent: bool,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    /// Since when it is not ready.
    pub unready_since: Option<Timestamp>,
    /// Its containers wait for volumes or the network.
    pub creating: bool,
}

impl PodState {
    /// Whether it is being deleted.
    pub fn leaves(&self) -> bool {
        self.leaves_at.is_some()
    }

    /// Whether it serves: it is ready, stays, and answers. A condition may be older than the death of the pod's node.
    pub fn answers(&self) -> bool {
        self.ready && !self.leaves() && !self.silent
    }
}

/// What is wrong with a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The kind of trouble.
    pub cause: Cause,
    /// In words, without the pod's name.
    pub message: String,
}

/// Kinds of trouble, the most telling first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// A quota has no room for it, or demands what it does not say.
    QuotaExceeded,
    /// Its priority class does not exist.
    PriorityClassMissing,
    /// Its runtime class does not exist.
    RuntimeClassMissing,
    /// Its service account does not exist.
    ServiceAccountMissing,
    /// The pod security standard of the namespace forbids it.
    PodSecurityRefused,
    /// The API server refuses it for another reason.
    PodsNotCreated,
    /// A Secret that it mounts does not exist or lacks an entry.
    SecretMissing,
    /// A ConfigMap that it mounts does not exist or lacks an entry.
    ConfigMapMissing,
    /// A volume can't be mounted for another reason.
    MountFailed,
    /// The node can't set it up.
    SandboxFailed,
    /// The image does not exist, or may not be pulled.
    ImagePullFailed,
    /// Something that the pod refers to is not there.
    ConfigurationMissing,
    /// It was killed for want of memory.
    OutOfMemory,
    /// The program ends again and again.
    CrashLooping,
    /// No node takes it.
    Unschedulable,
    /// The node sent it away.
    Evicted,
    /// Its node does not confirm that it ended.
    DeletionNotConfirmed,
    /// It runs and does not answer.
    NotAnswering,
}

impl Cause {
    /// The condition's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PriorityClassMissing => "PriorityClassMissing",
            Self::RuntimeClassMissing => "RuntimeClassMissing",
            Self::ServiceAccountMissing => "ServiceAccountMissing",
            Self::PodSecurityRefused => "PodSecurityRefused",
            Self::PodsNotCreated => "PodsNotCreated",
            Self::SecretMissing => "SecretMissing",
            Self::ConfigMapMissing => "ConfigMapMissing",
            Self::MountFailed => "MountFailed",
            Self::SandboxFailed => "SandboxFailed",
            Self::DeletionNotConfirmed => "DeletionNotConfirmed",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ConfigurationMissing => "ConfigurationMissing",
            Self::OutOfMemory => "OutOfMemory",
            Self::CrashLooping => "CrashLooping",
            Self::Unschedulable => "Unschedulable",
            Self::Evicted => "Evicted",
            Self::NotAnswering => "NotAnswering",
        }
    }

    /// Whether a newer template may cure it, so that waiting for this pod is no use.
    pub fn is_of_the_template(self) -> bool {
        match self {
            Self::QuotaExceeded
            | Self::PriorityClassMissing
            | Self::RuntimeClassMissing
            | Self::ServiceAccountMissing
            | Self::PodSecurityRefused
            | Self::PodsNotCreated
            | Self::SecretMissing
            | Self::ConfigMapMissing
            | Self::ImagePullFailed
            | Self::ConfigurationMissing
            | Self::OutOfMemory
            | Self::CrashLooping
            | Self::Unschedulable
            | Self::NotAnswering => true,
            Self::MountFailed
            | Self::SandboxFailed
            | Self::Evicted
            | Self::DeletionNotConfirmed => false,
        }
    }
}

/// Reads a pod.
pub fn state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = condition(conditions, "Ready");
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let containers = containers(pod);
    let waiting = |container: &&ContainerStatus| {
        container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref())
            .and_then(|waiting| waiting.reason.clone())
    };
    PodState {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.clone()),
        revision: pod
            .labels()
            .get("controller-revision-hash")
            .cloned()
            .unwrap_or_default(),
        ready: is_ready,
        leaves_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        silent: false,
        trouble: if is_ready {
            None
        } else {
            trouble(pod, conditions, &containers)
        },
        unready_since: if is_ready {
            None
        } else {
            ready
                .and_then(|ready| ready.last_transition_time.as_ref())
                .or(pod.metadata.creation_timestamp.as_ref())
                .map(|time| time.0)
        },
        creating: containers
            .iter()
            .filter_map(waiting)
            .any(|reason| reason == "ContainerCreating" || reason == "PodInitializing"),
    }
}

fn containers(pod: &Pod) -> Vec<&ContainerStatus> {
    let Some(status) = pod.status.as_ref() else {
        return Vec::new();
    };
    status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .collect()
}

fn condition<'a>(conditions: &'a [PodCondition], kind: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn trouble(
    pod: &Pod,
    conditions: &[PodCondition],
    containers: &[&ContainerStatus],
) -> Option<Trouble> {
    let status = pod.status.as_ref();
    if status.and_then(|status| status.reason.as_deref()) == Some("Evicted") {
        let message = status
            .and_then(|status| status.message.clone())
            .unwrap_or_default();
        return Some(Trouble {
            cause: Cause::Evicted,
            message: format!("evicted: {message}"),
        });
    }
    if let Some(scheduled) =
        condition(conditions, "PodScheduled").filter(|scheduled| scheduled.status == "False")
    {
        let message = scheduled.message.clone().unwrap_or_default();
        return Some(Trouble {
            cause: Cause::Unschedulable,
            message: format!("no node takes it: {message}"),
        });
    }
    let worst = containers
        .iter()
        .filter_map(|container| of_container(container))
        .min_by_key(|trouble| trouble.cause);
    worst.or_else(|| {
        let running = containers.iter().any(|container| {
            container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        });
        running.then(|| Trouble {
            cause: Cause::NotAnswering,
            message: "runs and is not ready".to_owned(),
        })
    })
}

fn of_container(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last);
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let said = waiting.message.as_deref().unwrap_or_default();
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                return Some(Trouble {
                    cause: Cause::ImagePullFailed,
                    message: format!(
                        "image {} can't be pulled: {reason}{}",
                        container.image,
                        after_colon(said)
                    ),
                });
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return Some(Trouble {
                    cause: Cause::ConfigurationMissing,
                    message: format!(
                        "container {} can't be made: {reason}{}",
                        container.name,
                        after_colon(said)
                    ),
                });
            }
            _ => {}
        }
    }
    let ended = ended.filter(|_| state.running.is_none() || !container.ready)?;
    let (cause, how) = if ended.reason.as_deref() == Some("OOMKilled") {
        (
            Cause::OutOfMemory,
            "was killed for want of memory".to_owned(),
        )
    } else {
        let said = ended.message.as_deref().unwrap_or_default();
        (
            Cause::CrashLooping,
            format!(
                "ended with exit code {}{}",
                ended.exit_code,
                after_colon(said)
            ),
        )
    };
    // The number of restarts is left out: a message that changes at each of them is a write at each of them.
    Some(Trouble {
        cause,
        message: format!("container {} {how}", container.name),
    })
}

/// The last line, and not more than a condition should hold.
fn after_colon(said: &str) -> String {
    let line = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim();
    if line.is_empty() {
        String::new()
    } else {
        format!(": {}", line.chars().take(300).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> PodState {
        state(
            &serde_json::from_value(json!({
                "metadata": {"name": "media-1", "uid": "u", "labels": {"controller-revision-hash": "media-abc"}}, "spec": {"containers": []}, "status": status
            }))
            .unwrap(),
        )
    }

    fn waiting(reason: &str, message: &str) -> PodState {
        pod(
            &json!({"containerStatuses": [{"name": "cache", "image": "r/i:bad", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}}}]}),
        )
    }

    #[test]
    fn a_bad_image_is_named() {
        let trouble = waiting("ImagePullBackOff", "Back-off pulling image")
            .trouble
            .unwrap();
        assert_eq!(trouble.cause, Cause::ImagePullFailed);
        assert_eq!(
            trouble.message,
            "image r/i:bad can't be pulled: ImagePullBackOff: Back-off pulling image"
        );
    }

    #[test]
    fn a_crash_is_told_with_its_exit_code_and_last_words() {
        let trouble = pod(&json!({"containerStatuses": [{"name": "cache", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "x\nno bucket\n"}}}]}))
        .trouble
        .unwrap();
        assert_eq!(
            (trouble.cause, trouble.message.as_str()),
            (
                Cause::CrashLooping,
                "container cache ended with exit code 2: no bucket"
            )
        );
    }

    #[test]
    fn want_of_memory_and_of_nodes_are_told_apart() {
        let killed = pod(
            &json!({"containerStatuses": [{"name": "cache", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        );
        assert_eq!(killed.trouble.unwrap().cause, Cause::OutOfMemory);
        let homeless = pod(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}),
        );
        assert_eq!(homeless.trouble.unwrap().cause, Cause::Unschedulable);
    }

    #[test]
    fn a_pod_that_is_being_made_is_in_no_trouble() {
        let state = waiting("ContainerCreating", "");
        assert!(state.trouble.is_none() && state.creating && !state.ready);
        let ready =
            pod(&json!({"conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.1"}));
        assert!(ready.ready && ready.trouble.is_none() && ready.unready_since.is_none());
    }
}
