//! Flags and environment: raw `Args` → resolved `Config`. No other module reads either.
//!
//! The second step is pure and refuses what contradicts itself, with the flag's name and the fix. What it needs to know
//! of the machine comes in as [`Environment`].

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;
use clap::error::ErrorKind;

pub use self::args::{Args, CommandArgs, DevArgs, DiscoveryApi, LogFormat, S3Auth, ServeArgs};

mod args;
mod check;
mod network;
mod ring;
mod size;

const MB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Where no limit says what there is.
const DEFAULT_CACHE_MB: u64 = 512;

/// Beside an application, whose memory it is.
const DEFAULT_SIDECAR_MB: u64 = 64;

/// Fewer blocks than this, and every fill would push out what the one before it brought.
const MIN_BLOCKS: u64 = 16;

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_S3_PORT: u16 = 9000;
const DEFAULT_ADMIN_PORT: u16 = 9095;

/// The process needs memory of its own beside the objects: above this share of the limit it is at risk.
const SAFE_SHARE_PERCENT: u64 = 80;

/// What the binary was asked to do.
#[derive(Debug)]
pub enum Command {
    /// Run a node.
    Serve(Box<Config>),
    /// Run a ring with an S3 of its own on this machine.
    Dev(DevArgs),
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line can't be read, or asked for help or the version.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The flags, each right alone, can't be meant so.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Says it: help and version to the standard output, mistakes to the error output. The code is 0 or 2.
    pub fn report(self) -> ExitCode {
        let error = match self {
            Self::Usage(error) => error,
            Self::Refused(message) => args::command().error(ErrorKind::ArgumentConflict, message),
        };
        // Nobody is left to tell where that fails.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

/// What the flags mean: every default filled in, sizes in bytes, times as durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What may be asked for.
    pub buckets: BucketConfig,
    /// The S3 behind.
    pub origin: OriginConfig,
    /// What may be kept.
    pub memory: MemoryConfig,
    /// For how long.
    pub freshness: FreshnessConfig,
    /// What becomes of uploads.
    pub writes: WriteConfig,
    /// Which ring this node is in.
    pub ring: RingConfig,
    /// Where it listens.
    pub network: NetworkConfig,
    /// What it logs.
    pub log: LogConfig,
    /// What is allowed and probably not meant; for the log.
    pub warnings: Vec<String>,
}

/// The buckets that a request may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// The one that is meant where none is named: `--bucket`, or the only one.
    pub default: Option<String>,
    /// All of them; `None` allows any.
    pub allowed: Option<Vec<String>>,
}

impl BucketConfig {
    /// True when requests may name this bucket.
    pub fn allow(&self, bucket: &str) -> bool {
        self.allowed
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|name| name == bucket))
    }
}

/// The S3 behind, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginConfig {
    /// `http(s)://HOST[:PORT]`; `None` is AWS.
    pub endpoint: Option<String>,
    /// `None` is what the SDK finds.
    pub region: Option<String>,
    /// The bucket goes in the path and not in the host.
    pub force_path_style: bool,
    /// The folder of the key files; `None` is what the SDK finds.
    pub credentials_dir: Option<PathBuf>,
    /// To the first byte of an answer.
    pub timeout: Duration,
    /// Reads in flight at once for one object.
    pub parts_in_flight: usize,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// For everything that is kept or in flight.
    pub limit: u64,
    /// The part of it that is kept for replicas.
    pub replicas: u64,
    /// Of a block; a power of two.
    pub block: u64,
    /// Larger objects are served and not kept.
    pub max_object: u64,
}

/// How long what is known stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshnessConfig {
    /// Of a head; `None` is for ever.
    pub ttl: Option<Duration>,
    /// After that, while the origin is out of reach; zero is never.
    pub stale_if_error: Duration,
    /// Of the knowledge that there is no such object; zero is never.
    pub negative_ttl: Duration,
}

/// What becomes of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteConfig {
    /// They are refused.
    pub read_only: bool,
    /// They are kept too.
    pub cache_on_write: bool,
}

/// Which ring this node is in, or beside, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// How peers reach this node: a name or an address.
    pub host: String,
    /// This node is beside the ring and not in it: it owns nothing, and nobody is to reach it but its own host.
    pub sidecar: bool,
    /// Where the others come from.
    pub discovery: Discovery,
    /// This node's availability zone; `None` is what discovery says.
    pub zone: Option<String>,
    /// The file with the peers' shared token.
    pub peer_token_file: Option<PathBuf>,
}

impl RingConfig {
    /// True for a node without any others.
    pub fn is_alone(&self) -> bool {
        !self.sidecar && matches!(&self.discovery, Discovery::Fixed { peers } if peers.len() < 2)
    }
}

/// Where the other nodes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// A list, as given; an empty one is a node alone.
    Fixed {
        /// The nodes, this one included unless it is a sidecar.
        peers: Vec<String>,
    },
    /// What Kubernetes says is behind a Service.
    Kubernetes {
        /// The value of the Service's label.
        id: String,
        /// Where the Service is.
        namespace: String,
        /// What is watched.
        api: DiscoveryApi,
        /// This node's name there; of a sidecar, one that nobody has there.
        node: String,
    },
}

