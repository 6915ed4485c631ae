//! Writes of one object that are not an apply: creating the peer token, deleting a pod, making a StatefulSet's
//! controller retry.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::apply::child::{Child, is_gone, read};
use crate::apply::{Error, Fence, Verb, Write};
use crate::plan::Identity;
use crate::resources::meta::{self, OPERATOR};

/// Single writes, for `apply` and for repairs.
#[derive(Clone)]
pub struct Actions {
    client: Client,
    fence: Fence,
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions").finish_non_exhaustive()
    }
}

impl Actions {
    pub(super) fn new(client: Client, fence: Fence) -> Self {
        Self { client, fence }
    }

    /// Creates the peer token unless it exists. The operator may not read Secrets: it tries to create it, and "already
    /// exists" is a success, too.
    pub async fn ensure_token(
        &self,
        secret: &Secret,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let token = random
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let secret = Secret {
            string_data: Some([("token".to_owned(), token)].into()),
            ..secret.clone()
        };
        let child = Child::new::<Secret>(secret.metadata.name.as_deref().unwrap_or_default());
        let api: Api<Secret> = Api::namespaced(
            self.client.clone(),
            secret.metadata.namespace.as_deref().unwrap_or_default(),
        );
        match api
            .create(
                &PostParams {
                    field_manager: Some(OPERATOR.to_owned()),
                    ..PostParams::default()
                },
                &secret,
            )
            .await
        {
            Ok(_) => {
                changes.push(child.write(Verb::Create));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(child.error("create", source)),
        }
    }

    /// Deletes a pod that blocks a rollout. Only this very pod: a new one of the same name is not touched.
    pub async fn delete_pod(
        &self,
        identity: &Identity,
        name: &str,
        uid: &str,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let child = Child::new::<Pod>(name);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
        let this_one = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        match api
            .delete(name, &DeleteParams::default().preconditions(this_one))
            .await
        {
            Ok(_) => {
                changes.push(child.write(Verb::Delete));
                Ok(())
            }
            Err(kube::Error::Api(status)) if is_gone(&status) => Ok(()),
            Err(source) => Err(child.error("delete", source)),
        }
    }

    /// Makes the StatefulSet's controller retry creating pods now. It backs off up to a quarter of an hour, and
    /// removing the cause does not wake it; a change of the StatefulSet does. The annotation does not affect the pods.
    pub async fn retry_creation(
        &self,
        identity: &Identity,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let child = Child::new::<StatefulSet>(&identity.name);
        let Some(set) = read::<StatefulSet>(&self.client, identity, &identity.name).await? else {
            return Ok(());
        };
        let tries = set
            .annotations()
            .get(meta::RETRIES)
            .and_then(|tries| tries.parse::<u32>().ok())
            .unwrap_or(0);
        let change = json!({"metadata": {
            "uid": set.metadata.uid,
            "annotations": {(meta::RETRIES): tries.wrapping_add(1).to_string()}
        }});
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &identity.namespace);
        match api
            .patch(
                &identity.name,
                &PatchParams::default(),
                &Patch::Merge(change),
            )
            .await
        {
            Ok(_) => {
                changes.push(child.write(Verb::Update));
                Ok(())
            }
            Err(kube::Error::Api(status)) if is_gone(&status) => Ok(()),
            Err(source) => Err(child.error("annotate", source)),
        }
    }
}
