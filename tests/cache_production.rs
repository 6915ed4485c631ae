//! What a cache in production is asked beside objects: keys that change, odd requests, counters, logs.

use std::process::Stdio;

use ::http::{Method, StatusCode};
use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::harness::http::{self, encoded};
use crate::harness::node::{Process, Ring, binary, free_ports, metric};
use crate::harness::s3::{KEY_ID, S3, SECRET};
use crate::harness::until;

#[test]
fn the_documentation_lists_the_metrics_there_are() {
    let text = include_str!("../ARCHITECTURE.md");
    let (_, rest) = text.split_once("<!-- metrics -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- /metrics -->").unwrap();
    assert_eq!(table, falcon_cache::metrics::table());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_make_no_more_series_than_one() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let node = &ring.nodes[0];
    let series = async || {
        let text = http::get(&format!("{}/metrics", node.admin)).await.text();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    node.get("absent").await;
    series().await;
    let before = series().await;
    for i in (0..1000).step_by(50) {
        let keys: Vec<_> = (i..i + 50).map(|i| format!("absent-{i}")).collect();
        join_all(keys.iter().map(|key| node.get(key))).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let url = format!("{}/metrics", ring.nodes[0].admin);
    let plain = http::get(&url).await;
    assert!(plain.header("content-type").starts_with("text/plain"));
    assert!(!plain.text().contains("# EOF"));
    let open = http::get_with(&url, &[("accept", "application/openmetrics-text")]).await;
    assert!(
        open.header("content-type")
            .starts_with("application/openmetrics-text")
    );
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_id_or_gets_one_and_a_failure_names_it() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let url = format!("{}/get?key=absent", ring.nodes[0].url);
    let mine = http::get_with(&url, &[("x-request-id", "build/42")]).await;
    assert_eq!(mine.header("x-request-id"), "build/42");
    let error = mine.json();
    assert_eq!(
        (&error["code"], &error["key"], &error["bucket"]),
        (&"NoSuchKey".into(), &"absent".into(), &"bucket".into())
    );
    assert_eq!(error["request_id"], "build/42");
    let made = http::get(&url).await;
    assert_eq!(made.json()["request_id"], made.header("x-request-id"));
    assert!(!made.header("x-request-id").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_conditions_and_heads_are_answered_as_http_has_it() {
    let s3 = S3::start().await;
    let tag = s3.put("bucket", "key", "0123456789");
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let url = format!("{}/get?key=key", ring.nodes[0].url);
    let whole = http::get(&url).await;
    let date = whole.header("last-modified").to_owned();
    for (range, status, body) in [
        ("bytes=0-3", 206, "0123"),
        ("bytes=7-", 206, "789"),
        ("bytes=-2", 206, "89"),
        ("bytes=5-99", 206, "56789"),
        ("lines=1-2", 200, "0123456789"),
    ] {
        let answer = http::get_with(&url, &[("range", range)]).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.text()),
            (status, body),
            "{range}"
        );
    }
    let outside = http::get_with(&url, &[("range", "bytes=10-")]).await;
    assert_eq!(outside.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(outside.header("content-range"), "bytes */10");
    let old = "Mon, 01 Jan 2001 00:00:00 GMT";
    for (headers, status) in [
        (vec![("if-none-match", &*tag)], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (vec![("if-modified-since", &*date)], 304),
        (vec![("if-modified-since", old)], 200),
        (
            vec![
                ("if-none-match", "\"other\""),
                ("if-modified-since", &*date),
            ],
            200,
        ),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("if-match", &*tag)], 200),
        (vec![("range", "bytes=0-0"), ("if-range", &*tag)], 206),
        (vec![("range", "bytes=0-0"), ("if-range", "\"other\"")], 200),
        (vec![("range", "bytes=0-0"), ("if-range", old)], 200),
    ] {
        let answer = http::get_with(&url, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
    }
    let head = http::whole(http::request(Method::HEAD, &url, &[]))
        .await
        .unwrap();
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        ("10", &*tag)
    );
    assert!(head.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_keys_are_exact_from_upload_to_delete() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
    let long = "k".repeat(1024);
    let keys = [
        "a#b",
        "a//b",
        "../x",
        "%2F",
        "a b ",
        "schlüssel/日本",
        "a+b",
        &long,
    ];
    for key in keys {
        let tag = s3.put("bucket", key, key.to_owned());
        for node in &ring.nodes {
            let url = format!("{}/get?key={}", node.url, encoded(key));
            let answer = http::get(&url).await;
            assert_eq!(
                (answer.status, answer.text()),
                (StatusCode::OK, key.to_owned())
            );
            let head = http::whole(http::request(Method::HEAD, &url, &[]))
                .await
                .unwrap();
            assert_eq!(head.header("etag"), tag, "{key}");
        }
        s3.put("bucket", key, "new");
        let url = format!("{}/invalidate?key={}", ring.nodes[0].url, encoded(key));
        assert_eq!(http::post(&url).await.status, StatusCode::OK, "{key}");
        assert_eq!(ring.nodes[1].get(key).await.text(), "new", "{key}");
        let url = format!("{}/delete?key={}", ring.nodes[1].url, encoded(key));
        let deleted = http::whole(http::request(Method::DELETE, &url, &[]))
            .await
            .unwrap();
        assert_eq!(deleted.status, StatusCode::OK, "{key}: {}", deleted.text());
        assert!(s3.stored("bucket", key).is_none(), "{key}");
        assert_eq!(
            ring.nodes[0].get(key).await.status,
            StatusCode::NOT_FOUND,
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stand_still_cost_a_fast_one_nothing() {
    const STILL: usize = 1000;
    let s3 = S3::start().await;
    let size = 4 << 20;
    s3.put_synthetic("bucket", "large", 1, size);
    let ring = Ring::start(&s3.endpoint(), 1, &["--max-cache-size=64"]).await;
    let node = &ring.nodes[0];
    node.get("large").await;
    let address = node.url.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for _ in 0..STILL {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /get?key=large HTTP/1.1\r\nhost: falcon\r\n\r\n";
        stream.write_all(request).await.unwrap();
        held.push(stream);
    }
    for stream in &mut held {
        stream.read_exact(&mut [0; 12]).await.unwrap();
    }
    s3.put_synthetic("bucket", "other", 2, size);
    for key in ["large", "other"] {
        assert_eq!(node.get(key).await.body.len() as u64, size, "{key}");
    }
    let peak = metric(&node.admin, "falcon_memory_peak_bytes").await;
    assert!(peak <= f64::from(64 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_a_line_for_each_request_when_it_is_wanted() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "hello");
    for verbose in [true, false] {
        let Some(binary) = binary() else {
            println!("skipped: falcon-cache is not built beside the tests");
            return;
        };
        let ports = free_ports(2);
        let mut command = tokio::process::Command::new(binary);
        command.args([
            "--bucket=bucket",
            "--log-format=json",
            "--s3-region=us-east-1",
        ]);
        command.arg(format!("--s3-endpoint={}", s3.endpoint()));
        command
            .arg(format!("--port={}", ports[0]))
            .arg(format!("--admin-port={}", ports[1]));
        command.args(verbose.then_some("--verbose"));
        command
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let process = Process {
            url: format!("http://localhost:{}", ports[0]),
            child,
        };
        process.ready().await;
        let url = format!("{}/get?key=key", process.url);
        let answer = http::get_with(&url, &[("x-request-id", "mine")]).await;
        assert_eq!(answer.text(), "hello");
        process.signal("TERM").await;
        let mut mine = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["request_id"] == "mine" {
                mine.push(line);
            }
        }
        assert_eq!(mine.len(), usize::from(verbose), "{mine:#?}");
        for line in mine {
            assert_eq!(
                (&line["status"], &line["key"]),
                (&200.into(), &"key".into())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_to_s3_that_change_cost_no_request() {
    let s3 = S3::start().await;
    s3.demand(&[(KEY_ID, SECRET), ("new", "newer")]);
    let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
    for i in 0..400 {
        s3.put("bucket", &format!("key-{i}"), "x");
    }
    let load = async |from: usize| {
        for i in from..from + 100 {
            let answer = ring.nodes[i % 2].get(&format!("key-{i}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
    };
    load(0).await;
    tokio::join!(load(100), async {
        std::fs::write(ring.keys().join("access-key-id"), "new").unwrap();
        std::fs::write(ring.keys().join("secret-access-key"), "newer").unwrap();
    });
    // Both pairs hold while the nodes change over; then the old one is withdrawn.
    until("nodes that sign with the new key", || async {
        s3.demand(&[("new", "newer")]);
        let answer = ring.nodes[0].get("key-300").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    load(200).await;
}