/// Where the node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// For clients and peers; `None` is all addresses, of both families.
    pub listen: Option<IpAddr>,
    /// For metrics and health; `None` is all.
    pub admin_listen: Option<IpAddr>,
    /// Of the HTTP API and the peers; 0 is any.
    pub port: u16,
    /// The S3 API; `None` is off.
    pub s3: Option<S3Config>,
    /// The file that says who may do what; `None`: everybody may do everything.
    pub access_file: Option<PathBuf>,
    /// Of metrics and health; 0 is any.
    pub admin_port: u16,
    /// Connections at once.
    pub max_connections: usize,
    /// From SIGTERM to the end.
    pub drain_timeout: Duration,
}

/// The S3 API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Its port; 0 is any.
    pub port: u16,
    /// Host names below which a name is a bucket's.
    pub domains: Vec<String>,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Levels by module, in the words of `tracing_subscriber`.
    pub filter: String,
}

impl LogConfig {
    /// For a ring to play with: what goes wrong, and nothing else between the story's lines.
    pub fn for_dev() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "warn".to_owned(),
        }
    }
}

/// What the flags' meaning depends on beside the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Bytes that the process may use.
    pub memory_limit: Option<u64>,
    /// The machine's name, or the pod's.
    pub hostname: Option<String>,
    /// The pod's address, as kubelet notes it.
    pub pod_address: Option<IpAddr>,
    /// The pod's namespace, as its service account knows it.
    pub namespace: Option<String>,
}

impl Environment {
    /// As they are on this machine.
    pub fn read() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let line = |path: &str| {
            let text = read(Path::new(path))?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let hostname = line("/proc/sys/kernel/hostname");
        let hosts = read(Path::new("/etc/hosts")).unwrap_or_default();
        Self {
            memory_limit: size::memory_limit(read),
            pod_address: hostname
                .as_deref()
                .and_then(|name| ring::pod_address(&hosts, name)),
            hostname,
            namespace: line("/var/run/secrets/kubernetes.io/serviceaccount/namespace"),
        }
    }
}

impl Command {
    /// What this command line asks for, here; its first word is the program's name.
    pub fn from_args(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        Args::read(argv)?.into_command(&Environment::read())
    }
}

impl Config {
    /// As [`Command::from_args`], for a command line that is known to run a node.
    pub fn from_args(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        Args::read(argv)?.into_config(&Environment::read())
    }
}

impl Args {
    /// The command line as given; the original's single dash is understood.
    pub fn read(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        let matches = args::command().try_get_matches_from(args::two_dashes(argv))?;
        Ok(Self::from_arg_matches(&matches)?)
    }

    /// What is meant, here.
    pub fn into_command(self, env: &Environment) -> Result<Command, Error> {
        match self.command {
            Some(CommandArgs::Dev(dev)) => {
                if dev.port.checked_add(dev.nodes).is_none() {
                    return Err(check::refused(
                        "--port leaves no room for the other nodes' ports: take a lower one",
                    ));
                }
                Ok(Command::Dev(dev))
            }
            Some(CommandArgs::Serve(serve)) => {
                Ok(Command::Serve(Box::new(serve.into_config(env)?)))
            }
            None => Ok(Command::Serve(Box::new(self.serve.into_config(env)?))),
        }
    }

    /// What is meant for a node, here.
    pub fn into_config(self, env: &Environment) -> Result<Config, Error> {
        match self.into_command(env)? {
            Command::Serve(config) => Ok(*config),
            Command::Dev(_) => Err(check::refused("dev has no configuration of a node")),
        }
    }
}

impl fmt::Display for Config {
    /// One line with the configuration as meant, for the log. It holds no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.buckets.allowed.as_ref();
        write!(
            f,
            "buckets={} endpoint={} ",
            buckets.map_or_else(|| "*".to_owned(), |names| names.join(",")),
            self.origin.endpoint.as_deref().unwrap_or("AWS"),
        )?;
        if self.ring.sidecar {
            write!(f, "sidecar=true ")?;
        }
        match &self.ring.discovery {
            Discovery::Fixed { peers } if peers.is_empty() => write!(f, "ring=alone")?,
            Discovery::Fixed { peers } => write!(f, "peers={}", peers.join(","))?,
            Discovery::Kubernetes {
                id,
                namespace,
                node,
                ..
            } => write!(f, "discovery={namespace}/{id} node={node}")?,
        }
        let MemoryConfig {
            limit,
            replicas,
            block,
            ..
        } = self.memory;
        match &self.network.s3 {
            None => write!(f, " s3=off")?,
            Some(s3) => write!(f, " s3_port={}", s3.port)?,
        }
        let access = self.network.access_file.as_ref();
        match access {
            None => write!(f, " access=everybody")?,
            Some(file) => write!(f, " access={}", file.display())?,
        }
        write!(
            f,
            " host={} port={} admin_port={} cache_mb={} replica_mb={} block_kib={} max_blob_mb={} ttl={} timeout={:?} read_only={}",
            self.ring.host,
            self.network.port,
            self.network.admin_port,
            limit / MB,
            replicas / MB,
            block / KIB,
            self.memory.max_object / MB,
            self.freshness.ttl.map_or_else(
                || "never".to_owned(),
                |ttl| format!("{}m", ttl.as_secs() / 60)
            ),
            self.origin.timeout,
            self.writes.read_only,
        )
    }
}

#[cfg(test)]
mod tests;
