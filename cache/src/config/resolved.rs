//! What the flags mean: every default filled in, sizes in bytes, times as durations. A setting has the name of its
//! flag.

use std::fmt;
use std::net::IpAddr;

use super::args::LogFormat;
use crate::discovery::{Host, PeerAddress, WatchedApi};
use crate::node::NodeSettings;
use crate::origin::Endpoint;

const MB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// A node, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The settings of its modules.
    pub node: NodeSettings,
    /// How it finds the others, and they reach it.
    pub ring: RingConfig,
    /// Where it listens.
    pub network: NetworkConfig,
    /// What it logs.
    pub log: LogConfig,
    /// What is allowed, but probably a mistake; for the log.
    pub warnings: Vec<String>,
}

/// Which ring this node is in, or beside, and how peers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// How peers reach this node.
    pub host: Host,
    /// Where the others come from.
    pub discovery: Discovery,
}

/// Where the other nodes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// The list of `--peers`; an empty one is a node alone.
    Fixed {
        /// The nodes, this one included unless it is a sidecar.
        peers: Vec<PeerAddress>,
    },
    /// What Kubernetes says is behind a Service.
    Kubernetes {
        /// The value of the Service's label.
        k8s_discovery_id: String,
        /// Which API is watched.
        k8s_discovery_api: WatchedApi,
        /// Where the Service is.
        k8s_namespace: String,
        /// This node's name there; a sidecar's is one that no pod has.
        node_name: String,
    },
}

/// Where the node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// For clients and peers; `None` is all addresses, IPv4 and IPv6.
    pub listen: Option<IpAddr>,
    /// For metrics and health; `None` is all.
    pub admin_listen: Option<IpAddr>,
    /// Of the HTTP API and the peers; 0 is any.
    pub port: u16,
    /// Of the S3 API; 0 is any, `None` is off.
    pub s3_port: Option<u16>,
    /// Of metrics and health; 0 is any.
    pub admin_port: u16,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text or JSON.
    pub log_format: LogFormat,
    /// Levels by module, as `tracing_subscriber` reads them: `--log-level` and `--verbose`.
    pub filter: String,
}

impl LogConfig {
    /// For `dev`: what goes wrong, and nothing else between the lines of its story.
    pub fn for_dev() -> Self {
        Self {
            log_format: LogFormat::Text,
            filter: "warn".to_owned(),
        }
    }
}

impl fmt::Display for Config {
    /// One line for the log. It holds no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeSettings {
            web, proxy, origin, ..
        } = &self.node;
        write!(
            f,
            "buckets={} endpoint={} ",
            web.buckets,
            origin.s3_endpoint.as_ref().map_or("AWS", Endpoint::as_str),
        )?;
        if self.node.sidecar {
            write!(f, "sidecar=true ")?;
        }
        match &self.ring.discovery {
            Discovery::Fixed { peers } if peers.is_empty() => write!(f, "ring=alone")?,
            Discovery::Fixed { peers } => {
                let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
                write!(f, "peers={}", peers.join(","))?;
            }
            Discovery::Kubernetes {
                k8s_discovery_id,
                k8s_namespace,
                node_name,
                ..
            } => write!(
                f,
                "discovery={k8s_namespace}/{k8s_discovery_id} node={node_name}"
            )?,
        }
        match self.network.s3_port {
            None => write!(f, " s3=off")?,
            Some(port) => write!(f, " s3_port={port}")?,
        }
        match &self.node.access_file {
            None => write!(f, " access=everybody")?,
            Some(file) => write!(f, " access={}", file.display())?,
        }
        write!(
            f,
            " host={} port={} admin_port={} cache_mb={} replica_mb={} block_kib={} max_blob_mb={} ttl={} timeout={:?} read_only={}",
            self.ring.host,
            self.network.port,
            self.network.admin_port,
            self.node.max_cache_size / MB,
            self.node.replica_share / MB,
            proxy.blocks.size / KIB,
            proxy.max_blob_size / MB,
            proxy.ttl.map_or_else(
                || "never".to_owned(),
                |ttl| format!("{}m", ttl.as_secs() / 60)
            ),
            proxy.timeout,
            web.read_only,
        )
    }
}
