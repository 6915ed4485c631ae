//! One object of a cache: how it is named in writes and in errors, and how it is read.

use kube::api::{Api, ApiResource};
use kube::core::response::Status;
use kube::{Client, Resource};

use crate::apply::{Error, Verb, Write};
use crate::plan::Identity;

/// Kind and name of an object.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) resource: ApiResource,
    pub(super) name: String,
}

impl Child {
    pub(super) fn new<K: Resource<DynamicType = ()>>(name: &str) -> Self {
        Self {
            resource: ApiResource::erase::<K>(&()),
            name: name.to_owned(),
        }
    }

    pub(super) fn with_resource(resource: ApiResource, name: &str) -> Self {
        Self {
            resource,
            name: name.to_owned(),
        }
    }

    pub(super) fn write(&self, verb: Verb) -> Write {
        Write {
            verb,
            kind: self.resource.kind.clone(),
            name: self.name.clone(),
        }
    }

    pub(super) fn error(&self, doing: &'static str, source: kube::Error) -> Error {
        let (kind, name) = (self.resource.kind.clone(), self.name.clone());
        match source {
            kube::Error::Api(status) if status.is_invalid() => Error::Rejected {
                kind,
                name,
                message: status.message,
            },
            kube::Error::Api(status) if status.is_forbidden() => Error::Forbidden {
                kind,
                name,
                message: status.message,
            },
            source => Error::Api {
                kind,
                name,
                doing,
                source: Box::new(source),
            },
        }
    }
}

/// Reads an object in the namespace of a cache.
pub(super) async fn read<K>(
    client: &Client,
    identity: &Identity,
    name: &str,
) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &identity.namespace);
    api.get_opt(name)
        .await
        .map_err(|source| Child::new::<K>(name).error("read", source))
}

/// Whether the object that a write was meant for no longer exists, perhaps because there is a new one of its name.
pub(super) fn is_gone(status: &Status) -> bool {
    status.is_not_found() || status.is_conflict()
}
