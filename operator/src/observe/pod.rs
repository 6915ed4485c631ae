//! State of one pod: whether it is serving, and if not, why. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

/// A pod that has not been ready for less than this may just be starting.
const STARTUP_GRACE: Duration = Duration::from_secs(90);

/// What the operator needs to know of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodState {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Address, once it has one.
    pub ip: Option<String>,
    /// Revision of its template.
    pub revision: String,
    /// Its condition `Ready` is true.
    pub ready: bool,
    /// It is being deleted: when its grace period ends.
    pub terminates_at: Option<Timestamp>,
    /// Its node.
    pub node: Option<String>,
    /// It responded to the operator before and no longer does, while other pods of the cache do.
    pub unreachable: bool,
    /// Its problem, if any.
    pub problem: Option<PodProblem>,
    /// Since when it is not ready.
    pub unready_since: Option<Timestamp>,
    /// Its containers are waiting for volumes or the network.
    pub creating: bool,
}

impl PodState {
    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.terminates_at.is_some()
    }

    /// Whether it is serving: ready, not terminating, and reachable. A condition may be older than the death of the
    /// pod's node.
    pub fn is_serving(&self) -> bool {
        self.ready && !self.is_terminating() && !self.unreachable
    }

    /// Whether it has not been ready for longer than a start takes.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.unready_since.is_some_and(|since| {
            now.as_second().saturating_sub(since.as_second())
                >= i64::try_from(STARTUP_GRACE.as_secs()).unwrap_or(i64::MAX)
        })
    }
}

/// A problem of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProblem {
    /// Its cause.
    pub cause: Cause,
    /// Description, without the pod's name.
    pub message: String,
}

/// Causes of problems, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It exceeds a quota, or lacks a value that the quota requires.
    QuotaExceeded,
    /// Its priority class does not exist.
    PriorityClassMissing,
    /// Its runtime class does not exist.
    RuntimeClassMissing,
    /// Its service account does not exist.
    ServiceAccountMissing,
    /// It violates the Pod Security Standard of the namespace.
    PodSecurityViolation,
    /// The API server rejects it for another reason.
    PodCreationFailed,
    /// A Secret that it mounts does not exist or lacks a key.
    SecretMissing,
    /// A ConfigMap that it mounts does not exist or lacks a key.
    ConfigMapMissing,
    /// A volume can't be mounted for another reason.
    MountFailed,
    /// The node can't create its sandbox.
    SandboxFailed,
    /// Its image does not exist, or may not be pulled.
    ImagePullFailed,
    /// An object that it refers to is missing.
    ConfigurationMissing,
    /// It was killed because it ran out of memory.
    OutOfMemory,
    /// The process exits again and again.
    CrashLooping,
    /// It can't be scheduled to any node.
    Unschedulable,
    /// The node evicted it.
    Evicted,
    /// Its node does not confirm that it terminated.
    DeletionNotConfirmed,
    /// It is running and does not respond.
    NotResponding,
}

impl Cause {
    /// The condition's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PriorityClassMissing => "PriorityClassMissing",
            Self::RuntimeClassMissing => "RuntimeClassMissing",
            Self::ServiceAccountMissing => "ServiceAccountMissing",
            Self::PodSecurityViolation => "PodSecurityViolation",
            Self::PodCreationFailed => "PodCreationFailed",
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
            Self::NotResponding => "NotResponding",
        }
    }

    /// Whether a newer template may fix it, so that waiting for this pod is useless.
    pub fn may_be_fixed_by_template(self) -> bool {
        match self {
            Self::QuotaExceeded
            | Self::PriorityClassMissing
            | Self::RuntimeClassMissing
            | Self::ServiceAccountMissing
            | Self::PodSecurityViolation
            | Self::PodCreationFailed
            | Self::SecretMissing
            | Self::ConfigMapMissing
            | Self::ImagePullFailed
            | Self::ConfigurationMissing
            | Self::OutOfMemory
            | Self::CrashLooping
            | Self::Unschedulable
            | Self::NotResponding => true,
            Self::MountFailed
            | Self::SandboxFailed
            | Self::Evicted
            | Self::DeletionNotConfirmed => false,
        }
    }
}

