//! From each group of flags as typed to what it means, or why it can't be meant. Pure.

use std::time::Duration;

use super::args::{self, Serve};
use super::doors::doors;
use super::ring::ring;
use super::{
    Buckets, Config, DEFAULT_CACHE_MB, DEFAULT_SIDECAR_MB, Error, Freshness, KIB, Log, MB,
    MIN_BLOCKS, Memory, Origin, SAFE_SHARE_PERCENT, Surroundings, Writes,
};

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::Refused(message.into())
}

impl Serve {
    /// What is meant, here.
    pub(super) fn into_config(self, here: &Surroundings) -> Result<Config, Error> {
        let mut warnings = Vec::new();
        let memory = memory(&self.memory, self.ring.sidecar, here, &mut warnings)?;
        let ring = ring(self.ring, here, &mut warnings)?;
        let doors = doors(&self.doors, &ring, &mut warnings)?;
        if doors.access_file.is_some() && !ring.is_alone() && ring.peer_token_file.is_none() {
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
            doors,
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

fn buckets(typed: &args::Origin) -> Result<Buckets, Error> {
    let bucket = given(typed.bucket.clone());
    let mut names = list(&typed.buckets);
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
    Ok(Buckets {
        default: bucket.or(only),
        allowed: (!any).then_some(names),
    })
}

fn origin(typed: args::Origin) -> Result<Origin, Error> {
    let endpoint = given(typed.s3_endpoint)
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
    Ok(Origin {
        // Only AWS can be trusted to have a host name for each bucket.
        force_path_style: typed.s3_force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        region: given(typed.s3_region),
        credentials_dir: typed
            .s3_credentials_dir
            .filter(|dir| !dir.as_os_str().is_empty()),
        timeout: Duration::from_millis(typed.timeout),
        parts_in_flight: usize::from(typed.parts_in_flight),
    })
}

fn memory(
    typed: &args::Memory,
    sidecar: bool,
    here: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Memory, Error> {
    if !typed.block_size.is_power_of_two() || !(64..=16_384).contains(&typed.block_size) {
        return Err(refused(format!(
            "--block-size {} is no power of two from 64 to 16384 (KiB): 1024 is a good one",
            typed.block_size
        )));
    }
    let block = typed.block_size * KIB;
    let typed_limit = typed.max_cache_size.map(|size| size * MB);
    let half = here.memory_limit.map(|limit| limit / 2 / MB * MB);
    let (limit, whence) = match (typed_limit, half) {
        (Some(typed), _) => (typed, ""),
        // The container is the application's neighbour, and has its memory from the same pod.
        (None, _) if sidecar => (DEFAULT_SIDECAR_MB * MB, ", the default of a sidecar,"),
        (None, Some(half)) => (half, ", half of this container's memory limit,"),
        (None, None) => (DEFAULT_CACHE_MB * MB, ""),
    };
    if limit < MIN_BLOCKS * block {
        return Err(refused(format!(
            "--max-cache-size {}{whence} holds fewer than {MIN_BLOCKS} blocks of {} KiB: give it at least {} (MB), or lower --block-size",
            limit / MB,
            typed.block_size,
            (MIN_BLOCKS * block).div_ceil(MB)
        )));
    }
    if let Some(available) = here.memory_limit
        && limit > available / 100 * SAFE_SHARE_PERCENT
    {
        warnings.push(format!(
            "--max-cache-size {} is more than {SAFE_SHARE_PERCENT} % of this container's memory limit of {} MB: the node may be killed for want of memory",
            limit / MB,
            available / MB
        ));
    }
    let max_object = typed.max_blob_size * MB;
    // Of a sidecar it says which objects the ring keeps, not what this memory is for.
    if max_object > limit && !sidecar {
        warnings.push(format!(
            "--max-blob-size {} is more than --max-cache-size {}: the largest objects push out all others and themselves",
            typed.max_blob_size,
            limit / MB
        ));
    }
    Ok(Memory {
        limit,
        // A sidecar owns nothing: whatever it holds is a copy.
        hot: if sidecar {
            limit
        } else {
            limit / 100 * u64::from(typed.hot_share)
        },
        block,
        max_object,
    })
}

fn freshness(typed: &args::Freshness) -> Freshness {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    Freshness {
        ttl: (typed.ttl > 0).then(|| minutes(typed.ttl)),
        stale_if_error: minutes(typed.stale_if_error),
        negative_ttl: Duration::from_millis(typed.negative_ttl),
    }
}

fn writes(typed: &args::Writes) -> Result<Writes, Error> {
    if typed.read_only && typed.cache_on_write {
        return Err(refused(
            "--read-only refuses what --cache-on-write would keep: leave one of them out",
        ));
    }
    Ok(Writes {
        read_only: typed.read_only,
        cache_on_write: typed.cache_on_write,
    })
}

fn log(typed: &args::Logging) -> Result<Log, Error> {
    let default = if typed.verbose { "debug" } else { "info" };
    let level = given(typed.log_level.clone()).unwrap_or_else(|| default.to_owned());
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
    Ok(Log {
        format: typed.log_format,
        filter,
    })
}
