//! From each group of flags as given to what it means, or why it can't be meant. Pure.

use std::time::Duration;

use super::args::{self, ServeArgs};
use super::network::network;
use super::ring::ring;
use super::{
    BucketConfig, Config, DEFAULT_CACHE_MB, DEFAULT_SIDECAR_MB, Environment, Error,
    FreshnessConfig, KIB, LogConfig, MB, MIN_BLOCKS, MemoryConfig, OriginConfig,
    SAFE_SHARE_PERCENT, WriteConfig,
};

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::Refused(message.into())
}

impl ServeArgs {
    /// What is meant, here.
    pub(super) fn into_config(self, env: &Environment) -> Result<Config, Error> {
        let mut warnings = Vec::new();
        let memory = memory(&self.memory, self.ring.sidecar, env, &mut warnings)?;
        let ring = ring(self.ring, env, &mut warnings)?;
        let network = network(&self.network, &ring, &mut warnings)?;
        if network.access_file.is_some() && !ring.is_alone() && ring.peer_token_file.is_none() {
            return Err(refused(
                "--access-file with peers must have --peer-token-file: without it whoever reaches the port could read and write as a peer; give all nodes the same file",
            ));
        }
        Ok(Config {
            buckets: buckets(&self.origin)?,
            origin: origin(self.origin)?,
            memory,
            freshness: freshness(&self.freshness),
            writes: writes(&self.writes)?,
            network,
            ring,
            log: log(&self.log)?,
            warnings,
        })
    }
}

/// A flag that is given empty, as charts do, isn't given.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

pub(super) fn list(entries: &[String]) -> Vec<String> {
    let entries = entries.iter().map(|entry| entry.trim().to_owned());
    entries.filter(|entry| !entry.is_empty()).collect()
}

fn buckets(raw: &args::OriginArgs) -> Result<BucketConfig, Error> {
    let bucket = given(raw.bucket.clone());
    let mut names = list(&raw.buckets);
    let any = names.iter().any(|name| name == "*");
    if any && names.len() > 1 {
        return Err(refused(
            "--buckets '*' allows any bucket: name no others beside it",
        ));
    }
    if any {
        names.clear();
    }
    for name in bucket.iter().chain(&names) {
        if let Some(rest) = name.strip_prefix("s3://") {
            return Err(refused(format!(
                "{name:?} is a URL: the bucket is {:?}",
                rest.split('/').next().unwrap_or_default()
            )));
        }
        let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if !name.chars().all(usual) || name.chars().all(|c| c == '.') {
            return Err(refused(format!(
                "{name:?} is no name of a bucket: give --bucket and --buckets names without blanks, slashes or stars"
            )));
        }
    }
    if let Some(bucket) = &bucket
        && !names.contains(bucket)
    {
        names.insert(0, bucket.clone());
    }
    if names.is_empty() && !any {
        return Err(refused(
            "no bucket: name one with --bucket, several with --buckets, or allow any with --buckets '*'",
        ));
    }
    let only = (!any && names.len() == 1).then(|| names[0].clone());
    Ok(BucketConfig {
        default: bucket.or(only),
        allowed: (!any).then_some(names),
    })
}

fn origin(raw: args::OriginArgs) -> Result<OriginConfig, Error> {
    let endpoint = given(raw.s3_endpoint)
        .map(|url| {
            let place = url
                .strip_prefix("https://")
                .or_else(|| url.strip_prefix("http://"))
                .ok_or_else(|| {
                    refused(format!(
                        "--s3-endpoint {url:?} is no URL: write http://{url} or https://{url}"
                    ))
                })?;
            let place = place.trim_end_matches('/');
            if place.is_empty() || place.contains(|c: char| "@?# \\".contains(c) || c.is_control())
            {
                return Err(refused(
                    "--s3-endpoint must be http(s)://HOST:PORT; keys don't belong in it but in --s3-credentials-dir",
                ));
            }
            Ok(url.trim_end_matches('/').to_owned())
        })
        .transpose()?;
    Ok(OriginConfig {
        // Only AWS can be trusted to have a host name for each bucket.
        force_path_style: raw.s3_force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        region: given(raw.s3_region),
        credentials_dir: raw
            .s3_credentials_dir
            .filter(|dir| !dir.as_os_str().is_empty()),
        timeout: Duration::from_millis(raw.timeout),
        parts_in_flight: usize::from(raw.parts_in_flight),
    })
}

