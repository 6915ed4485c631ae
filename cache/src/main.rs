//! `falcon-cache`: parse, wire, serve, drain.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use falcon_cache::config::{Command, Config, Discovery, DiscoveryApi, LogConfig, LogFormat};
use falcon_cache::members::DiscoveredNode;
use falcon_cache::node::{Listeners, Node, NodeSettings};
use falcon_cache::peer::Contact;
use falcon_cache::{dev, discovery};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Log lines that may wait to be taken: some seconds of a busy node, a megabyte or two.
const LOG_LINES: usize = 4096;
/// How often it is told that lines were lost.
const LOSSES_TOLD: Duration = Duration::from_secs(10);

/// Turns of tasks between two looks at the sockets. By default they are 61: with a few streams that always have bytes to
/// send, a request that has just come would wait for all of these.
const TURNS: u32 = 8;

/// It keeps what is freed for a moment (`.cargo/config.toml` says how long). A cache frees what it needs again at once,
/// and memory that was given back to the kernel meanwhile costs more to touch than the bytes that come in.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = match Command::from_args(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => return error.report(),
    };
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TURNS)
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("no threads to run on")),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Serve(config) => serve(*config).await,
            Command::Dev(asked) => {
                let _lines = log(&LogConfig::for_dev());
                until_signal(Box::pin(dev::Dev::start(&asked)), dev::Dev::leave).await
            }
        }
    });
    // What still runs after a second signal is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    // Nobody is left to tell where that fails.
    let _ = writeln!(std::io::stderr(), "falcon-cache: {error:#}");
    ExitCode::FAILURE
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let _lines = log(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let network = &config.network;
    let main = listen(network.listen, network.port)
        .await
        .context("--port")?;
    let admin = listen(network.admin_listen, network.admin_port)
        .await
        .context("--admin-port")?;
    let s3 = match &network.s3 {
        Some(s3) => Some(listen(network.listen, s3.port).await.context("--s3-port")?),
        None => None,
    };
    let port = main.local_addr()?.port();
    let (me, found) = discover(&config, port).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), node = me.name, url = me.url, port, admin = %admin.local_addr()?, %config,
        "starting"
    );
    let listeners = Listeners { main, admin, s3 };
    let start = Box::pin(async {
        let node = Node::start(NodeSettings::new(&config, me), listeners, found).await?;
        node.check_origin(config.buckets.default.as_deref());
        anyhow::Ok(node)
    });
    until_signal(start, async |node| {
        let cut = node.leave().await;
        tracing::info!(cut, "left the ring and stopped");
    })
    .await
}

/// Runs until the first signal and leaves in order; a second one ends it at once, and so does one before it runs.
/// Signals are heard before anything answers: who sees it answer may send one.
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

async fn listen(address: Option<IpAddr>, port: u16) -> anyhow::Result<TcpListener> {
    let bound = match address {
        Some(address) => TcpListener::bind((address, port)).await,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            // A machine without IPv6.
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        },
    };
    bound.with_context(|| format!("port {port} can't be listened on"))
}

async fn discover(
    config: &Config,
    port: u16,
) -> anyhow::Result<(Contact, BoxStream<'static, Vec<DiscoveredNode>>)> {
    let host = &config.ring.host;
    match &config.ring.discovery {
        Discovery::Fixed { peers } => {
            let (me, found) = if config.ring.sidecar {
                discovery::beside(peers, host, port)?
            } else {
                discovery::fixed(peers, host, port)?
            };
            Ok((me, stream::iter([found]).boxed()))
        }
        Discovery::Kubernetes {
            id,
            namespace,
            api,
            node,
        } => {
            let api = match api {
                DiscoveryApi::EndpointSlices => discovery::WatchedApi::EndpointSlices,
                DiscoveryApi::Endpoints => discovery::WatchedApi::Endpoints,
            };
            let client = discovery::client().await?;
            let found = discovery::watch(client, namespace, id, api, port);
            Ok((discovery::contact(node, host, port), found.boxed()))
        }
    }
}

/// Lines go to stderr from a thread of their own until what this returns is dropped: whoever takes them too slowly
/// loses some, and holds up no reader.
fn log(log: &LogConfig) -> WorkerGuard {
    let (stderr, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    tokio::spawn(tell_losses(stderr.error_counter()));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(stderr);
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    guard
}

/// Says how many lines were lost, where some were.
async fn tell_losses(counter: ErrorCounter) {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOSSES_TOLD).await;
        let lost = counter.dropped_lines();
        if lost > told {
            tracing::warn!(
                lines = lost - told,
                "the log was taken too slowly: lines were lost"
            );
            told = lost;
        }
    }
}
