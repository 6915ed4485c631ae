//! Stand-in until the real module is merged.
#![expect(missing_docs, clippy::unused_async, reason = "a stand-in")]
use std::time::SystemTime;

use bytes::Bytes;

use crate::object::{ETag, ObjectId};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    NotFound { code: String, message: String },
    #[error("{message}")]
    Denied { code: String, message: String },
    #[error("the object changed")]
    VersionChanged,
    #[error("range")]
    RangeNotSatisfiable,
    #[error("slow down: {message}")]
    SlowDown { message: String },
    #[error("timeout: {message}")]
    Timeout { message: String },
    #[error("unreachable: {message}")]
    Unreachable { message: String },
    #[error("{message}")]
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    #[error("{0}")]
    Broken(String),
}

impl Error {
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound { code, .. }
            | Self::Denied { code, .. }
            | Self::Refused { code, .. } => code,
            Self::VersionChanged => "VersionChanged",
            Self::RangeNotSatisfiable => "InvalidRange",
            Self::SlowDown { .. } => "SlowDown",
            Self::Timeout { .. } => "OriginTimeout",
            Self::Unreachable { .. } => "OriginUnreachable",
            Self::Broken(_) => "OriginBroken",
        }
    }

    pub fn is_outage(&self) -> bool {
        match self {
            Self::SlowDown { .. } | Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub size: u64,
    pub etag: ETag,
    pub last_modified: Option<SystemTime>,
}

pub struct Listed {
    pub objects: Vec<Entry>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Headers {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_encoding: Option<String>,
    pub content_disposition: Option<String>,
    pub metadata: Vec<(String, String)>,
}

pub struct Upload;

impl Upload {
    pub async fn part(&mut self, _number: i32, _body: Bytes) -> Result<(), Error> {
        unreachable!()
    }
    pub async fn complete(self) -> Result<ETag, Error> {
        unreachable!()
    }
    pub async fn abort(self) {
        unreachable!()
    }
}

#[derive(Clone)]
pub struct Origin;

impl Origin {
    pub async fn put(&self, _o: &ObjectId, _h: &Headers, _b: Bytes) -> Result<ETag, Error> {
        unreachable!()
    }
    pub async fn start_upload(&self, _o: &ObjectId, _h: &Headers) -> Result<Upload, Error> {
        unreachable!()
    }
    pub async fn delete(&self, _o: &ObjectId) -> Result<(), Error> {
        unreachable!()
    }
    pub async fn delete_many(
        &self,
        _bucket: &str,
        _keys: &[String],
    ) -> Result<Vec<(String, Error)>, Error> {
        unreachable!()
    }
    pub async fn list(
        &self,
        _bucket: &str,
        _prefix: &str,
        _limit: u32,
        _cursor: Option<&str>,
    ) -> Result<Listed, Error> {
        unreachable!()
    }
}
