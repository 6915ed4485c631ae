//! The command line as given: names, units, defaults, and what each flag alone allows. What they mean together is for
//! `check`. The docs of the fields are the text of `--help`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};

/// The flags of the first Falcon, which took them with one dash.
const ORIGINAL: [&str; 10] = [
    "bucket",
    "host",
    "k8s-discovery-id",
    "max-blob-size",
    "peers",
    "port",
    "s3-endpoint",
    "timeout",
    "ttl",
    "verbose",
];

/// Falcon, a cache for S3: runs one node of the ring.
#[derive(Debug, Parser)]
#[command(
    name = "falcon-cache",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Every flag can also be set in the environment, as FALCON_ and its name: FALCON_BUCKET for --bucket.\nMB and KiB are powers of 1,024."
)]
pub struct Args {
    /// The command; `serve` if none is given.
    #[command(subcommand)]
    pub command: Option<CommandArgs>,
    /// The flags of `serve`, which may be left out.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one value, and only while the flags are read"
)]
pub enum CommandArgs {
    /// Run a cache node (the default command)
    Serve(ServeArgs),
    /// Run a ring and an S3 server on this machine, to try Falcon
    Dev(DevArgs),
}

/// The flags of a node.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(super) origin: OriginArgs,
    #[command(flatten)]
    pub(super) memory: MemoryArgs,
    #[command(flatten)]
    pub(super) freshness: FreshnessArgs,
    #[command(flatten)]
    pub(super) writes: WriteArgs,
    #[command(flatten)]
    pub(super) ring: RingArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Origin (S3)")]
pub(super) struct OriginArgs {
    /// Default bucket for requests that do not name one
    #[arg(long, env = "FALCON_BUCKET", value_name = "NAME")]
    pub bucket: Option<String>,
    /// More buckets that requests may name, comma separated; '*' allows any
    #[arg(
        long,
        env = "FALCON_BUCKETS",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub buckets: Vec<String>,
    /// URL of the S3 service [default: AWS, in the region]
    #[arg(long, env = "FALCON_S3_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Region of the buckets [default: from the AWS SDK's environment, else us-east-1]
    #[arg(long, env = "FALCON_S3_REGION", value_name = "REGION")]
    pub s3_region: Option<String>,
    /// Use path-style addressing, ENDPOINT/BUCKET/KEY [default: true with --s3-endpoint]
    #[arg(long, env = "FALCON_S3_FORCE_PATH_STYLE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub s3_force_path_style: Option<bool>,
    /// Folder with the files access-key-id and secret-access-key, reloaded when they change [default: the AWS SDK's
    /// credential chain]
    #[arg(long, env = "FALCON_S3_CREDENTIALS_DIR", value_name = "DIR")]
    pub s3_credentials_dir: Option<PathBuf>,
    /// How long to wait for the first byte of a response from S3
    #[arg(long, env = "FALCON_TIMEOUT", value_name = "MS", default_value_t = 5000, value_parser = value_parser!(u64).range(1..=3_600_000))]
    pub timeout: u64,
    /// Parallel reads from S3 for one large object
    #[arg(long, env = "FALCON_PARTS_IN_FLIGHT", value_name = "COUNT", default_value_t = 16, value_parser = value_parser!(u16).range(1..=256))]
    pub parts_in_flight: u16,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct MemoryArgs {
    /// Memory for cached objects, never exceeded [default: half of the container's memory limit, or 512 without one;
    /// with --sidecar 64]
    #[arg(long, env = "FALCON_MAX_CACHE_SIZE", value_name = "MB", value_parser = value_parser!(u64).range(1..=1 << 30))]
    pub max_cache_size: Option<u64>,
    /// Largest object to cache; larger ones are served without being cached
    #[arg(long, env = "FALCON_MAX_BLOB_SIZE", value_name = "MB", default_value_t = 128, value_parser = value_parser!(u64).range(0..=1 << 30))]
    pub max_blob_size: u64,
    /// Size of the blocks that objects are cached in: a power of two between 64 and 16384, the same on every node
    #[arg(
        long,
        env = "FALCON_BLOCK_SIZE",
        value_name = "KIB",
        default_value_t = 1024
    )]
    pub block_size: u64,
    /// Share of the memory reserved for replicas, which are copies of blocks that other nodes own; they use more while
    /// memory is free [with --sidecar: all of it]
    #[arg(long, env = "FALCON_REPLICA_SHARE", value_name = "PERCENT", default_value_t = 12, value_parser = value_parser!(u8).range(0..=90))]
    pub replica_share: u8,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Freshness")]
