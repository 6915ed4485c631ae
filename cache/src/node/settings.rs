//! From the configuration as meant to what each part of a node is told.

use std::time::Duration;

use super::NodeSettings;
use crate::config::Config;
use crate::object::Blocks;
use crate::peer::Contact;
use crate::server::Limits;
use crate::{api, gateway, origin, proxy};

/// The largest single read from S3. AWS advises 8 to 16 MiB; 8 leaves more of them to run at once.
const PART_BYTES: u64 = 8 << 20;
/// Between two pieces of a body from S3: as long as S3's own clients wait.
const ORIGIN_IDLE: Duration = Duration::from_secs(30);
/// Reads from S3 at one moment. At 80 MB/s each they fill the fastest network that a node has.
const ORIGIN_READS: usize = 64;
/// Uploads at one moment; each has a buffer of 8 MiB out of the budget.
const UPLOADS: usize = 16;
/// How long an upload waits for its slot.
const UPLOAD_WAIT: Duration = Duration::from_secs(10);

impl NodeSettings {
    /// A node that goes by `me`, in the ring or beside it.
    pub fn new(config: &Config, me: Contact) -> Self {
        let block = config.memory.block;
        Self {
            zone: config.ring.zone.clone(),
            sidecar: config.ring.sidecar,
            cache_bytes: config.memory.limit,
            replica_bytes: config.memory.replicas,
            proxy: proxy::ProxySettings {
                blocks: Blocks { size: block },
                part_bytes: PART_BYTES.max(block),
                parts_in_flight: config.origin.parts_in_flight as u64,
                max_blob_bytes: config.memory.max_object,
                ttl: config.freshness.ttl,
                stale_if_error: config.freshness.stale_if_error,
                negative_ttl: config.freshness.negative_ttl,
                timeout: config.origin.timeout,
                origin_reads: ORIGIN_READS,
            },
            origin: origin::OriginSettings {
                endpoint: config.origin.endpoint.clone(),
                region: config.origin.region.clone(),
                force_path_style: Some(config.origin.force_path_style),
                credentials_dir: config.origin.credentials_dir.clone(),
                timeout: config.origin.timeout,
                idle_timeout: ORIGIN_IDLE,
                max_idle_connections: ORIGIN_READS,
            },
            api: api::ApiSettings {
                node: me.name.clone(),
                default_bucket: config.buckets.default.clone(),
                allowed_buckets: config.buckets.allowed.clone(),
                read_only: config.writes.read_only,
                cache_on_write: config.writes.cache_on_write,
                uploads: UPLOADS,
                upload_wait: UPLOAD_WAIT,
            },
            gateway: gateway::GatewaySettings {
                domains: config
                    .network
                    .s3
                    .as_ref()
                    .map_or_else(Vec::new, |s3| s3.domains.clone()),
            },
            access_file: config.network.access_file.clone(),
            limits: Limits {
                connections: config.network.max_connections,
                drain: config.network.drain_timeout,
                ..Limits::default()
            },
            peer_token_file: config.ring.peer_token_file.clone(),
            me,
        }
    }
}