fn memory(
    raw: &args::MemoryArgs,
    sidecar: bool,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<MemoryConfig, Error> {
    if !raw.block_size.is_power_of_two() || !(64..=16_384).contains(&raw.block_size) {
        return Err(refused(format!(
            "--block-size {} is no power of two from 64 to 16384 (KiB): 1024 is a good one",
            raw.block_size
        )));
    }
    let block = raw.block_size * KIB;
    let raw_limit = raw.max_cache_size.map(|size| size * MB);
    let half = env.memory_limit.map(|limit| limit / 2 / MB * MB);
    let (limit, whence) = match (raw_limit, half) {
        (Some(raw), _) => (raw, ""),
        // The container is the application's neighbour, and has its memory from the same pod.
        (None, _) if sidecar => (DEFAULT_SIDECAR_MB * MB, ", the default of a sidecar,"),
        (None, Some(half)) => (half, ", half of this container's memory limit,"),
        (None, None) => (DEFAULT_CACHE_MB * MB, ""),
    };
    if limit < MIN_BLOCKS * block {
        return Err(refused(format!(
            "--max-cache-size {}{whence} holds fewer than {MIN_BLOCKS} blocks of {} KiB: give it at least {} (MB), or lower --block-size",
            limit / MB,
            raw.block_size,
            (MIN_BLOCKS * block).div_ceil(MB)
        )));
    }
    if let Some(available) = env.memory_limit
        && limit > available / 100 * SAFE_SHARE_PERCENT
    {
        warnings.push(format!(
            "--max-cache-size {} is more than {SAFE_SHARE_PERCENT} % of this container's memory limit of {} MB: the node may be killed for want of memory",
            limit / MB,
            available / MB
        ));
    }
    let max_object = raw.max_blob_size * MB;
    // Of a sidecar it says which objects the ring keeps, not what this memory is for.
    if max_object > limit && !sidecar {
        warnings.push(format!(
            "--max-blob-size {} is more than --max-cache-size {}: the largest objects push out all others and themselves",
            raw.max_blob_size,
            limit / MB
        ));
    }
    Ok(MemoryConfig {
        limit,
        // A sidecar owns nothing: whatever it holds is a copy.
        replicas: if sidecar {
            limit
        } else {
            limit / 100 * u64::from(raw.replica_share)
        },
        block,
        max_object,
    })
}

fn freshness(raw: &args::FreshnessArgs) -> FreshnessConfig {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    FreshnessConfig {
        ttl: (raw.ttl > 0).then(|| minutes(raw.ttl)),
        stale_if_error: minutes(raw.stale_if_error),
        negative_ttl: Duration::from_millis(raw.negative_ttl),
    }
}

fn writes(raw: &args::WriteArgs) -> Result<WriteConfig, Error> {
    if raw.read_only && raw.cache_on_write {
        return Err(refused(
            "--read-only refuses what --cache-on-write would keep: leave one of them out",
        ));
    }
    Ok(WriteConfig {
        read_only: raw.read_only,
        cache_on_write: raw.cache_on_write,
    })
}

fn log(raw: &args::LogArgs) -> Result<LogConfig, Error> {
    let default = if raw.verbose { "debug" } else { "info" };
    let level = given(raw.log_level.clone()).unwrap_or_else(|| default.to_owned());
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    let filter = if is_level(&level) {
        match level.to_ascii_lowercase().as_str() {
            // What the libraries say of each retry, discovery says once.
            // And what s3s says of each request that it refuses, the access log says.
            level @ ("warn" | "info") => {
                format!("{level},kube_client=error,kube_runtime=error,s3s=off")
            }
            level => level.to_owned(),
        }
    } else if level
        .split(',')
        .all(|part| is_level(part.rsplit('=').next().unwrap_or_default()))
    {
        level
    } else {
        return Err(refused(format!(
            "--log-level {level:?} is no level: take error, warn, info, debug or trace, or MODULE=LEVEL, comma separated"
        )));
    };
    Ok(LogConfig {
        format: raw.log_format,
        filter,
    })
}