/// Reads the state of a pod.
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
        terminates_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        unreachable: false,
        problem: if is_ready {
            None
        } else {
            pod_problem(pod, conditions, &containers)
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

fn pod_problem(
    pod: &Pod,
    conditions: &[PodCondition],
    containers: &[&ContainerStatus],
) -> Option<PodProblem> {
    let status = pod.status.as_ref();
    if status.and_then(|status| status.reason.as_deref()) == Some("Evicted") {
        let message = status
            .and_then(|status| status.message.clone())
            .unwrap_or_default();
        return Some(PodProblem {
            cause: Cause::Evicted,
            message: format!("evicted: {message}"),
        });
    }
    if let Some(scheduled) =
        condition(conditions, "PodScheduled").filter(|scheduled| scheduled.status == "False")
    {
        let message = scheduled.message.clone().unwrap_or_default();
        return Some(PodProblem {
            cause: Cause::Unschedulable,
            message: format!("can't be scheduled: {message}"),
        });
    }
    let worst = containers
        .iter()
        .filter_map(|container| container_problem(container))
        .min_by_key(|problem| problem.cause);
    worst.or_else(|| {
        let running = containers.iter().any(|container| {
            container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        });
        running.then(|| PodProblem {
            cause: Cause::NotResponding,
            message: "is running and not ready".to_owned(),
        })
    })
}

fn container_problem(container: &ContainerStatus) -> Option<PodProblem> {
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
                return Some(PodProblem {
                    cause: Cause::ImagePullFailed,
                    message: format!(
                        "image {} can't be pulled: {reason}{}",
                        container.image,
                        after_colon(said)
                    ),
                });
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return Some(PodProblem {
                    cause: Cause::ConfigurationMissing,
                    message: format!(
                        "container {} can't be created: {reason}{}",
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
            "ran out of memory and was killed".to_owned(),
        )
    } else {
        let said = ended.message.as_deref().unwrap_or_default();
        (
            Cause::CrashLooping,
            format!("exited with code {}{}", ended.exit_code, after_colon(said)),
        )
    };
    // Without the number of restarts: a message that changes with each of them would be a write for each of them.
    Some(PodProblem {
        cause,
        message: format!("container {} {how}", container.name),
    })
}

/// The last line, shortened for a condition's message.
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
        let problem = waiting("ImagePullBackOff", "Back-off pulling image")
            .problem
            .unwrap();
        assert_eq!(problem.cause, Cause::ImagePullFailed);
        assert_eq!(
            problem.message,
            "image r/i:bad can't be pulled: ImagePullBackOff: Back-off pulling image"
        );
    }

    #[test]
    fn a_crash_is_reported_with_its_exit_code_and_last_line() {
        let problem = pod(&json!({"containerStatuses": [{"name": "cache", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "x\nno bucket\n"}}}]}))
        .problem
        .unwrap();
        assert_eq!(
            (problem.cause, problem.message.as_str()),
            (
                Cause::CrashLooping,
                "container cache exited with code 2: no bucket"
            )
        );
    }

    #[test]
    fn out_of_memory_and_unschedulable_are_distinguished() {
        let killed = pod(
            &json!({"containerStatuses": [{"name": "cache", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        );
        assert_eq!(killed.problem.unwrap().cause, Cause::OutOfMemory);
        let unschedulable = pod(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}),
        );
        assert_eq!(unschedulable.problem.unwrap().cause, Cause::Unschedulable);
    }

    #[test]
    fn a_pod_that_is_being_created_has_no_problem() {
        let state = waiting("ContainerCreating", "");
        assert!(state.problem.is_none() && state.creating && !state.ready);
        let ready =
            pod(&json!({"conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.1"}));
        assert!(ready.ready && ready.problem.is_none() && ready.unready_since.is_none());
    }
}
