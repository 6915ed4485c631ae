//! S3 servers that others wrote, each a process of its own on this machine's loopback: moto, versitygw, s3proxy.
//! SeaweedFS has a file of its own. `tests/run` brings them; none is there on every machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::node::free_ports;
use super::until;
use super::weed::{KEY_ID, SECRET};

/// Which one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Python, objects in memory: a restart forgets them.
    Moto,
    /// Go, a folder is a bucket and a file an object.
    Versitygw,
    /// Java, the same. It refuses headers that it does not know unless it is told to ignore them, as here.
    S3proxy,
}

/// A running server; dropping it ends it.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    folder: TempDir,
    process: Child,
}

impl Kind {
    /// Its name, as `tests/s3` has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::Versitygw => "versitygw",
            Self::S3proxy => "s3proxy",
        }
    }

    /// Whether what was stored is there after a restart.
    pub(crate) const fn keeps(self) -> bool {
        !matches!(self, Self::Moto)
    }

    /// Whether a bucket can keep versions.
    pub(crate) const fn has_versions(self) -> bool {
        !matches!(self, Self::S3proxy)
    }

    fn program(self) -> PathBuf {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        target.join(match self {
            Self::Moto => "venv/bin/moto_server",
            Self::Versitygw => "s3/versitygw",
            Self::S3proxy => "s3/s3proxy.jar",
        })
    }

    /// The process, which keeps what it stores below the folder.
    fn command(self, folder: &Path, port: u16) -> Command {
        let program = self.program();
        let data = folder.join("data");
        match self {
            Self::Moto => {
                let mut command = Command::new(program);
                command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
                command
            }
            Self::Versitygw => {
                let mut command = Command::new(program);
                command.args(["--access", KEY_ID, "--secret", SECRET]);
                command.args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "posix"]);
                command.arg("--versioning-dir").arg(folder.join("versions"));
                command.arg(data);
                command
            }
            Self::S3proxy => {
                let settings = folder.join("s3proxy.conf");
                let text = format!(
                    "s3proxy.endpoint=http://127.0.0.1:{port}\n\
                     s3proxy.authorization=aws-v2-or-v4\n\
                     s3proxy.identity={KEY_ID}\n\
                     s3proxy.credential={SECRET}\n\
                     s3proxy.ignore-unknown-headers=true\n\
                     jclouds.provider=filesystem-nio2\n\
                     jclouds.filesystem.basedir={}\n",
                    data.display()
                );
                std::fs::write(&settings, text).unwrap();
                let mut command = Command::new("java");
                command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-jar"]);
                command.arg(program).arg("--properties").arg(settings);
                command
            }
        }
    }
}

impl Server {
    /// Starts one; `None`, said aloud, where `tests/run` has not installed it.
    pub(crate) async fn start(kind: Kind) -> Option<Self> {
        if !kind.program().is_file() {
            println!(
                "skipped: no {} at {}; tests/run installs it",
                kind.name(),
                kind.program().display()
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "versions"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let port = free_ports(1)[0];
        let process = spawn(kind, folder.path(), port);
        let server = Self {
            kind,
            port,
            folder,
            process,
        };
        server.answers().await;
        Some(server)
    }

    /// Which one it is.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is, as clients want it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Starts it after [`Self::stop`], at the same port, with what it had stored.
    pub(crate) async fn resume(&mut self) {
        self.process = spawn(self.kind, self.folder.path(), self.port);
        self.answers().await;
    }

    async fn answers(&self) {
        until("an S3 server that listens", || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
    }
}

fn spawn(kind: Kind, folder: &Path, port: u16) -> Child {
    let mut command = kind.command(folder, port);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("an S3 server starts")
}
