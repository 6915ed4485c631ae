//! A Kubernetes control plane of a test's own: etcd, the API server and the controllers, without nodes.
//!
//! `tests/cluster/up` starts it and takes it away again when this process lets go of it, however it ends. Real pods
//! are not here: what needs them is itself started by that script.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// What the script ends with where the machine can't give what is asked; it has said why on stderr.
const SKIPPED: i32 = 77;

/// A running control plane. It ends when this is dropped.
pub(crate) struct ControlPlane {
    kubeconfig: PathBuf,
    /// Holds the pipe whose end is the sign to end.
    _up: Child,
}

impl ControlPlane {
    /// Starts one and waits until it answers: 3 to 4 s. `None` where this machine has no parts for it.
    pub(crate) async fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/up");
        let mut up = Command::new(script)
            .args([
                "control-plane",
                "--",
                "sh",
                "-c",
                "echo \"$KUBECONFIG\"; exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script is in this repository");
        let answer = up.stdout.take().expect("stdout is piped");
        let path = BufReader::new(answer)
            .lines()
            .next_line()
            .await
            .expect("the script writes text");
        if let Some(path) = path {
            return Some(Self {
                kubeconfig: path.into(),
                _up: up,
            });
        }
        let status = up.wait().await.expect("nobody else waits for it");
        assert_eq!(
            status.code(),
            Some(SKIPPED),
            "the control plane did not come up"
        );
        None
    }

    /// The file that `kubectl` and others are pointed at.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with every right.
    pub(crate) async fn client(&self) -> Client {
        let file = Kubeconfig::read_from(&self.kubeconfig).expect("the script wrote it");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options)
            .await
            .expect("the script wrote it whole");
        Client::try_from(config).expect("the certificates are good")
    }
}
