//! The state of the blob API, and what each route asks first: which caller, which bucket, which object.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;

use super::prewarm::registry::JobRegistry;
use super::query::Query;
use super::ready::Ready;
use super::upload::slots::UploadSlots;
use crate::access::{Access, Caller, Target, Verb};
use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::object::ObjectId;
use crate::web::failure::Failure;
use crate::web::rights::{ServedBuckets, permit};
use crate::web::services::Services;

/// The scheme of a token in `Authorization`.
const BEARER: &[u8] = b"Bearer ";

/// The settings of the blob API alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// The bucket of requests that name none.
    pub bucket: Option<String>,
    /// An upload is kept as it streams through and given to its owners after its barrier, so the first read costs S3 no
    /// bytes. If it is too large to be stored, or there is no memory, it is read back at the first request.
    pub cache_on_write: bool,
    /// Uploads that may run at one time.
    pub uploads: usize,
}

/// What the state is made of.
pub struct ApiParts {
    /// What both APIs use.
    pub services: Arc<Services>,
    /// What clients invalidate.
    pub invalidator: Invalidator,
    /// Which nodes are known.
    pub members: Arc<Members>,
    /// Whether this node may be sent requests.
    pub ready: watch::Receiver<Ready>,
    /// The settings of the blob API alone.
    pub settings: ApiSettings,
}

/// The state of all routes.
pub struct Api {
    pub(super) services: Arc<Services>,
    pub(super) invalidator: Invalidator,
    pub(super) members: Arc<Members>,
    pub(super) ready: watch::Receiver<Ready>,
    pub(super) settings: ApiSettings,
    pub(super) uploads: UploadSlots,
    pub(super) prewarms: JobRegistry,
}

impl Api {
    /// The state of a node that has no uploads and no prewarms.
    pub fn new(parts: ApiParts) -> Arc<Self> {
        let ApiParts {
            services,
            invalidator,
            members,
            ready,
            settings,
        } = parts;
        Arc::new(Self {
            uploads: UploadSlots::new(settings.uploads),
            prewarms: JobRegistry::default(),
            services,
            invalidator,
            members,
            ready,
            settings,
        })
    }

    /// The bucket of requests that name none.
    pub(crate) fn default_bucket(&self) -> Option<&str> {
        self.settings.bucket.as_deref()
    }

    /// The caller; `401` when the cache has an access file and the token is not in it.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let shown = headers.get(header::AUTHORIZATION);
        caller_of(&self.services.access, shown.map(HeaderValue::as_bytes))
    }

    /// The bucket that is `named`, else the default, if the caller may do that there.
    pub(super) fn bucket(
        &self,
        who: &Caller,
        verb: Verb,
        named: Option<String>,
    ) -> Result<String, Failure> {
        let bucket = named_bucket(named, self.default_bucket())?;
        permit(who, verb, &bucket, Target::Bucket)?;
        check_served(&self.services.settings.buckets, &bucket)?;
        Ok(bucket)
    }

    /// The object that `key=` and `bucket=` name, if the caller may do that with it.
    pub(super) fn object(
        &self,
        who: &Caller,
        verb: Verb,
        query: &mut Query,
    ) -> Result<ObjectId, Failure> {
        let bucket = self.bucket(who, verb, query.take("bucket"))?;
        let key = query.need("key")?;
        permit(who, verb, &bucket, Target::Key(&key))?;
        Ok(ObjectId::new(&bucket, &key)?)
    }

    /// Refuses every write where the cache is read-only.
    pub(super) fn writable(&self) -> Result<(), Failure> {
        if self.services.settings.read_only {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "ReadOnly",
                "this cache is read-only: write to S3 directly, then invalidate the object here",
            ));
        }
        Ok(())
    }
}

/// The caller that shows this as `Authorization`.
pub(super) fn caller_of(access: &Access, shown: Option<&[u8]>) -> Result<Caller, Failure> {
    let token = shown.and_then(|shown| {
        let (scheme, token) = shown.split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then_some(token)
    });
    access.by_token(token).ok_or_else(|| {
        Failure::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "a token of the cache's access file is required: send Authorization: Bearer TOKEN",
        )
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    })
}

fn named_bucket(named: Option<String>, default: Option<&str>) -> Result<String, Failure> {
    match named {
        Some(named) if named.is_empty() => {
            Err(Failure::bad("MissingBucket", "bucket= must not be empty"))
        }
        Some(named) => Ok(named),
        None => default.map(str::to_owned).ok_or_else(|| {
            Failure::bad(
                "MissingBucket",
                "bucket= is required: this cache has no default bucket",
            )
        }),
    }
}

fn check_served(served: &ServedBuckets, bucket: &str) -> Result<(), Failure> {
    if served.contains(bucket) {
        return Ok(());
    }
    let failure = Failure::new(
        StatusCode::FORBIDDEN,
        "BucketNotAllowed",
        "this cache does not serve this bucket: add it to --buckets",
    );
    Err(failure.about(bucket, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_means_the_bucket_it_names_else_the_default() {
        let code = |failure: Failure| failure.code().to_owned();
        let meant = |named: Option<&str>, default| {
            named_bucket(named.map(str::to_owned), default).map_err(code)
        };
        assert_eq!(meant(None, Some("a")).as_deref(), Ok("a"));
        assert_eq!(meant(Some("b"), Some("a")).as_deref(), Ok("b"));
        assert_eq!(meant(Some("b"), None).as_deref(), Ok("b"));
        assert_eq!(meant(None, None), Err("MissingBucket".to_owned()));
        assert_eq!(meant(Some(""), Some("a")), Err("MissingBucket".to_owned()));
    }

    #[test]
    fn a_bucket_that_is_not_served_is_refused_by_name() {
        let served = ServedBuckets::new(Some(vec!["a".to_owned()]));
        assert!(check_served(&served, "a").is_ok());
        let refused = check_served(&served, "b").unwrap_err();
        assert_eq!(
            (refused.code(), refused.bucket()),
            ("BucketNotAllowed", Some("b"))
        );
    }
}
