//! Checks the raw flags, and makes each module's settings of them. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::args::{FreshnessArgs, LogArgs, OriginArgs, ServeArgs, WriteArgs};
use super::environment::Environment;
use super::error::{Error, must_be, refused};
use super::given;
use super::memory::{Memory, memory};
use super::network::{network, s3_domain};
use super::resolved::{Config, Discovery, LogConfig, RingConfig};
use super::ring::ring;
use crate::api::ApiSettings;
use crate::discovery;
use crate::gateway::GatewaySettings;
use crate::node::NodeSettings;
use crate::object::Blocks;
use crate::origin::OriginSettings;
use crate::proxy::ProxySettings;
use crate::server::Limits;
use crate::web::{ServedBuckets, WebSettings};

/// The largest single read from S3. AWS advises 8 to 16 MiB; 8 leaves more of them to run at once.
const PART_BYTES: u64 = 8 << 20;
/// Between two pieces of a body from S3: as long as S3's own clients wait.
const ORIGIN_IDLE: Duration = Duration::from_secs(30);
/// Parallel reads from S3. At 80 MB/s each, they fill the fastest network that a node has.
const ORIGIN_READS: usize = 64;
/// Parallel uploads; each has a buffer of 8 MiB from the budget.
const UPLOADS: usize = 16;
/// How long an upload waits for its slot.
const UPLOAD_WAIT: Duration = Duration::from_secs(10);

/// The configuration that these flags mean in this environment.
pub(super) fn config(args: ServeArgs, env: &Environment) -> Result<Config, Error> {
    let mut warnings = Vec::new();
    let sidecar = args.ring.sidecar;
    let memory = memory(&args.memory, sidecar, env, &mut warnings)?;
    let ring = ring(&args.ring, env, &mut warnings)?;
    let s3_domain = s3_domain(&args.network, &mut warnings)?;
    let network = network(&args.network, &ring, sidecar)?;
    let peer_token_file = given::path(args.ring.peer_token_file);
    let access_file = given::path(args.network.access_file);
    check_peers(&ring, network.port, sidecar)?;
    check_guard(
        &ring,
        sidecar,
        access_file.as_ref(),
        peer_token_file.as_ref(),
    )?;
    check_writes(&args.writes)?;
    let (bucket, buckets) = buckets(&args.origin)?;
    let node = NodeSettings {
        zone: given::text(args.ring.zone),
        sidecar,
        max_cache_size: memory.max_cache_size,
        replica_share: memory.replica_share,
        proxy: proxy(&args.origin, &memory, &args.freshness),
        origin: origin(args.origin)?,
        web: WebSettings {
            buckets,
            read_only: args.writes.read_only,
            upload_wait: UPLOAD_WAIT,
        },
        api: ApiSettings {
            bucket,
            cache_on_write: args.writes.cache_on_write,
            uploads: UPLOADS,
        },
        gateway: GatewaySettings { s3_domain },
        access_file,
        limits: Limits {
            max_connections: usize::try_from(args.network.max_connections).unwrap_or(usize::MAX),
            drain_timeout: Duration::from_secs(args.network.drain_timeout),
            ..Limits::default()
        },
        peer_token_file,
    };
    Ok(Config {
        node,
        ring,
        network,
        log: log(args.log)?,
        warnings,
    })
}

/// With port 0 the list can only be checked once the port is bound.
fn check_peers(ring: &RingConfig, port: u16, sidecar: bool) -> Result<(), Error> {
    if let Discovery::Fixed { peers } = &ring.discovery
        && port != 0
    {
        discovery::fixed(peers, &ring.host, port, sidecar)?;
    }
    Ok(())
}

/// Rules for clients are worth nothing where anyone can pose as a peer.
fn check_guard(
    ring: &RingConfig,
    sidecar: bool,
    access_file: Option<&PathBuf>,
    peer_token_file: Option<&PathBuf>,
) -> Result<(), Error> {
    let alone = matches!(&ring.discovery, Discovery::Fixed { peers } if peers.len() < 2);
    let has_peers = sidecar || !alone;
    if has_peers && access_file.is_some() && peer_token_file.is_none() {
        return Err(refused(
            "--access-file needs --peer-token-file where there are peers: without it anyone who reaches the port can read and write as a peer. Give all nodes the same token",
        ));
    }
    Ok(())
}

