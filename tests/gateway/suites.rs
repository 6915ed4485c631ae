//! The programs of `tests/s3`, which know nothing of Rust, at the gateways of a real ring in front of a real S3.

mod servers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{client, everything_file};
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::S3;
use crate::harness::weed::{KEY_ID, READY, SECRET, Weed};

/// The longest of them moves some gigabytes; beside all other tests it takes minutes.
const PATIENCE: Duration = Duration::from_mins(20);

/// SeaweedFS makes more volumes as a bucket grows, and stands still meanwhile. A write that is given up may still land,
/// over those that came after it.
const LONG_ENOUGH: &str = "--timeout=25000";

/// Two nodes and a sidecar, whose S3 gateways take the keys that the S3 takes, and may name two buckets.
struct Gateways {
    ring: Ring,
    sidecar: TestNode,
    _access: tempfile::NamedTempFile,
}

impl Gateways {
    async fn before(endpoint: &str) -> Self {
        let file = everything_file();
        let rules = format!(
            "- {{name: all, accessKeyId: {KEY_ID}, secretAccessKey: {SECRET}, token: t, buckets: ['*'], prefixes: ['*'], verbs: [read, write, invalidate]}}"
        );
        std::fs::write(file.path(), rules).unwrap();
        let access = format!("--access-file={}", file.path().display());
        // An object that is made at S3 itself between two questions has to be seen by the second.
        let flags = [
            "--s3-auth=keys",
            &access,
            "--s3-domain=s3.test",
            "--buckets=versions",
            "--negative-ttl=0",
            LONG_ENOUGH,
        ];
        let ring = Ring::start(endpoint, 2, &flags).await;
        let sidecar = ring.sidecar(&flags).await;
        Self {
            ring,
            sidecar,
            _access: file,
        }
    }

    fn gateway(&self, place: usize) -> &str {
        &self.ring.nodes[place].s3
    }

    /// The ways through which a question is asked, in this order: so the first is cold.
    fn ways(&self) -> Vec<String> {
        [
            ("cold", self.gateway(0)),
            ("warm", self.gateway(0)),
            ("other", self.gateway(1)),
            ("sidecar", &self.sidecar.s3),
        ]
        .iter()
        .flat_map(|(name, url)| ["--through".to_owned(), format!("{name}={url}")])
        .collect()
    }

    /// The same through the blob API.
    fn blob_ways(&self) -> Vec<String> {
        let nodes = &self.ring.nodes;
        [
            ("blob-cold", &nodes[0].url),
            ("blob-warm", &nodes[0].url),
            ("blob-other", &nodes[1].url),
            ("blob-sidecar", &self.sidecar.url),
        ]
        .iter()
        .flat_map(|(name, url)| ["--blob".to_owned(), format!("{name}={url}")])
        .collect()
    }
}

