//! `falcon-operator run` runs the operator, `falcon-operator crd` prints the CustomResourceDefinition.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use falcon_operator::apply::Fence;
use falcon_operator::config::{Cli, Command, LogEncoding, RunArgs};
use falcon_operator::controller::{Context, Settings, watches};
use falcon_operator::crd;
use falcon_operator::health::{self, Stage};
use falcon_operator::leader::Candidate;
use falcon_operator::metrics::Metrics;
use falcon_operator::plan::Defaults;
use falcon_operator::resources::{CacheRole, CacheRoleKind};
use futures::FutureExt;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd => std::io::stdout()
            .write_all(crd::yaml()?.as_bytes())
            .context("failed to print the CustomResourceDefinition"),
        Command::Run(run) => {
            log(&run)?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(run_operator(*run))
        }
    }
}

fn log(run: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&run.log_level)
        .with_context(|| format!("--log-level {}", run.log_level))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match run.log_format {
        LogEncoding::Json => lines.json().flatten_event(true).init(),
        LogEncoding::Text => lines.init(),
    }
    Ok(())
}

async fn run_operator(run: RunArgs) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let metrics = Arc::new(Metrics::default());
    let (stage, stages) = watch::channel(Stage::Waiting("the API server".to_owned()));
    let listener = listen(run.admin_port).await?;
    let page = tokio::spawn(health::serve(
        listener,
        Arc::clone(&metrics),
        stages,
        stop.clone(),
    ));

    let mut config = Config::infer().await.context(
        "no cluster configuration: found neither a kubeconfig nor a pod's service account",
    )?;
    // kube's own retries, up to fifteen with pauses of minutes, are off: the operator retries per cache, and counts
    // each retry.
    config.default_retry = false;
    let namespace = run
        .lease_namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("creating the Kubernetes client failed")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespaces = ?run.namespaces(), "falcon-operator starts");

    let result = lead(run, client, namespace, &metrics, &stage, stop).await;
    metrics.set_leading(false);
    if result.is_ok() {
        page.await??;
    }
    result
}

/// On all addresses, or on all IPv4 addresses where there is no IPv6.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("failed to listen on port {port}"))
}

/// Waits for the CRD and for the lease, then reconciles until the signal to stop or until the lease is lost.
async fn lead(
    run: RunArgs,
    client: Client,
    namespace: String,
    metrics: &Arc<Metrics>,
    stage: &watch::Sender<Stage>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let settings = settings(&run, &namespace)?;
    let mut candidate = Candidate::new(
        client.clone(),
        &namespace,
        &run.lease_name,
        &settings.process,
    );
    // Without leader election the fence is always open.
    let (_deadline, open) = watch::channel(Some(
        Instant::now() + Duration::from_secs(u64::from(u32::MAX)),
    ));
    let fence = Fence::new(if run.leader_election {
        candidate.deadline()
    } else {
        open
    });
    let ready = async {
        watches::wait_for_definition(&client, &settings.namespaces, |what| {
            tracing::warn!("waiting for {what}");
            stage.send_replace(Stage::Waiting(what.to_owned()));
        })
        .await;
        stage.send_replace(Stage::StandingBy);
        if run.leader_election {
            candidate.acquire().await?;
            tracing::info!(
                lease = run.lease_name,
                process = settings.process,
                "leading"
            );
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ready = ready => ready?,
        () = stop.clone() => return Ok(()),
    }
    metrics.set_leading(true);
    stage.send_replace(Stage::Leading);
    let context = Arc::new(Context::new(
        client.clone(),
        settings,
        fence,
        Arc::clone(metrics),
    ));
    let work = watches::run(context, client, stop);
    if !run.leader_election {
        work.await;
        return Ok(());
    }
    let lost = tokio::select! {
        () = work => None,
        lost = candidate.renew() => Some(lost),
    };
    if let Some(lost) = lost {
        // The process ends: its successor starts with empty caches.
        return Err(lost.into());
    }
    candidate.release().await;
    Ok(())
}

fn settings(run: &RunArgs, namespace: &str) -> anyhow::Result<Settings> {
    let namespaces = run.namespaces();
    let kind = if namespaces.is_empty() {
        CacheRoleKind::ClusterRole
    } else {
        CacheRoleKind::Role
    };
    let process = match &run.pod_name {
        Some(name) => name.clone(),
        None => format!(
            "falcon-operator-{:08x}",
            getrandom::u32()
                .map_err(|error| anyhow::anyhow!("failed to generate a random name: {error}"))?
        ),
    };
    Ok(Settings {
        role: CacheRole {
            kind,
            name: run.cache_role.clone(),
        },
        defaults: Defaults {
            image: run.cache_image.clone(),
        },
        concurrency: run.concurrency,
        resync: run.resync(),
        namespaces,
        process,
        operator: format!("{namespace}/{}", run.lease_name),
    })
}

/// Resolves at SIGTERM or SIGINT, for all clones.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Clone + Send + Sync + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to handle SIGINT")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        sender.send_replace(true);
    });
    let stopped = async move {
        let mut receiver = receiver;
        // An error means that the sender is gone: then it is time to stop, too.
        drop(receiver.wait_for(|stop| *stop).await.map(|stop| *stop));
    };
    Ok(stopped.boxed().shared())
}