fn check_writes(raw: &WriteArgs) -> Result<(), Error> {
    if raw.read_only && raw.cache_on_write {
        return Err(refused(
            "--read-only refuses the uploads that --cache-on-write would keep: leave one of them out",
        ));
    }
    Ok(())
}

/// The default bucket, and all buckets that may be named.
type Named = (Option<String>, ServedBuckets);

fn buckets(raw: &OriginArgs) -> Result<Named, Error> {
    let bucket = given::text(raw.bucket.clone());
    let mut names = given::list(&raw.buckets);
    let any = names.iter().any(|name| name == "*");
    if any && names.len() > 1 {
        return Err(must_be(
            "buckets",
            "names or '*' alone, which allows any bucket",
            format_args!("{:?}", names.join(",")),
        ));
    }
    if any {
        names.clear();
    }
    let flagged = bucket.iter().map(|name| ("bucket", name));
    for (flag, name) in flagged.chain(names.iter().map(|name| ("buckets", name))) {
        check_bucket(flag, name)?;
    }
    if let Some(bucket) = &bucket
        && !names.contains(bucket)
    {
        names.insert(0, bucket.clone());
    }
    if names.is_empty() && !any {
        return Err(refused(
            "no bucket is given: name one with --bucket, several with --buckets, or allow any with --buckets '*'",
        ));
    }
    let only = (!any && names.len() == 1).then(|| names[0].clone());
    Ok((bucket.or(only), ServedBuckets::new((!any).then_some(names))))
}

fn check_bucket(flag: &str, name: &str) -> Result<(), Error> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if name.chars().all(usual) && !name.chars().all(|c| c == '.') {
        return Ok(());
    }
    let what = "a bucket's name, of letters, digits, '-', '.', '_' or ':'";
    Err(match name.strip_prefix("s3://") {
        Some(rest) => {
            let bucket = rest.split('/').next().unwrap_or_default();
            must_be(flag, what, format_args!("{name:?}. Write {bucket:?}"))
        }
        None => must_be(flag, what, format_args!("{name:?}")),
    })
}

fn proxy(origin: &OriginArgs, memory: &Memory, freshness: &FreshnessArgs) -> ProxySettings {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    ProxySettings {
        blocks: Blocks {
            size: memory.block_size,
        },
        part_bytes: PART_BYTES.max(memory.block_size),
        parts_in_flight: u64::from(origin.parts_in_flight),
        max_blob_size: memory.max_blob_size,
        ttl: (freshness.ttl > 0).then(|| minutes(freshness.ttl)),
        stale_if_error: minutes(freshness.stale_if_error),
        negative_ttl: Duration::from_millis(freshness.negative_ttl),
        timeout: Duration::from_millis(origin.timeout),
        origin_reads: ORIGIN_READS,
    }
}

fn origin(raw: OriginArgs) -> Result<OriginSettings, Error> {
    let endpoint = given::text(raw.s3_endpoint).map(|url| url.parse());
    let s3_endpoint = endpoint
        .transpose()
        .map_err(|error| refused(format!("--s3-endpoint {error}")))?;
    Ok(OriginSettings {
        // Only AWS can be trusted to have a host name for each bucket.
        s3_force_path_style: raw.s3_force_path_style.unwrap_or(s3_endpoint.is_some()),
        s3_endpoint,
        s3_region: given::text(raw.s3_region),
        s3_credentials_dir: given::path(raw.s3_credentials_dir),
        timeout: Duration::from_millis(raw.timeout),
        idle_timeout: ORIGIN_IDLE,
        max_idle_connections: ORIGIN_READS,
    })
}

fn log(raw: LogArgs) -> Result<LogConfig, Error> {
    let default = if raw.verbose { "debug" } else { "info" };
    let level = given::text(raw.log_level).unwrap_or_else(|| default.to_owned());
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    let filter = if is_level(&level) {
        match level.to_ascii_lowercase().as_str() {
            // Discovery logs once what the libraries log for each retry, and the access log has each request that s3s
            // refuses.
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
        return Err(must_be(
            "log-level",
            "error, warn, info, debug or trace, or MODULE=LEVEL, comma separated",
            format_args!("{level:?}"),
        ));
    };
    Ok(LogConfig {
        log_format: raw.log_format,
        filter,
    })
}
