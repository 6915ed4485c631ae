//! `falcon-cache`: parse, wire, serve, drain.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use falcon_cache::config::{self, Command, Config, Discovery, LogConfig, LogFormat};
use falcon_cache::members::DiscoveredNode;
use falcon_cache::node::{Listeners, Node};
use falcon_cache::peer::Contact;
use falcon_cache::{dev, discovery};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Log lines that may wait to be written: some seconds of a busy node, a megabyte or two.
const LOG_LINES: usize = 4096;
/// Between two warnings that lines were lost.
const LOSSES_LOGGED: Duration = Duration::from_secs(10);

/// Tasks polled between two looks at the sockets. The default is 61: with a few streams that always have bytes to send,
/// a request that has just come would wait for all of these.
const EVENT_INTERVAL: u32 = 8;

/// It keeps freed memory for a moment (`.cargo/config.toml` says how long). A cache soon needs again what it frees, and
/// memory that went back to the kernel meanwhile costs more to touch than the bytes that come in.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = Command::from_args(std::env::args_os())
        .map_err(anyhow::Error::new)
        .and_then(run);
    match outcome.map_err(anyhow::Error::downcast) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ok(mistake)) => config::Error::report(mistake),
        Err(Err(failure)) => report(&failure),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .context("failed to start threads")?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(config) => serve(*config).await,
            Command::Dev(args) => {
                let _lines = log(&LogConfig::for_dev());
                until_signal(Box::pin(dev::Dev::start(&args)), dev::Dev::leave).await
            }
        }
    });
    // What still runs after a second signal is not waited for.
    runtime.shutdown_background();
    outcome
}

/// A failure of the environment: the command line was right.
fn report(failure: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    // If printing fails, there is nowhere left to say so.
    let _ = writeln!(std::io::stderr(), "falcon-cache: {failure:#}");
    ExitCode::FAILURE
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let _lines = log(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let listeners = listen(&config).await?;
    let port = listeners.main.local_addr()?.port();
    let (me, found) = discover(&config, port).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), node = me.name, url = me.url, port,
        admin = %listeners.admin.local_addr()?, %config, "starting"
    );
    let start = Box::pin(async {
        let node = Node::start(config.node, me, listeners, found).await?;
        node.check_origin();
        anyhow::Ok(node)
    });
    until_signal(start, async |node| {
        let cut = node.leave().await;
        tracing::info!(cut, "left the ring and stopped");
    })
    .await
}

/// Runs until the first signal and leaves in order; a second one ends it at once, and so does one before it runs.
/// Signals are handled before anything is served: whoever sees it answer may send one.
async fn until_signal<T, E: Into<anyhow::Error>>(
    start: impl Future<Output = Result<T, E>>,
    leave: impl AsyncFnOnce(T),
) -> anyhow::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let running = tokio::select! {
        running = start => running.map_err(Into::into)?,
        () = either(&mut term, &mut int) => {
            tracing::warn!("stopped before it had started");
            return Ok(());
        }
    };
    either(&mut term, &mut int).await;
    tracing::info!("leaving: finishing what runs; a second signal stops at once");
    tokio::select! {
        () = leave(running) => {}
        () = either(&mut term, &mut int) => tracing::warn!("stopped at once"),
    }
    Ok(())
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

async fn listen(config: &Config) -> anyhow::Result<Listeners> {
    let network = &config.network;
    Ok(Listeners {
        main: bind("--port", network.listen, network.port).await?,
        admin: bind("--admin-port", network.admin_listen, network.admin_port).await?,
        s3: match network.s3_port {
            Some(port) => Some(bind("--s3-port", network.listen, port).await?),
            None => None,
        },
    })
}

async fn bind(flag: &str, address: Option<IpAddr>, port: u16) -> anyhow::Result<TcpListener> {
    let bound = match address {
        Some(address) => TcpListener::bind((address, port)).await,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            // A machine without IPv6.
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        },
    };
    bound.with_context(|| format!("failed to listen on {flag} {port}"))
}

/// This node, and the nodes of its ring, now and whenever they change. `port` is the one that it listens on.
async fn discover(
    config: &Config,
    port: u16,
) -> anyhow::Result<(Contact, BoxStream<'static, Vec<DiscoveredNode>>)> {
    let host = &config.ring.host;
    match &config.ring.discovery {
        Discovery::Fixed { peers } => {
            let (me, found) = discovery::fixed(peers, host, port, config.node.sidecar)
                .map_err(config::Error::from)?;
            Ok((me, stream::iter([found]).boxed()))
        }
        Discovery::Kubernetes {
            k8s_discovery_id,
            k8s_discovery_api,
            k8s_namespace,
            node_name,
        } => {
            let client = discovery::client().await?;
            let (namespace, id, api) = (k8s_namespace, k8s_discovery_id, *k8s_discovery_api);
            let found = discovery::watch(client, namespace, id, api, port);
            Ok((discovery::contact(node_name, host, port), found.boxed()))
        }
    }
}

/// Lines go to stderr from a thread of their own, until what this returns is dropped. Where stderr is read too slowly,
/// lines are lost, and no request waits.
fn log(log: &LogConfig) -> WorkerGuard {
    let (stderr, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    tokio::spawn(log_losses(stderr.error_counter()));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(stderr);
    match log.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    guard
}

/// Logs how many lines were lost, if any.
async fn log_losses(counter: ErrorCounter) {
    let mut logged = 0;
    loop {
        tokio::time::sleep(LOSSES_LOGGED).await;
        let lost = counter.dropped_lines();
        if lost > logged {
            tracing::warn!(
                lines = lost - logged,
                "stderr is read too slowly: log lines were lost"
            );
            logged = lost;
        }
    }
}
