//! A Kubernetes control plane of a test's own: etcd, the API server and the controllers, without nodes.
//!
//! `tests/cluster/up` starts it and takes it away again when this process lets go of it, however it ends. Real pods
//! are not here: what needs them is itself started by that script.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Client, Config, ResourceExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

const CRD: &str = include_str!("../../crds/falconcaches.yaml");

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

    /// The one that tests share, each with namespaces of its own, knowing what a FalconCache is. It ends with this
    /// process.
    pub(crate) async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        let start = async || {
            let started = Self::start().await?;
            let api: Api<CustomResourceDefinition> = Api::all(started.client().await);
            let definition: CustomResourceDefinition = serde_yaml::from_str(CRD).unwrap();
            let name = definition.name_any();
            api.create(&PostParams::default(), &definition)
                .await
                .unwrap();
            await_condition(api, &name, is_crd_established())
                .await
                .unwrap();
            Some(started)
        };
        let shared = SHARED.get_or_init(start).await.as_ref();
        if shared.is_none() {
            println!("skipped: this machine gives no control plane");
        }
        shared
    }

    /// The file that `kubectl` and others are pointed at.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// How a client with every right gets there.
    pub(crate) async fn config(&self) -> Config {
        let file = Kubeconfig::read_from(&self.kubeconfig).expect("the script wrote it");
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .expect("the script wrote it whole");
        config.default_retry = false; // as in the operator
        config
    }

    /// A client with every right.
    pub(crate) async fn client(&self) -> Client {
        Client::try_from(self.config().await).expect("the certificates are good")
    }

    /// A namespace of this name.
    pub(crate) async fn namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client().await);
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }
}
