//! Writes beside the line: a token that is missing, a pod that blocks its own replacement, a set whose controller waits too long.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use crate::apply::converge::Child;
use crate::apply::{Error, Verb, Write, Writer, gone_or_replaced};
use crate::plan::Identity;
use crate::resources::meta::{self, OPERATOR};

impl Writer {
    /// Makes the peers' token unless there is one. The operator may not read Secrets: it asks to create, and "already there" is an answer as good as "made".
    pub async fn ensure_token(
        &self,
        secret: &Secret,
        journal: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.may_write()?;
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let token = random
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let secret = Secret {
            string_data: Some([("token".to_owned(), token)].into()),
            ..secret.clone()
        };
        let child = Child::of::<Secret>(secret.metadata.name.as_deref().unwrap_or_default());
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
                journal.push(child.write(Verb::Create));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(child.error("created", source)),
        }
    }

    /// Removes a pod that keeps a rollout from going on. Only this very pod: a new one of the same name is left alone.
    pub async fn delete_pod(
        &self,
        identity: &Identity,
        name: &str,
        uid: &str,
        journal: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.may_write()?;
        let child = Child::of::<Pod>(name);
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
                journal.push(child.write(Verb::Delete));
                Ok(())
            }
            Err(kube::Error::Api(status)) if gone_or_replaced(&status) => Ok(()),
            Err(source) => Err(child.error("deleted", source)),
        }
    }

    /// Has the set's controller try again now to create pods. It waits longer after each refusal, up to a quarter of an hour, and no change of what refused
    /// them wakes it; a change of the set does. The annotation means nothing to the pods.
    pub async fn retry_creation(
        &self,
        identity: &Identity,
        journal: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.may_write()?;
        let child = Child::of::<StatefulSet>(&identity.name);
        let Some(set) = self.read::<StatefulSet>(identity, &identity.name).await? else {
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
                journal.push(child.write(Verb::Update));
                Ok(())
            }
            Err(kube::Error::Api(status)) if gone_or_replaced(&status) => Ok(()),
            Err(source) => Err(child.error("retried", source)),
        }
    }
}
