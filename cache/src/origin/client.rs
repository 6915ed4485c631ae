//! From [`OriginSettings`] to the one S3 client of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::meta::region::RegionProviderChain;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use tokio::time::timeout;

use super::blank::BlankKeys;
use super::credentials::Files;
use super::{Endpoint, OriginSettings, connector};

/// One failure may be chance; a third try would only add load to an origin in trouble.
const ATTEMPTS: u32 = 2;

/// Long enough to recover from a refused connection, short compared with the time to the first byte.
const BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause before a throttled retry.
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// A connection takes one round trip; one that takes longer than this is better tried again.
const CONNECT: Duration = Duration::from_secs(2);

/// How long to wait for the machine to say which region it is in.
const REGION_WAIT: Duration = Duration::from_secs(5);

/// The region that most S3 servers other than AWS use.
const REGION: &str = "us-east-1";

/// Each origin throttles its own retries: the SDK keeps them apart by name, in the whole process.
static PARTITIONS: AtomicU64 = AtomicU64::new(0);

pub(super) struct Made {
    pub(super) client: Client,
    pub(super) files: Option<Files>,
    pub(super) name: String,
    pub(super) tls: bool,
}

pub(super) async fn build(settings: &OriginSettings) -> Made {
    let tls = settings.s3_endpoint.as_ref().is_none_or(Endpoint::is_tls);
    let region = region(settings).await;
    let partition = PARTITIONS.fetch_add(1, Ordering::Relaxed);
    // A third, so that a connection that hangs leaves time for another.
    let connect = CONNECT.min(settings.timeout / 3);
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .interceptor(BlankKeys)
        .http_client(connector::pool(connect, settings.max_idle_connections, tls))
        .force_path_style(settings.s3_force_path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(BACKOFF)
                .with_max_backoff(MAX_BACKOFF),
        )
        .retry_partition(RetryPartition::new(format!("falcon-origin-{partition}")))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::disabled());
    let name = match &settings.s3_endpoint {
        Some(endpoint) => {
            config = config.endpoint_url(endpoint.as_str());
            endpoint.to_string()
        }
        None => format!("S3 in {region}"),
    };
    let files = settings.s3_credentials_dir.clone().map(Files::new);
    config = if let Some(files) = &files {
        // The files have their own cache, which can be told to look again.
        config
            .credentials_provider(files.clone())
            .identity_cache(IdentityCache::no_cache())
    } else {
        let chain = default_chain(region.clone()).await;
        config.set_credentials_provider(chain.credentials_provider());
        config
    };
    Made {
        client: Client::from_conf(config.region(region).build()),
        files,
        name,
        tls,
    }
}

/// `--s3-region`, else the environment's. The machine itself is asked only where the origin is AWS.
async fn region(settings: &OriginSettings) -> Region {
    if let Some(region) = &settings.s3_region {
        return Region::new(region.clone());
    }
    let asked = if settings.s3_endpoint.is_some() {
        RegionProviderChain::first_try(
            aws_config::environment::EnvironmentVariableRegionProvider::new(),
        )
    } else {
        RegionProviderChain::default_provider()
    };
    let found = timeout(REGION_WAIT, asked.region()).await;
    found
        .ok()
        .flatten()
        .unwrap_or_else(|| Region::from_static(REGION))
}

/// Keys from AWS's own places, first asked for when a request is signed.
async fn default_chain(region: Region) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .load()
        .await
}
