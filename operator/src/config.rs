//! Flags and environment variables. No other file reads them.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "falcon-operator",
    version,
    about = "Kubernetes operator for FalconCaches"
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinition.
    Crd,
}

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Namespaces to watch, comma-separated; empty: all.
    #[arg(
        long,
        env = "FALCON_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    pub watch_namespaces: Vec<String>,

    /// Image of caches that don't set spec.image.
    #[arg(long, env = "FALCON_CACHE_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/falconcache/falcon-cache:", env!("CARGO_PKG_VERSION")))]
    pub cache_image: String,

    /// Role that the cache pods are bound to: a ClusterRole, or with --watch-namespaces a Role in each of them.
    #[arg(
        long,
        env = "FALCON_CACHE_ROLE",
        value_name = "NAME",
        default_value = "falcon-cache"
    )]
    pub cache_role: String,

    /// Port of /metrics, /healthz and /readyz.
    #[arg(
        long,
        env = "FALCON_ADMIN_PORT",
        value_name = "PORT",
        default_value_t = 9095
    )]
    pub admin_port: u16,

    /// Maximum number of concurrent reconciles.
    #[arg(long, env = "FALCON_CONCURRENCY", value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Resync interval, in seconds.
    #[arg(long, env = "FALCON_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub resync: u64,

    /// Elect a leader, so that only one of several replicas is active.
    #[arg(long, env = "FALCON_LEADER_ELECTION", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,

    /// Namespace of the leader election Lease [default: the operator's own].
    #[arg(long, env = "FALCON_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of the leader election Lease.
    #[arg(
        long,
        env = "FALCON_LEASE_NAME",
        value_name = "NAME",
        default_value = "falcon-operator"
    )]
    pub lease_name: String,

    /// Name of this process in the Lease and in Events; must be unique [default: random].
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Log format.
    #[arg(long, env = "FALCON_LOG_FORMAT", value_enum, default_value_t = LogEncoding::Json)]
    pub log_format: LogEncoding,

    /// Log level (error, warn, info, debug, trace), or levels per module: info,falcon_operator=debug.
    #[arg(
        long,
        env = "FALCON_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
}

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogEncoding {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

impl RunArgs {
    /// The namespaces; empty: all. Blanks and empty names, as a template may leave them, are ignored.
    pub fn namespaces(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .watch_namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Resync interval.
    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn empty_namespaces_are_all_namespaces() {
        let cli =
            Cli::try_parse_from(["falcon-operator", "run", "--watch-namespaces=, b,a,a"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.namespaces(), ["a", "b"]);
        let cli = Cli::try_parse_from(["falcon-operator", "run", "--watch-namespaces="]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.namespaces(), Vec::<String>::new());
    }
}
