//! Writing through the cache: uploads to S3 and what is kept of them, lists, prewarms.

use falcon_cache::store::Kind;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::http::{self as client, Answer, encoded, upload, upload_all};
use crate::harness::node::{MOMENT, Ring, TestNode};
use crate::harness::s3::{Fault, Gate, S3};
use crate::harness::until;

const MIB: usize = 1 << 20;

/// So many bytes; they repeat after a prime number, so that no two blocks are the same.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    let piece = (0..1009).map(|at| u8::try_from((at * 31 + at / 7 + seed * 101) % 256).unwrap());
    let mut bytes = piece.collect::<Vec<u8>>().repeat(length / 1009 + 1);
    bytes.truncate(length);
    bytes
}

fn url(node: &TestNode, path: &str) -> String {
    format!("{}{path}", node.url)
}

async fn whole(method: Method, url: &str) -> Answer {
    client::whole(client::request(method, url, &[]))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_size_arrive_whole_from_one_form() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
    let sizes = [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB];
    let files: Vec<_> = (0..5)
        .map(|i| (format!("file {i}"), bytes(i, sizes[i])))
        .collect();
    let form: Vec<(&str, &[u8])> = files.iter().map(|(name, b)| (&**name, &**b)).collect();
    let answer = upload_all(&url(&ring.nodes[0], "/upload?path=in/"), &form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["invalidation"]["complete"], true);
    for (i, (name, bytes)) in files.iter().enumerate() {
        let key = format!("in/{name}");
        let stored = s3.stored("bucket", &key).unwrap();
        let told = &json["files"][i];
        assert_eq!(told["key"], key);
        assert_eq!(told["size"], bytes.len());
        assert_eq!(told["etag"], format!("\"{}\"", stored.etag));
        assert!(s3.get("bucket", &key).unwrap() == bytes[..], "{key}");
        assert_eq!(
            stored.headers.content_type.as_deref(),
            Some("application/octet-stream")
        );
        for node in &ring.nodes {
            assert!(node.get(&key).await.body == bytes[..], "{key}");
        }
    }
    assert!(s3.unfinished().is_empty());
    // What fits into the buffer is one request.
    assert_eq!(s3.count("PutObject"), 3, "{:?}", s3.counts());
    assert_eq!(s3.count("UploadPart"), 2 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_what_was_given_to_the_last_byte() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &["--cache-on-write"]).await;
    let long = "l".repeat(1000);
    for path in ["", "p/", "../", "%2F", "ä b+c&d=e/"] {
        for name in [
            "a#b",
            "a//b",
            "../x",
            "%2F",
            "%",
            " a b ",
            "a+b",
            "a?b&c=d",
            "grüße 名",
            "./.",
            "a;b",
            "~",
            &long,
        ] {
            let key = format!("{path}{name}");
            let to = format!("/upload?path={}", encoded(path));
            let answer = upload(&url(&ring.nodes[0], &to), name, key.as_bytes()).await;
            assert_eq!(answer.status, 200, "{key:?}: {}", answer.text());
            assert_eq!(answer.json()["files"][0]["key"], *key);
            let stored = s3.get("bucket", &key);
            assert_eq!(stored.as_deref(), Some(key.as_bytes()), "{key:?}");
            for node in &ring.nodes {
                assert_eq!(node.get(&key).await.text(), key);
            }
            let gone = format!("/delete?key={}", encoded(&key));
            let answer = whole(Method::DELETE, &url(&ring.nodes[1], &gone)).await;
            assert_eq!(
                (answer.status.as_u16(), s3.get("bucket", &key)),
                (200, None)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_s3_refuses_does_not_spoil_the_others() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let node = &ring.nodes[0];
    s3.put("bucket", "b", "before");
    assert_eq!(node.get("b").await.text(), "before");
    s3.fault(Fault::status(403, "AccessDenied").on("bucket", "b"));
    let big = bytes(1, 20 * MIB);
    for middle in [&b"2"[..], &big] {
        let form = [("a", &b"1"[..]), ("b", middle), ("c", &b"3"[..])];
        let answer = upload_all(&url(node, "/upload"), &form).await;
        assert_eq!(answer.status, 207, "{}", answer.text());
        let files = &answer.json()["files"];
        assert_eq!(
            (&files[0]["size"], &files[2]["size"]),
            (&1.into(), &1.into())
        );
        assert_eq!(
            (&files[1]["key"], &files[1]["code"]),
            (&"b".into(), &"AccessDenied".into())
        );
        for (key, text) in [("a", "1"), ("b", "before"), ("c", "3")] {
            assert_eq!(s3.get("bucket", key).as_deref(), Some(text.as_bytes()));
            assert_eq!(node.get(key).await.text(), text);
        }
    }
    // Alone it is no partial failure.
    let answer = upload(&url(node, "/upload"), "b", b"2").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (403, &"AccessDenied".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_upload_that_s3_breaks_off_leaves_nothing_behind() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let bytes = bytes(0, 20 * MIB);
    for op in ["UploadPart", "CompleteMultipartUpload"] {
        let gate = Gate::new();
        s3.fault(Fault::hold_answer(&gate).of("UploadPart").times(1));
        let (to, file) = (url(&ring.nodes[0], "/upload"), bytes.clone());
        let uploading = tokio::spawn(async move { upload(&to, "key", &file).await });
        gate.reached(1).await;
        assert_eq!(s3.unfinished().len(), 1);
        s3.fault(Fault::status(403, "AccessDenied").of(op));
        gate.open();
        let answer = uploading.await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!(answer.json()["key"], "key");
        until("it was aborted", || async {
            s3.unfinished().is_empty().then_some(())
        })
        .await;
        assert_eq!(s3.get("bucket", "key"), None);
        s3.calm();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_no_parts_and_no_memory_behind() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--cache-on-write"]).await;
    let node = &ring.nodes[0];
    let mut socket = TcpStream::connect(node.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: falcon\r\nContent-Type: {}\r\nContent-Length: 100000000\r\n\r\n{}",
        client::form_type(),
        client::file_head("key")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&bytes(0, 12 * MIB)).await.unwrap();
    until("a part is at S3", || async {
        s3.unfinished()
            .first()
            .is_some_and(|upload| !upload.parts.is_empty())
            .then_some(())
    })
    .await;
    let budget = node.node.proxy().store().budget();
    assert_eq!(budget.used_by(Kind::Uploads), 8 * MIB as u64);
    drop(socket);
    until("it was aborted", || async {
        s3.unfinished().is_empty().then_some(())
    })
    .await;
    until("its memory is free", || async {
        let used = budget.used_by(Kind::Uploads) + budget.used_by(Kind::Fills);
        (used == 0).then_some(())
    })
    .await;
    assert_eq!(s3.get("bucket", "key"), None);
    assert_eq!(s3.count("CompleteMultipartUpload"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_one_time_take_a_buffer_each_and_leave_memory_to_readers() {
    let s3 = S3::start().await;
    for flags in [
        &["--max-cache-size=64"][..],
        &["--max-cache-size=64", "--cache-on-write"][..],
    ] {
        let ring = Ring::start(&s3.endpoint(), 1, flags).await;
        let budget = ring.nodes[0].node.proxy().store().budget();
        let gate = Gate::new();
        s3.fault(Fault::hold(&gate).of("UploadPart").times(4));
        let uploads = (0..4).map(|i| {
            let to = url(&ring.nodes[0], "/upload");
            tokio::spawn(async move { upload(&to, &format!("key-{i}"), &bytes(i, 20 * MIB)).await })
        });
        let uploads: Vec<_> = uploads.collect();
        gate.reached(4).await;
        assert_eq!(budget.used_by(Kind::Uploads), 4 * 8 * MIB as u64);
        // However slow they are, a reader finds memory.
        s3.put("bucket", "other", bytes(9, 20 * MIB));
        let read = ring.nodes[0].get("other").await;
        assert_eq!(read.status, 200, "{}", read.text());
        assert!(read.body == bytes(9, 20 * MIB));
        gate.open();
        for (i, upload) in uploads.into_iter().enumerate() {
            let answer = upload.await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let key = format!("key-{i}");
            assert!(s3.get("bucket", &key).unwrap() == bytes(i, 20 * MIB));
            let read = ring.nodes[0].get(&key).await;
            assert_eq!(read.status, 200, "{flags:?} {i}: {}", read.text());
            assert!(
                read.body == bytes(i, 20 * MIB),
                "{flags:?} {i}: {}",
                read.body.len()
            );
        }
        assert!(budget.peak() <= budget.limit());
        assert_eq!(budget.used_by(Kind::Uploads), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_cache_refuses_to_write() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--read-only"]).await;
    let node = &ring.nodes[0];
    s3.put("bucket", "key", "bytes");
    for answer in [
        upload(&url(node, "/upload"), "key", b"new").await,
        whole(Method::DELETE, &url(node, "/delete?key=key")).await,
        whole(Method::DELETE, &url(node, "/delete?prefix=k")).await,
    ] {
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (403, &"ReadOnly".into())
        );
    }
    assert!(s3.counts().is_empty(), "{:?}", s3.counts());
    assert_eq!(node.get("key").await.text(), "bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_is_read_without_asking_s3_for_its_bytes() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--cache-on-write"]).await;
    for (i, size) in [0, 5, 3 * MIB, 8 * MIB, 20 * MIB, 20 * MIB + 7]
        .into_iter()
        .enumerate()
    {
        let key = format!("key-{i}");
        for version in 0..3 {
            let bytes = bytes(version, size);
            let answer = upload(&url(&ring.nodes[version], "/upload"), &key, &bytes).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            for node in &ring.nodes {
                let answer = node.get(&key).await;
                assert!(answer.body == bytes, "{key}, {version}");
                if size > 0 && version > 0 {
                    assert_eq!(answer.header("content-length"), size.to_string());
                }
            }
        }
    }
    assert_eq!(s3.count("GetObject"), 0, "{:?}", s3.counts());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_of_an_upload_gives_way_to_what_others_write() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--cache-on-write"]).await;
    for round in 0..10 {
        for (writer, text) in [(round % 3, "first"), ((round + 1) % 3, "second")] {
            let text = format!("{round} {text}");
            upload(&url(&ring.nodes[writer], "/upload"), "key", text.as_bytes()).await;
        }
        let last = format!("{round} second");
        for node in &ring.nodes {
            assert_eq!(node.get("key").await.text(), last);
        }
        s3.put("bucket", "key", format!("{round} behind"));
        let answer = client::post(&url(&ring.nodes[round % 3], "/invalidate?key=key")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for node in &ring.nodes {
            assert_eq!(node.get("key").await.text(), format!("{round} behind"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_overwritten_before_it_is_kept_is_never_served() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--cache-on-write"]).await;
    let gate = Gate::new();
    // S3 has the upload, and says so late: by then another has been answered.
    s3.fault(Fault::hold_answer(&gate).of("PutObject").times(1));
    let to = url(&ring.nodes[0], "/upload");
    let first = tokio::spawn(async move { upload(&to, "key", b"first").await });
    gate.reached(1).await;
    upload(&url(&ring.nodes[1], "/upload"), "key", b"second").await;
    for node in &ring.nodes {
        assert_eq!(node.get("key").await.text(), "second");
    }
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    for node in &ring.nodes {
        assert_eq!(node.get("key").await.text(), "second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_larger_than_what_is_stored_is_not_kept() {
    let s3 = S3::start().await;
    let flags = [
        "--cache-on-write",
        "--max-blob-size=10",
        "--block-size=16384",
    ];
    let ring = Ring::start(&s3.endpoint(), 2, &flags).await;
    // Parts of 8 MiB are no whole blocks of 16.
    for (key, size) in [("large", 20 * MIB), ("no blocks", 9 * MIB)] {
        let bytes = bytes(3, size);
        let answer = upload(&url(&ring.nodes[0], "/upload"), key, &bytes).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for node in &ring.nodes {
            let used = node.node.proxy().store().budget();
            assert_eq!(used.used_by(Kind::Fills) + used.used_by(Kind::Blocks), 0);
        }
        assert!(ring.nodes[1].get(key).await.body == bytes);
        client::post(&url(&ring.nodes[0], "/invalidate?all=true")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_or_as_lines_of_all() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let keys: Vec<String> = (0..2345).map(|i| format!("dir/ä {i:04}")).collect();
    for key in &keys {
        s3.put("bucket", key, key.clone());
    }
    s3.put("bucket", "elsewhere", "");
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("/list?prefix=dir%2F&limit=700&cursor={}", encoded(&cursor));
        let json = client::get(&url(&ring.nodes[0], &page)).await.json();
        let objects = json["objects"].as_array().unwrap();
        assert!(objects.len() <= 700);
        found.extend(objects.clone());
        match json["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let all = url(&ring.nodes[0], "/list?prefix=dir%2F");
    let lines = client::get_with(&all, &[("accept", "application/x-ndjson")]).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let text = lines.text();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(lines.collect::<Vec<serde_json::Value>>(), found);
    assert_eq!(found.len(), keys.len());
    for (object, key) in found.iter().zip(&keys) {
        let stored = s3.stored("bucket", key).unwrap();
        assert_eq!(object["key"], *key);
        assert_eq!(object["size"], key.len());
        assert_eq!(object["etag"], format!("\"{}\"", stored.etag));
        assert!(object["last_modified"].as_str().unwrap().ends_with('Z'));
    }
}

async fn ended(node: &TestNode, id: &str) -> serde_json::Value {
    until("the prewarm has ended", || async {
        let json = client::get(&url(node, &format!("/prewarm/{id}")))
            .await
            .json();
        (json["state"] != "running").then_some(json)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prewarm_reads_each_byte_once_and_readers_then_cost_s3_nothing() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let mut keys = Vec::new();
    for (i, size) in [0, 1, MIB, 3 * MIB + 5, 40 * MIB].into_iter().enumerate() {
        for copy in 0..3 {
            let key = format!("warm/{i}-{copy}");
            s3.put("bucket", &key, bytes(i + copy, size));
            keys.push((key, bytes(i + copy, size)));
        }
    }
    let total: usize = keys.iter().map(|(_, bytes)| bytes.len()).sum();
    let answer = client::post(&url(&ring.nodes[1], "/prewarm?prefix=warm%2F")).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let json = ended(&ring.nodes[1], answer.json()["id"].as_str().unwrap()).await;
    assert_eq!(json["state"], "done", "{json}");
    assert_eq!(
        json["objects"],
        serde_json::json!({"done": 15, "failed": 0, "total": 15})
    );
    assert_eq!(
        json["bytes"],
        serde_json::json!({"done": total, "total": total})
    );
    for (key, _) in keys.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        s3.assert_read_once("bucket", key);
    }
    let blocks: u64 = keys
        .iter()
        .map(|(_, bytes)| bytes.len().div_ceil(MIB) as u64)
        .sum();
    let held = ring
        .nodes
        .iter()
        .map(|node| node.node.proxy().store().stats());
    assert_eq!(held.map(|stats| stats.blocks).sum::<u64>(), blocks);
    s3.forget_requests();
    for (key, bytes) in &keys {
        for node in &ring.nodes {
            let answer = node.get(key).await;
            assert!(answer.body == bytes[..], "{key}");
            let source = answer.source();
            assert!(["memory", "peer"].contains(&source), "{key}: {source}");
        }
    }
    assert!(s3.counts().is_empty(), "{:?}", s3.counts());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prewarm_tells_its_progress_and_can_be_ended() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
    let keys: Vec<String> = (0..100).map(|i| format!("key-{i:02}")).collect();
    for key in &keys {
        s3.put("bucket", key, key.clone());
    }
    let gate = Gate::new();
    // One early, and from the sixtieth on all that run at a time.
    for key in keys[10..=10].iter().chain(&keys[60..]) {
        s3.fault(Fault::hold(&gate).of("GetObject").on("bucket", key));
    }
    let mut list: Vec<&str> = keys.iter().map(String::as_str).collect();
    list.insert(0, "absent");
    let request = http::Request::post(url(&ring.nodes[0], "/prewarm"));
    let request = request
        .body(serde_json::to_vec(&list).unwrap().into())
        .unwrap();
    let begun = client::whole(request).await.unwrap();
    assert_eq!(begun.status, 202, "{}", begun.text());
    let job = url(
        &ring.nodes[0],
        &format!("/prewarm/{}", begun.json()["id"].as_str().unwrap()),
    );
    gate.reached(1).await;
    let json = until("most are done", || async {
        let json = client::get(&job).await.json();
        (json["objects"]["done"].as_u64().unwrap() >= 20).then_some(json)
    })
    .await;
    assert_eq!(
        (&json["state"], &json["objects"]["total"]),
        (&"running".into(), &101.into())
    );
    assert_eq!(json["objects"]["failed"], 1);
    assert_eq!(json["failed"][0]["key"], "absent");
    gate.reached(4).await;
    let answer = whole(Method::DELETE, &job).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["state"]),
        (200, &"cancelled".into())
    );
    let asked = s3.count("GetObject");
    gate.open();
    s3.calm();
    until("those that ran are finished", || async {
        let running = ring
            .nodes
            .iter()
            .map(|node| node.node.proxy().fills().len());
        (running.sum::<usize>() == 0).then_some(())
    })
    .await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(
        s3.count("GetObject"),
        asked,
        "it went on after it was ended"
    );
    assert_eq!(client::get(&job).await.json()["state"], "cancelled");
    let answer = whole(Method::GET, &url(&ring.nodes[1], "/prewarm/unknown")).await;
    assert_eq!(answer.status, 404);
}
