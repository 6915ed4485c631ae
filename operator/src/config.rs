//! Flags and environment. No other file reads them.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "falcon-operator",
    version,
    about = "Keeps FalconCaches running on Kubernetes"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep caches running.
    Run(Box<Run>),
    /// Print the CustomResourceDefinition.
    Crd,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Namespaces whose caches are kept, comma separated; none: all of the cluster.
    #[arg(
        long,
        env = "FALCON_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    pub watch_namespaces: Vec<String>,

    /// Image for caches that name none.
    #[arg(long, env = "FALCON_CACHE_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/falconcache/falcon-cache:", env!("CARGO_PKG_VERSION")))]
    pub cache_image: String,

    /// Role that pods of caches are bound to: a ClusterRole, or with --watch-namespaces a Role in each of them.
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

    /// Caches worked on at once.
    #[arg(long, env = "FALCON_CONCURRENCY", value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// How often each cache is looked at when nothing happens, in seconds.
    #[arg(long, env = "FALCON_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub resync: u64,

    /// Whether only one of several operators works at a time.
    #[arg(long, env = "FALCON_LEADER_ELECTION", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,

    /// Namespace of the Lease [default: the one that the operator runs in].
    #[arg(long, env = "FALCON_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of the Lease.
    #[arg(
        long,
        env = "FALCON_LEASE_NAME",
        value_name = "NAME",
        default_value = "falcon-operator"
    )]
    pub lease_name: String,

    /// Name of this process, for the Lease and for Events; must be unique [default: a random one].
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// How a line of the log looks.
    #[arg(long, env = "FALCON_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// Level (error, warn, info, debug, trace), or levels by module: info,falcon_operator=debug.
    #[arg(
        long,
        env = "FALCON_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For human eyes.
    Text,
}

impl Run {
    /// The namespaces; empty: all. Blanks and empty names, as a template leaves them, are no names.
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

    /// Pause between two looks at a cache.
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
