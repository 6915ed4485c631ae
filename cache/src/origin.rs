//! S3 behind the cache: ranged reads, heads, writes, lists. The only module that names the AWS SDK.
//!
//! An answer is checked here before anything else sees it: the range, the length, the version. The SDK's errors become
//! [`Error`] here and nowhere else. Nothing is stored, decoded or decided: that is for the modules in front.

mod attempts;
mod blank;
mod body;
mod client;
mod connector;
mod credentials;
mod endpoint;
mod envelope;
mod error;
mod expect;
mod forward;
mod head;
mod list;
mod outgoing;
mod raw;
mod read;
mod socket;
mod upload;
mod write;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

pub use body::OriginBody;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use forward::{Forward, ForwardedBody, Payload};
pub use head::part_of;
pub use list::{Buckets, ListPage, ListedObject, Pages};
pub use outgoing::Incoming;
pub use read::Reply;
pub use upload::Upload;
pub use write::Headers;

use crate::metrics::Metrics;
use attempts::Attempts;
use credentials::Files;

/// How many pairs of keys one request is signed with, one after the other, while each is refused and replaced.
const PAIRS_TRIED: usize = 4;

/// Where the origin is and how long to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSettings {
    /// `None` is AWS in the region.
    pub s3_endpoint: Option<Endpoint>,
    /// `None`: what the environment says, else `us-east-1`.
    pub s3_region: Option<String>,
    /// The bucket in the path instead of the host name.
    pub s3_force_path_style: bool,
    /// A folder with the files `access-key-id`, `secret-access-key` and, if there is one, `session-token`.
    /// `None`: the default chain of AWS (environment, profile, service account, instance).
    pub s3_credentials_dir: Option<PathBuf>,
    /// From the call to the first byte of the answer, connecting and retrying included.
    pub timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// Idle connections that are kept open.
    pub max_idle_connections: usize,
}

/// The origin. A clone costs one reference count; all clones share connections and keys.
#[derive(Clone)]
pub struct Origin(Arc<Inner>);

struct Inner {
    client: aws_sdk_s3::Client,
    /// Key files that this process reads itself, and reads again when S3 refuses the keys.
    files: Option<Files>,
    /// The origin's name in errors.
    name: Arc<str>,
    /// It is asked for checksums, until it refuses that.
    tells_checksums: AtomicBool,
    /// TLS protects bodies, so they need no hash of their own.
    tls: bool,
    timeout: Duration,
    idle_timeout: Duration,
    metrics: Arc<Metrics>,
    /// Aborts of uploads that were dropped.
    aborts: TaskTracker,
}

impl Origin {
    /// Prepares to ask the origin. S3 itself is not asked yet: it may be down.
    ///
    /// Without a region and an endpoint, the environment is asked for the region, for a few seconds at most.
    pub async fn new(settings: OriginSettings, metrics: Arc<Metrics>) -> Self {
        let made = client::build(&settings).await;
        Self(Arc::new(Inner {
            client: made.client,
            files: made.files,
            tells_checksums: AtomicBool::new(true),
            name: made.name.into(),
            tls: made.tls,
            timeout: settings.timeout,
            idle_timeout: settings.idle_timeout,
            metrics,
            aborts: TaskTracker::new(),
        }))
    }

    /// Waits until the last upload has been aborted: the last thing before the process ends.
    pub async fn settled(&self) {
        self.0.aborts.close();
        self.0.aborts.wait().await;
        self.0.aborts.reopen();
    }

    /// The error of a read whose bytes come too slowly.
    pub fn too_slow(&self) -> Error {
        Error::TooSlow {
            endpoint: Arc::clone(&self.0.name),
        }
    }

    /// Sends one request, which `request` makes for each try, and waits at most `wait` for the answer.
    ///
    /// If S3 refuses the keys and the files hold others by now, it is sent again.
    async fn call<T, E, F>(
        &self,
        op: &'static str,
        wait: Duration,
        request: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let started = Instant::now();
        let tries = async {
            // The keys may be rotated again while a refused request is on its way back.
            for _ in 1..PAIRS_TRIED {
                let before = self.0.files.as_ref().map(Files::generation);
                let answer = Box::pin(request()).await;
                let (Err(refusal), Some(files), Some(before)) = (&answer, &self.0.files, before)
                else {
                    return answer;
                };
                if !error::refuses_keys(refusal) || !files.changed_since(before).await {
                    return answer;
                }
            }
            Box::pin(request()).await
        };
        let result = match timeout(wait, tries).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Error::from_sdk(error, &self.0.name)),
            Err(_) => Err(Error::Timeout {
                endpoint: Arc::clone(&self.0.name),
                waited: wait,
            }),
        };
        let code = result.as_ref().map_or_else(Error::code, |_| "ok");
        self.0.metrics.origin_answered(op, code, started.elapsed());
        result
    }
}

impl Origin {
    /// [`Origin::call`] for a write: an error tells whether S3 may have carried it out anyway.
    async fn write<T, E, F>(
        &self,
        op: &'static str,
        wait: Duration,
        request: impl Fn(Attempts) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let attempts = Attempts::default();
        let answer = self.call(op, wait, || request(attempts.clone())).await;
        answer.map_err(|error| attempts.judged(error))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.0.name)
    }
}