/// SeaweedFS that lets in who has a key, with the bucket `bucket`, and gateways before it.
async fn before_weed() -> Option<(Weed, Gateways)> {
    let weed = Weed::start_guarded().await?;
    let s3 = client(&weed.endpoint(), KEY_ID, SECRET);
    crate::harness::until("weed has a bucket", || async {
        s3.create_bucket().bucket("bucket").send().await.ok()
    })
    .await;
    crate::harness::until("weed stores", || async {
        let put = s3.put_object().bucket("bucket").key("ready");
        put.body(READY.as_bytes().to_vec().into()).send().await.ok()
    })
    .await;
    s3.delete_object()
        .bucket("bucket")
        .key("ready")
        .send()
        .await
        .unwrap();
    let gateways = Box::pin(Gateways::before(&weed.endpoint())).await;
    Some((weed, gateways))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program of `tests/s3`; what it prints at the end. `None`, said aloud, where `tests/run` has not installed it.
async fn run(program: &str, args: &[String]) -> Option<String> {
    let root = root();
    let mut command = if let Some(script) = program.strip_suffix(".py") {
        let python = root.join("target/venv/bin/python3");
        if !python.is_file() || !root.join("target/venv/bin/aws").is_file() {
            println!("skipped: no clients of S3 in target/venv; tests/run installs them");
            return None;
        }
        let mut command = Command::new(python);
        command.arg(root.join(format!("tests/s3/{script}.py")));
        command
    } else if program == "javascript" {
        let main = root.join("target/s3/javascript/main.mjs");
        if !main.is_file() {
            println!("skipped: no SDK for JavaScript in target/s3; tests/run installs it");
            return None;
        }
        let mut command = Command::new("node");
        command.arg(main);
        command
    } else {
        let main = root.join("target/s3").join(program);
        if !main.is_file() {
            println!("skipped: no {program} in target/s3; tests/run builds it");
            return None;
        }
        Command::new(main)
    };
    command.args(args).kill_on_drop(true);
    // What the other clients of this machine are told must not be heard here.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}\n{said}\n{errors}");
    let last = said.lines().last().unwrap_or_default();
    println!("{program}: {last}");
    Some(last.to_owned())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The number before the word.
fn number(said: &str, word: &str) -> usize {
    let words: Vec<&str> = said.split([' ', ',']).collect();
    let at = words.iter().position(|it| *it == word).unwrap();
    words[at - 1].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_answers_as_s3_itself_does() {
    let Some((weed, gateways)) = Box::pin(before_weed()).await else {
        return;
    };
    let mut args = words(&format!(
        "--falcon --direct {} --bucket bucket --versions versions --domain s3.test",
        weed.endpoint()
    ));
    args.extend(gateways.ways());
    args.extend(gateways.blob_ways());
    if let Some(said) = run("differential.py", &args).await {
        assert!(number(&said, "passed") >= 1300, "{said}");
        assert_eq!(number(&said, "skipped"), 0, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_knows_a_key_exactly() {
    let s3 = S3::start().await;
    let gateways = Box::pin(Gateways::before(&s3.endpoint())).await;
    let mut args = words(&format!(
        "--falcon --origin exact --direct {} --bucket bucket",
        s3.endpoint()
    ));
    args.extend(gateways.ways());
    if let Some(said) = run("differential.py", &args).await {
        assert!(number(&said, "passed") >= 100, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_of_aws_works_through_a_gateway() {
    let Some((_weed, gateways)) = Box::pin(before_weed()).await else {
        return;
    };
    let args = words(&format!(
        "--endpoint {} --bucket bucket",
        gateways.gateway(0)
    ));
    run("cli.py", &args).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_frames_read_their_columns_and_s3_no_other_blocks() {
    let Some((weed, gateways)) = Box::pin(before_weed()).await else {
        return;
    };
    let mut args = words(&format!(
        "--endpoint {} --bucket bucket --direct {}",
        gateways.gateway(0),
        weed.endpoint()
    ));
    for node in gateways.ring.nodes.iter().chain([&gateways.sidecar]) {
        args.push("--metrics".to_owned());
        args.push(format!("{}/metrics", node.admin));
    }
    run("dataframes.py", &args).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_for_go_and_javascript_work_through_a_gateway() {
    let Some((_weed, gateways)) = Box::pin(before_weed()).await else {
        return;
    };
    for program in ["go", "javascript"] {
        let args = words(&format!("{} bucket {KEY_ID} {SECRET}", gateways.gateway(1)));
        run(program, &args).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_writes_are_seen_at_once_at_every_gateway() {
    let Some(weed) = Weed::start().await else {
        return;
    };
    weed.create_bucket("bucket").await;
    let flags = ["--s3-auth=none", LONG_ENOUGH];
    let ring = Ring::start(&weed.endpoint(), 3, &flags).await;
    let sidecar = ring.sidecar(&flags).await;
    let mut args = words(&format!(
        "--rounds 1000 --write {} --bucket bucket",
        ring.nodes[0].s3
    ));
    for node in ring.nodes.iter().chain([&sidecar]) {
        args.extend(words(&format!("--s3 {} --blob {}", node.s3, node.url)));
    }
    run("rounds.py", &args).await;
}
