//! The first Falcon's README, word for word: three processes on one machine, its flags with its single dash, `curl`,
//! and an S3 that is not ours.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::http;
use crate::harness::node::{Process, binary, free_ports};
use crate::harness::until;
use crate::harness::weed::Weed;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn the_commands_of_the_originals_readme_work_word_for_word() {
    if binary().is_none() {
        println!("skipped: falcon-cache is not built beside the tests");
        return;
    }
    let Some(weed) = Weed::start().await else {
        return;
    };
    weed.create_bucket("test-bucket").await;
    let ports = free_ports(3);
    let peers: Vec<String> = ports
        .iter()
        .map(|port| format!("http://localhost:{port}"))
        .collect();
    let words = |port: u16| {
        format!(
            "-bucket test-bucket -peers {} -port {port} -s3-endpoint {}",
            peers.join(","),
            weed.endpoint()
        )
    };
    let mut nodes = Vec::new();
    for port in &ports {
        let flags: Vec<String> = words(*port).split(' ').map(str::to_owned).collect();
        nodes.push(Process::spawn(*port, &flags, Stdio::inherit()).unwrap());
    }
    for node in &nodes {
        node.ready().await;
    }
    all_serve(&nodes).await;

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.bin"), vec![b'a'; 3_000_000]).unwrap();
    std::fs::write(folder.path().join("b.txt"), "two").unwrap();
    let upload = format!(
        "curl -sS -F files=@a.bin -F files=@b.txt {}/upload",
        peers[0]
    );
    let uploaded = run(&upload, folder.path()).await;
    assert!(
        uploaded.contains("a.bin") && uploaded.contains("b.txt"),
        "{uploaded}"
    );

    for key in ["a.bin", "b.txt"] {
        let whole = std::fs::read(folder.path().join(key)).unwrap();
        let home = home(&peers[0], key).await;
        let other = peers.iter().find(|peer| **peer != home).unwrap();
        for (url, source) in [
            (&home, "origin"),
            (&home, "memory"),
            (other, "peer"),
            (other, "memory"),
        ] {
            let get = format!("curl -sS -D head -o body {url}/get?key={key}");
            run(&get, folder.path()).await;
            assert_eq!(said(folder.path()), source, "{get}");
            assert_eq!(
                std::fs::read(folder.path().join("body")).unwrap(),
                whole,
                "{get}"
            );
        }

        let invalidate = format!(
            "curl -sS -w %{{http_code}} -X POST {}/invalidate?key={key}",
            peers[2]
        );
        let answer = run(&invalidate, folder.path()).await;
        let (table, status) = answer.split_at(answer.len() - 3);
        let table: serde_json::Value = serde_json::from_str(table).unwrap();
        assert_eq!(
            (status, &table["complete"]),
            ("200", &true.into()),
            "{answer}"
        );
        assert_eq!(table["nodes"].as_array().unwrap().len(), 3, "{answer}");

        // Gone at all: the first asks S3, and what the next say comes from that, not from a copy of their own.
        for (url, source) in [(other, "origin"), (&home, "memory")] {
            run(
                &format!("curl -sS -D head -o body {url}/get?key={key}"),
                folder.path(),
            )
            .await;
            assert_eq!(said(folder.path()), source, "{key} at {url}");
        }
        let third = peers
            .iter()
            .find(|peer| *peer != other && **peer != home)
            .unwrap();
        run(
            &format!("curl -sS -D head -o body {third}/get?key={key}"),
            folder.path(),
        )
        .await;
        assert_eq!(said(folder.path()), "peer", "{key} at {third}");
    }
}

/// Waits until each sees all of them serve.
async fn all_serve(nodes: &[Process]) {
    for node in nodes {
        until("a ring that serves", || async {
            let ring = http::get(&format!("{}/ring", node.url)).await.json();
            let members = ring["members"].as_array().unwrap();
            (members.len() == nodes.len()
                && members.iter().all(|member| member["state"] == "serving"))
            .then_some(())
        })
        .await;
    }
}

async fn home(url: &str, key: &str) -> String {
    let ring = http::get(&format!("{url}/ring?key={key}")).await.json();
    ring["object"]["home"].as_str().unwrap().to_owned()
}

/// Runs a command line in that folder; what it printed.
async fn run(line: &str, folder: &Path) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(folder)
        .output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The word in `x-falcon-cache` of the answer whose head curl wrote to the file `head`.
fn said(folder: &Path) -> String {
    let head = std::fs::read_to_string(folder.join("head")).unwrap();
    let word = head
        .lines()
        .find_map(|line| line.strip_prefix("x-falcon-cache: "));
    word.unwrap_or_else(|| panic!("{head}")).trim().to_owned()
}
