//! Service account and RoleBinding of the pods, and the Secret with the peer token.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;

use crate::plan::{AccountPlan, Plan};
use crate::resources::meta;
use crate::resources::{CacheRole, CacheRoleKind};

/// Name of the pods' service account.
pub(super) fn account_name(plan: &Plan) -> &str {
    match &plan.account {
        AccountPlan::Own(_) => &plan.identity.name,
        AccountPlan::Existing(name) => name,
    }
}

pub(super) fn service_account(plan: &Plan) -> Option<ServiceAccount> {
    match &plan.account {
        AccountPlan::Existing(_) => None,
        AccountPlan::Own(annotations) => Some(ServiceAccount {
            metadata: ObjectMeta {
                annotations: Some(annotations.clone()).filter(|all| !all.is_empty()),
                ..meta::object(&plan.identity, &plan.identity.name)
            },
            // The pod mounts its token explicitly; other users of the account get none by default.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }),
    }
}

pub(super) fn role_binding(plan: &Plan, role: &CacheRole) -> RoleBinding {
    RoleBinding {
        metadata: meta::object(&plan.identity, &plan.identity.name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: match role.kind {
                CacheRoleKind::ClusterRole => "ClusterRole",
                CacheRoleKind::Role => "Role",
            }
            .to_owned(),
            name: role.name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account_name(plan).to_owned(),
            namespace: Some(plan.identity.namespace.clone()),
            api_group: None,
        }]),
    }
}

/// Without its content, which is generated when it is written.
pub(super) fn peer_secret(plan: &Plan) -> Secret {
    Secret {
        metadata: meta::object(&plan.identity, &meta::peer_secret_name(&plan.identity)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