pub(super) struct FreshnessArgs {
    /// How long an object stays fresh before S3 is asked whether it changed; 0 means forever
    #[arg(long, env = "FALCON_TTL", value_name = "MINUTES", default_value_t = 60, value_parser = value_parser!(u64).range(0..=52_560_000))]
    pub ttl: u64,
    /// How long past its TTL an object may still be served while S3 is unavailable; 0 disables this
    #[arg(long, env = "FALCON_STALE_IF_ERROR", value_name = "MINUTES", default_value_t = 60, value_parser = value_parser!(u64).range(0..=52_560_000))]
    pub stale_if_error: u64,
    /// How long to remember that an object does not exist; 0 disables this
    #[arg(long, env = "FALCON_NEGATIVE_TTL", value_name = "MS", default_value_t = 2000, value_parser = value_parser!(u64).range(0..=3_600_000))]
    pub negative_ttl: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Writes")]
pub(super) struct WriteArgs {
    /// Refuse uploads and deletions
    #[arg(long, env = "FALCON_READ_ONLY", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, action = ArgAction::Set, hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub read_only: bool,
    /// Cache objects when they are uploaded, and not only when they are read
    #[arg(long, env = "FALCON_CACHE_ON_WRITE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, action = ArgAction::Set, hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub cache_on_write: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Ring")]
pub(super) struct RingArgs {
    /// Name or address at which peers reach this node; with --peers, it says which of them this node is [default:
    /// localhost; in Kubernetes, the pod's address]
    #[arg(long, env = "FALCON_HOST", value_name = "HOST")]
    pub host: Option<String>,
    /// Run as a sidecar: serve one pod, own no blocks, and ask the ring without joining it
    #[arg(long, env = "FALCON_SIDECAR", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, action = ArgAction::Set, hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub sidecar: bool,
    /// All nodes of the ring, including this one unless it is a sidecar, comma separated:
    /// http://localhost:8080,http://localhost:8081,…
    #[arg(long, env = "FALCON_PEERS", value_name = "URLS", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Discover the nodes in Kubernetes: the pods behind the Service labelled falcon-discovery-id=ID
    #[arg(long, env = "FALCON_K8S_DISCOVERY_ID", value_name = "ID")]
    pub k8s_discovery_id: Option<String>,
    /// Kubernetes API used to discover nodes
    #[arg(
        long,
        env = "FALCON_K8S_DISCOVERY_API",
        value_name = "API",
        value_enum,
        default_value_t = DiscoveryApi::EndpointSlices
    )]
    pub k8s_discovery_api: DiscoveryApi,
    /// Namespace of that Service [default: the pod's own namespace]
    #[arg(long, env = "FALCON_K8S_NAMESPACE", value_name = "NAMESPACE")]
    pub k8s_namespace: Option<String>,
    /// Name of this node's pod [default: the host name]
    #[arg(long, env = "FALCON_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Availability zone of this node, shown in /ring; it does not affect placement yet [default: from Kubernetes]
    #[arg(long, env = "FALCON_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// File with the token that nodes authenticate to each other with, the same on every node
    #[arg(long, env = "FALCON_PEER_TOKEN_FILE", value_name = "FILE")]
    pub peer_token_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Address to listen on [default: all IPv4 and IPv6 addresses; with --sidecar, 127.0.0.1 for the APIs and all
    /// addresses for metrics and health]
    #[arg(long, env = "FALCON_LISTEN", value_name = "IP")]
    pub listen: Option<IpAddr>,
    /// Port of the HTTP API, which peers use too; 0 picks a free one
    #[arg(long, env = "FALCON_PORT", value_name = "PORT", default_value = "8080")]
    pub port: Port,
    /// Turn the S3 API on, for clients that sign with a key of --access-file (keys), or for anyone who reaches the port
    /// (none) [default: off]
    #[arg(long, env = "FALCON_S3_AUTH", value_name = "AUTH", value_enum)]
    pub s3_auth: Option<S3Auth>,
    /// File that says who may do what, for both APIs: a list of principals in YAML, reloaded when it changes
    #[arg(long, env = "FALCON_ACCESS_FILE", value_name = "FILE")]
    pub access_file: Option<PathBuf>,
    /// Port of the S3 API; 0 picks a free one [default: 9000, or 0 with several --peers on this host]
    #[arg(long, env = "FALCON_S3_PORT", value_name = "PORT")]
    pub s3_port: Option<Port>,
    /// Base domains for virtual-hosted-style requests to the S3 API (BUCKET.DOMAIN), comma separated
    #[arg(
        long,
        env = "FALCON_S3_DOMAIN",
        value_name = "DOMAINS",
        value_delimiter = ','
    )]
    pub s3_domain: Vec<String>,
    /// Port of metrics and health; 0 picks a free one [default: 9095, or 0 with several --peers on this host]
    #[arg(long, env = "FALCON_ADMIN_PORT", value_name = "PORT")]
    pub admin_port: Option<Port>,
    /// Maximum open connections per port; further ones get 503 and are closed
    #[arg(long, env = "FALCON_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// How long running requests may take to finish after SIGTERM
    #[arg(long, env = "FALCON_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 25, value_parser = value_parser!(u64).range(0..=86_400))]
    pub drain_timeout: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// Log at level debug
    #[arg(long, env = "FALCON_VERBOSE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, action = ArgAction::Set, hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub verbose: bool,
    /// Log level (error, warn, info, debug or trace), or levels by module: info,falcon_cache=debug [default: info]
    #[arg(long, env = "FALCON_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log format
    #[arg(
        long,
        env = "FALCON_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    pub log_format: LogFormat,
}

