//! `falcon-cache dev` as a newcomer meets it: every line that it prints, pasted.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::harness::DEADLINE;
use crate::harness::http;
use crate::harness::node::{command, free_ports};

/// A ring to play with.
struct Playground {
    child: Child,
    /// What it has printed.
    lines: Vec<String>,
}

impl Playground {
    /// Starts `falcon-cache dev` with its temporary files under `temporary`, and reads what it prints.
    async fn start(flags: &[&str], temporary: &Path) -> Option<Self> {
        let mut command = command()?;
        command.arg("dev").args(flags).env("TMPDIR", temporary);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines: Vec<String> = Vec::new();
        let story = async {
            while let Some(line) = printed.next_line().await.unwrap() {
                lines.push(line);
                if lines.last().unwrap().contains("Ctrl-C") {
                    return;
                }
            }
            panic!("it ended before its story: {lines:?}");
        };
        timeout(DEADLINE, story).await.unwrap();
        Some(Self { child, lines })
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The nodes' URLs.
    fn nodes(&self) -> Vec<&str> {
        let nodes = self.lines.iter().filter_map(|line| {
            let rest = line.trim().strip_prefix("node ")?;
            rest.split_whitespace().next()
        });
        nodes.collect()
    }

    /// Each line to paste, with the comment above it.
    fn to_paste(&self) -> Vec<(&str, &str)> {
        let pairs = self.lines.windows(2).filter_map(|pair| {
            let says = pair[0].trim().strip_prefix("# ")?;
            Some((says, pair[1].trim()))
        });
        pairs.collect()
    }

    /// The folder that the S3 serves.
    fn folder(&self) -> PathBuf {
        let line = self.lines.iter().find(|line| line.contains("(bucket"));
        let line = line.unwrap();
        let (_, rest) = line.split_once(", in ").unwrap();
        rest.split_once(',').unwrap().0.into()
    }

    /// Ctrl-C, and the exit code.
    async fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().unwrap().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", "INT", &id]).status().await.unwrap();
        assert!(sent.success());
        let ended = timeout(DEADLINE, self.child.wait()).await;
        ended.expect("it ends").unwrap().code()
    }
}

/// The word that a comment promises in `x-falcon-cache`: the first after its colon.
fn promised(says: &str) -> Option<&str> {
    let (_, rest) = says.split_once(": ")?;
    rest.split(',').next()
}

async fn paste(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_that_dev_prints_works_as_printed() {
    let temporary = tempfile::tempdir().unwrap();
    let port = free_ports(3)[0].to_string();
    let Some(dev) = Playground::start(&["--port", &port], temporary.path()).await else {
        return;
    };
    let lines = dev.to_paste();
    let mut sources = Vec::new();
    for (says, line) in &lines {
        let output = paste(line).await;
        if line.starts_with("curl -si ") {
            let found = output.lines().find_map(|header| {
                let (name, value) = header.split_once(": ")?;
                (name.eq_ignore_ascii_case("x-falcon-cache")).then_some(value.trim())
            });
            assert_eq!(found, promised(says), "{says}: {line}: {output}");
            assert!(output.contains("Read from S3 once"), "{output}");
            sources.push(found.unwrap().to_owned());
        } else if line.contains("/upload") {
            assert!(output.contains("hello.txt"), "{output}");
            let uploaded = http::get(&format!("{}/get?key=hello.txt", dev.nodes()[1])).await;
            assert_eq!(uploaded.text(), "hello\n");
        } else if line.contains("/invalidate") {
            let table: serde_json::Value = serde_json::from_str(&output).unwrap();
            assert_eq!(table["complete"], true, "{output}");
            assert_eq!(table["nodes"].as_array().unwrap().len(), 3, "{output}");
        } else if line.contains(" -r ") {
            assert_eq!(output, "Read from S3\n");
        } else if line.contains("/ring?") {
            let ring: serde_json::Value = serde_json::from_str(&output).unwrap();
            let home = ring["object"]["home"].as_str().unwrap();
            assert!(dev.nodes().contains(&home), "{output}");
        } else {
            panic!("a line that nobody expects: {line}");
        }
    }
    assert_eq!(
        sources,
        ["origin", "memory", "peer", "memory", "origin", "memory"]
    );
    assert_eq!(lines.len(), 10);
    assert!(!is_empty(temporary.path()));
    assert_eq!(dev.interrupt().await, Some(0));
    assert!(is_empty(temporary.path()), "a folder was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_moves_on_from_a_taken_port_and_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let ports = free_ports(5);
    let _taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1])).unwrap();
    let port = ports[0].to_string();
    let Some(dev) = Playground::start(&["--port", &port], temporary.path()).await else {
        return;
    };
    let expected = [ports[0], ports[2], ports[3]].map(|port| format!("http://localhost:{port}"));
    assert_eq!(dev.nodes(), expected);
    assert!(dev.text().contains("which were in use"), "{}", dev.text());
    let ring = http::get(&format!("{}/ring", expected[2])).await.json();
    assert_eq!(ring["members"].as_array().unwrap().len(), 3, "{ring}");
    assert_eq!(dev.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_over_a_folder_of_ones_own_is_kept_and_found_again() {
    let temporary = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("made/by/dev");
    let port = free_ports(1)[0].to_string();
    let flags = [
        "--nodes=1",
        "--port",
        &port,
        "--data",
        folder.to_str().unwrap(),
    ];
    let Some(dev) = Playground::start(&flags, temporary.path()).await else {
        return;
    };
    assert!(dev.text().contains("1 node and an S3"), "{}", dev.text());
    assert!(!dev.text().contains("which were in use"), "{}", dev.text());
    assert_eq!(dev.folder(), folder.canonicalize().unwrap());
    for (says, line) in dev.to_paste() {
        let output = paste(line).await;
        if line.starts_with("curl -si ") {
            let word = format!("x-falcon-cache: {}", promised(says).unwrap());
            assert!(output.to_lowercase().contains(&word), "{says}: {output}");
        }
    }
    assert_eq!(dev.interrupt().await, Some(0));
    assert!(is_empty(temporary.path()), "a folder was left behind");
    assert_eq!(
        std::fs::read_to_string(folder.join("falcon/hello.txt")).unwrap(),
        "hello\n"
    );

    let dev = Playground::start(&flags, temporary.path()).await.unwrap();
    let kept = http::get(&format!("{}/get?key=hello.txt", dev.nodes()[0])).await;
    assert_eq!((kept.source(), kept.text()), ("origin", "hello\n".into()));
    assert_eq!(dev.interrupt().await, Some(0));
}