/// The flags of `dev`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct DevArgs {
    /// Number of nodes
    #[arg(long, env = "FALCON_NODES", value_name = "COUNT", default_value_t = 3, value_parser = value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Folder that the S3 server stores in, one folder per bucket [default: a temporary one]
    #[arg(long, env = "FALCON_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port of the first node; the others use the next ones
    #[arg(long, env = "FALCON_PORT", value_name = "PORT", default_value_t = 8080, value_parser = value_parser!(u16).range(1..))]
    pub port: u16,
}

/// The Kubernetes API that names the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiscoveryApi {
    /// `discovery.k8s.io/v1` EndpointSlice.
    #[value(name = "endpointslices", help = "discovery.k8s.io/v1 EndpointSlice")]
    EndpointSlices,
    /// `v1` Endpoints.
    #[value(
        name = "endpoints",
        help = "v1 Endpoints, deprecated since Kubernetes 1.33"
    )]
    Endpoints,
}

/// Who may use the S3 API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum S3Auth {
    /// Clients that sign with a key of the access file.
    #[value(help = "clients that sign with a key of --access-file")]
    Keys,
    /// Anyone.
    #[value(help = "anyone who reaches the port")]
    None,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[value(help = "for people")]
    Text,
    /// For machines.
    #[value(help = "for machines")]
    Json,
}

/// A port as given; `None` where it is not meant for this node.
///
/// Kubernetes sets FALCON_PORT=tcp://10.0.0.1:8080 in every pod beside a Service named falcon, and the like for the
/// other ports. Those are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port(pub Option<u16>);

impl FromStr for Port {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if ["tcp://", "udp://"]
            .iter()
            .any(|link| text.starts_with(link))
        {
            return Ok(Self(None));
        }
        text.parse().map(|port| Self(Some(port)))
    }
}

/// The command line's grammar. The environment is named once at the end of the help and not with each flag.
pub(super) fn command() -> clap::Command {
    let hide_env = |argument: clap::Arg| argument.hide_env(true);
    Args::command()
        .mut_args(hide_env)
        .mut_subcommands(|command| command.mut_args(hide_env))
}

/// Gives the first Falcon's flags a second dash where they have one. Nothing else is touched, and nothing after `--`.
pub(super) fn two_dashes(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Vec<OsString> {
    let mut flags_are_over = false;
    argv.into_iter()
        .map(Into::into)
        .map(|argument| {
            flags_are_over |= argument == "--";
            match argument.to_str() {
                Some(text) if !flags_are_over && is_original(text) => format!("-{text}").into(),
                _ => argument,
            }
        })
        .collect()
}

fn is_original(argument: &str) -> bool {
    let Some(flag) = argument.strip_prefix('-') else {
        return false;
    };
    let name = flag.split('=').next().unwrap_or_default();
    // Without a value: --version takes none.
    flag == "version" || ORIGINAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(argv: &[&str]) -> Vec<OsString> {
        two_dashes(argv.iter().copied())
    }

    #[test]
    fn the_originals_flags_are_taken_with_one_dash() {
        assert_eq!(
            rewritten(&[
                "falcon-cache",
                "-bucket",
                "b",
                "-ttl=5",
                "-verbose",
                "-version"
            ]),
            [
                "falcon-cache",
                "--bucket",
                "b",
                "--ttl=5",
                "--verbose",
                "--version"
            ]
        );
        for name in ORIGINAL {
            assert_eq!(
                rewritten(&[&format!("-{name}")]),
                [format!("--{name}").as_str()]
            );
        }
    }

    #[test]
    fn nothing_else_is_rewritten() {
        let untouched = [
            "-h",
            "-V",
            "--bucket",
            "-b",
            "-bucketx",
            "-s3-port",
            "-",
            "---ttl",
            "bucket",
            "-version=1",
            "--",
            "-bucket",
        ];
        assert_eq!(rewritten(&untouched), untouched);
    }

    #[test]
    fn a_flag_its_field_and_its_environment_variable_have_one_name() {
        let root = Args::command();
        let commands = root.get_subcommands().chain([&root]);
        let mut flags = 0;
        for argument in commands.flat_map(clap::Command::get_arguments) {
            let name = argument.get_long().unwrap();
            let env = argument.get_env().unwrap().to_str().unwrap();
            let field = name.replace('-', "_");
            assert_eq!(argument.get_id().as_str(), field);
            assert_eq!(env, format!("FALCON_{}", field.to_uppercase()));
            assert!(argument.get_help().is_some(), "--{name} is explained");
            flags += 1;
        }
        assert!(flags > 60, "{flags}");
    }

    #[test]
    fn the_help_groups_the_flags_and_names_their_units() {
        command().debug_assert();
        let help = command().term_width(160).render_help().to_string();
        for part in [
            "Origin (S3):",
            "Memory:",
            "Freshness:",
            "Writes:",
            "Ring:",
            "Network:",
            "Log:",
            "--ttl <MINUTES>",
            "--timeout <MS>",
            "--max-blob-size <MB>",
            "[default: 5000]",
            "FALCON_BUCKET",
        ] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
