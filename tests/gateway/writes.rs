//! What a write may have done, what follows it, and what its client hears: the table of ARCHITECTURE.md, walked through
//! both APIs.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::http::{self as plain, Answer};
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::{Content, Fault, Gate, S3, StoredHeaders};
use crate::harness::until;

const OLD: &str = "old bytes";

/// A writing request, and how it is treated.
struct Write {
    /// S3's name of the request that decides.
    op: &'static str,
    /// As it is told in a failed assertion.
    name: &'static str,
    /// It is sent again where its outcome is not known.
    again: bool,
    send: Send,
}

/// How it is sent.
enum Send {
    /// Through the S3 gateway: method, target, headers, body.
    Gateway(
        Method,
        &'static str,
        &'static [(&'static str, &'static str)],
        Bytes,
    ),
    /// Parts, and then the request that joins them, through the S3 gateway.
    Complete,
    /// A form with one file of so many bytes.
    Upload(usize),
    /// `DELETE /delete` with this query.
    Delete(&'static str),
}

const CHUNKED: &[(&str, &str)] = &[
    ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
    ("x-amz-decoded-content-length", "11"),
    ("x-amz-trailer", "x-amz-checksum-crc32"),
    ("content-encoding", "aws-chunked"),
];

/// Every way to write, once. `{etag}` in a header stands for the tag of what is stored.
#[expect(clippy::too_many_lines, reason = "a table")]
fn writes() -> Vec<Write> {
    let write = |op, name, again, send| Write {
        op,
        name,
        again,
        send,
    };
    let gateway = |op, name, again, method, target, headers, body: &'static [u8]| {
        let send = Send::Gateway(method, target, headers, Bytes::from_static(body));
        write(op, name, again, send)
    };
    let key = "/bucket/key";
    let list = b"<Delete><Object><Key>key</Key></Object></Delete>";
    let large = Bytes::from(vec![b'n'; 100_000]);
    let chunked = b"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    let if_match: &[_] = &[("if-match", "{etag}")];
    let source: &[_] = &[("x-amz-copy-source", "/bucket/source")];
    vec![
        gateway(
            "PutObject",
            "small PUT",
            true,
            Method::PUT,
            key,
            &[],
            b"new",
        ),
        gateway("PutObject", "empty PUT", true, Method::PUT, key, &[], b""),
        gateway(
            "PutObject",
            "PUT with If-Match",
            false,
            Method::PUT,
            key,
            if_match,
            b"new",
        ),
        write(
            "PutObject",
            "streamed PUT",
            false,
            Send::Gateway(Method::PUT, key, &[], large),
        ),
        gateway(
            "PutObject",
            "aws-chunked PUT",
            false,
            Method::PUT,
            key,
            CHUNKED,
            chunked,
        ),
        gateway("CopyObject", "copy", false, Method::PUT, key, source, b""),
        write("CompleteMultipartUpload", "complete", false, Send::Complete),
        gateway(
            "DeleteObject",
            "DELETE",
            true,
            Method::DELETE,
            key,
            &[],
            b"",
        ),
        gateway(
            "DeleteObject",
            "DELETE with If-Match",
            false,
            Method::DELETE,
            key,
            if_match,
            b"",
        ),
        gateway(
            "DeleteObjects",
            "delete of many",
            false,
            Method::POST,
            "/bucket?delete",
            &[],
            list,
        ),
        write(
            "PutObject",
            "/upload of a small file",
            true,
            Send::Upload(10),
        ),
        write(
            "CompleteMultipartUpload",
            "/upload in parts",
            false,
            Send::Upload(9 << 20),
        ),
        write(
            "DeleteObject",
            "/delete of a key",
            true,
            Send::Delete("key=key"),
        ),
        write(
            "DeleteObjects",
            "/delete of a prefix",
            true,
            Send::Delete("prefix=ke"),
        ),
    ]
}

async fn sent(
    node: &TestNode,
    method: &Method,
    target: &str,
    headers: &[(&str, String)],
    body: Bytes,
) -> Answer {
    let request = asked(node, method, target, headers, body);
    plain::whole(request).await.unwrap()
}

fn asked(
    node: &TestNode,
    method: &Method,
    target: &str,
    headers: &[(&str, String)],
    body: Bytes,
) -> Request<Bytes> {
    let url = format!("{}{target}", node.s3);
    let mut request = Request::builder().method(method.clone()).uri(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request.body(body).unwrap()
}

impl Write {
    /// The request that decides, through the S3 gateway.
    async fn request(&self, s3: &S3, node: &TestNode) -> Request<Bytes> {
        match &self.send {
            Send::Gateway(method, target, headers, body) => {
                let etag = format!("\"{}\"", s3.stored("bucket", "key").unwrap().etag);
                let headers = headers.iter();
                let headers: Vec<_> = headers
                    .map(|(name, value)| (*name, value.replace("{etag}", &etag)))
                    .collect();
                asked(node, method, target, &headers, body.clone())
            }
            Send::Complete => {
                let target = "/bucket/key?uploads";
                let begun = sent(node, &Method::POST, target, &[], Bytes::new()).await;
                let text = begun.text();
                let (_, rest) = text.split_once("<UploadId>").unwrap();
                let (id, _) = rest.split_once('<').unwrap();
                let part = format!("/bucket/key?partNumber=1&uploadId={id}");
                let part = sent(node, &Method::PUT, &part, &[], "new".into()).await;
                let list = format!(
                    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
                    part.header("etag")
                );
                let target = format!("/bucket/key?uploadId={id}");
                asked(node, &Method::POST, &target, &[], list.into())
            }
            Send::Upload(_) | Send::Delete(_) => unreachable!("it goes through the blob API"),
        }
    }

    /// The head of the answer, and its body as it comes.
    async fn begun(
        &self,
        s3: &S3,
        node: &TestNode,
        fault: Fault,
    ) -> (http::response::Parts, Incoming) {
        let request = self.request(s3, node).await;
        s3.fault(fault.of(self.op));
        plain::send(request).await.unwrap().into_parts()
    }

    /// The answer; `fault` is in force from the request on that decides.
    async fn done(&self, s3: &S3, node: &TestNode, fault: Option<Fault>) -> Answer {
        let fault = || {
            if let Some(fault) = &fault {
                s3.fault(fault.clone().of(self.op));
            }
        };
        match &self.send {
            Send::Gateway(..) | Send::Complete => {
                let request = self.request(s3, node).await;
                fault();
                plain::whole(request).await.unwrap()
            }
            Send::Upload(length) => {
                fault();
                let url = format!("{}/upload", node.url);
                plain::upload(&url, "key", &vec![b'n'; *length]).await
            }
            Send::Delete(query) => {
                fault();
                let url = format!("{}/delete?{query}", node.url);
                plain::whole(plain::request(Method::DELETE, &url, &[]))
                    .await
                    .unwrap()
            }
        }
    }
}

async fn ring() -> (S3, Ring) {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &["--s3-auth=none"]).await;
    s3.put("bucket", "source", "copied bytes");
    (s3, ring)
}

/// The old object is in every node's memory.
async fn warm(s3: &S3, ring: &Ring) {
    s3.calm();
    s3.put_with(
        "bucket",
        "key",
        Content::Bytes(OLD.into()),
        StoredHeaders::default(),
    );
    plain::post(&format!("{}/invalidate?all=true", ring.nodes[0].url)).await;
    for node in &ring.nodes {
        assert_eq!(node.get("key").await.text(), OLD);
    }
    s3.forget_requests();
}

/// Every node answers with what S3 holds.
async fn assert_current(s3: &S3, ring: &Ring, what: &str) {
    s3.calm();
    for node in &ring.nodes {
        let answer = node.get("key").await;
        match s3.get("bucket", "key") {
            Some(bytes) => assert!(answer.body == bytes, "{what}: {}", answer.text()),
            None => assert_eq!(answer.status, 404, "{what}: {}", answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_s3_did_raises_its_barrier_even_if_its_answer_is_lost() {
    let (s3, ring) = ring().await;
    let faults = [
        ("well", None),
        ("answer lost", Some(Fault::lose_answer())),
        (
            "500 after it was done",
            Some(Fault::status_after(500, "InternalError")),
        ),
        (
            "503 after it was done",
            Some(Fault::status_after(503, "SlowDown")),
        ),
    ];
    for (trouble, fault) in &faults {
        for write in writes() {
            warm(&s3, &ring).await;
            let what = format!("{}, {trouble}", write.name);
            let fault = fault.clone().map(|fault| fault.times(1));
            let failed = fault.is_some() && !write.again;
            let answer = write.done(&s3, &ring.nodes[0], fault.clone()).await;
            let said = answer.text();
            assert_eq!(
                answer.status.as_u16() >= 500,
                failed,
                "{what}: {} {said}",
                answer.status
            );
            let times = if fault.is_some() && write.again { 2 } else { 1 };
            assert_eq!(s3.count(write.op), times, "{what}");
            if failed && *trouble == "answer lost" {
                assert!(said.contains("OutcomeUnknown"), "{what}: {said}");
                assert!(
                    said.contains("may have carried out the write"),
                    "{what}: {said}"
                );
            }
            assert_current(&s3, &ring, &what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_does_not_prove_that_nothing_happened() {
    let (s3, ring) = ring().await;
    for write in writes().into_iter().filter(|write| write.again) {
        for (status, code) in [
            (412, "PreconditionFailed"),
            (404, "NoSuchUpload"),
            (403, "AccessDenied"),
        ] {
            warm(&s3, &ring).await;
            let what = format!("{}, {status} after a lost answer", write.name);
            s3.fault(Fault::lose_answer().of(write.op).times(1));
            let second = Fault::status(status, code).after(1);
            let answer = write.done(&s3, &ring.nodes[0], Some(second)).await;
            assert_eq!(s3.count(write.op), 2, "{what}");
            assert_eq!(answer.status, 502, "{what}: {}", answer.text());
            assert!(
                answer.text().contains("OutcomeUnknown"),
                "{what}: {}",
                answer.text()
            );
            assert_current(&s3, &ring, &what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_s3_refused_leaves_what_is_cached() {
    let (s3, ring) = ring().await;
    for write in writes() {
        for (status, code) in [
            (403, "AccessDenied"),
            (412, "PreconditionFailed"),
            (404, "NoSuchUpload"),
        ] {
            warm(&s3, &ring).await;
            let what = format!("{}, {status}", write.name);
            let fault = Fault::status(status, code);
            let answer = write.done(&s3, &ring.nodes[0], Some(fault)).await;
            assert!(
                answer.status.as_u16() >= 400,
                "{what}: {} {}",
                answer.status,
                answer.text()
            );
            assert_eq!(s3.count(write.op), 1, "{what}");
            s3.calm();
            if !matches!(write.send, Send::Delete("prefix=ke")) {
                for node in &ring.nodes {
                    let answer = node.get("key").await;
                    assert_eq!(
                        (answer.source(), answer.text().as_str()),
                        ("memory", OLD),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_did_not_reach_s3_raises_no_barrier() {
    let (s3, ring) = ring().await;
    warm(&s3, &ring).await;
    s3.stop().await;
    for write in writes() {
        if matches!(write.send, Send::Complete | Send::Delete("prefix=ke")) {
            continue;
        }
        let answer = write.done(&s3, &ring.nodes[0], None).await;
        assert_eq!(answer.status, 502, "{}: {}", write.name, answer.text());
        assert!(
            !answer.text().contains("OutcomeUnknown"),
            "{}: {}",
            write.name,
            answer.text()
        );
        for node in &ring.nodes {
            let answer = node.get("key").await;
            assert_eq!(
                (answer.source(), answer.text().as_str()),
                ("memory", OLD),
                "{}",
                write.name
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_and_lands_later_is_seen() {
    let s3 = S3::start().await;
    let flags = ["--s3-auth=none", "--timeout=500", "--ttl=0"];
    let ring = Ring::start(&s3.endpoint(), 2, &flags).await;
    warm(&s3, &ring).await;
    let gate = Gate::new();
    s3.fault(Fault::land(&gate).of("PutObject"));
    let target = "/bucket/key";
    let answer = sent(&ring.nodes[0], &Method::PUT, target, &[], "landed".into()).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(
        answer.text().contains("OutcomeUnknown"),
        "{}",
        answer.text()
    );
    s3.calm();
    for node in &ring.nodes {
        assert_eq!(node.get("key").await.text(), OLD);
    }
    gate.open();
    until("the write has landed", || async {
        (s3.get("bucket", "key")? == "landed").then_some(())
    })
    .await;
    for node in &ring.nodes {
        until("it is seen", || async {
            (node.get("key").await.text() == "landed").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_waited_for_and_a_silent_s3_is_not() {
    let s3 = S3::start().await;
    let flags = ["--s3-auth=none", "--timeout=250"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    let node = &ring.nodes[0];
    let mut socket = TcpStream::connect(node.s3.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = "PUT /bucket/key HTTP/1.1\r\nHost: falcon\r\nContent-Length: 40000\r\nConnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    // Twice as long as S3 may be silent.
    let mut tick = tokio::time::interval(Duration::from_millis(90));
    for _ in 0..40 {
        tick.tick().await;
        socket.write_all(&[b's'; 1000]).await.unwrap();
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(s3.get("bucket", "key").unwrap().len(), 40_000);

    let gate = Gate::new();
    s3.fault(Fault::hold(&gate).of("PutObject"));
    let large = Bytes::from(vec![b'l'; 40_000]);
    let answer = sent(node, &Method::PUT, "/bucket/key", &[], large).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_are_passed_on_as_they_come_and_the_outcome_after_the_barrier() {
    let (s3, ring) = ring().await;
    for name in ["copy", "complete", "delete of many"] {
        warm(&s3, &ring).await;
        let writes = writes();
        let write = writes.iter().find(|write| write.name == name).unwrap();
        let gate = Gate::new();
        let (head, mut body) = write.begun(&s3, &ring.nodes[0], Fault::blanks(&gate)).await;
        assert_eq!(head.status, 200, "{name}");
        let blank = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(blank.iter().all(|byte| *byte == b' '), "{name}: {blank:?}");
        for node in &ring.nodes {
            // It is done at S3, and its client has not heard of it.
            assert_eq!(node.get("key").await.text(), OLD, "{name}");
        }
        gate.open();
        let rest = body.collect().await.unwrap().to_bytes();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("Result>"), "{name}: {rest}");
        assert_current(&s3, &ring, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_body_is_read_reaches_the_client_every_time() {
    let (s3, ring) = ring().await;
    warm(&s3, &ring).await;
    let large = Bytes::from(vec![b'l'; 8 << 20]);
    for round in 0..30 {
        for (status, code) in [
            (403, "AccessDenied"),
            (404, "NoSuchUpload"),
            (412, "PreconditionFailed"),
        ] {
            // 40,000 bytes are sent without asking first.
            for body in [large.clone(), large.slice(..40_000)] {
                let expects = [("expect", "100-continue".to_owned())];
                let headers = if round % 2 == 0 { &expects[..] } else { &[] };
                s3.fault(Fault::status_unread(status, code).of("PutObject").times(1));
                let answer = sent(&ring.nodes[0], &Method::PUT, "/bucket/key", headers, body).await;
                assert_eq!(answer.status, status, "{round}: {}", answer.text());
                assert!(answer.text().contains(code), "{round}: {}", answer.text());
                s3.calm();
            }
        }
    }
    assert_eq!(ring.nodes[0].get("key").await.text(), OLD);
}

/// The head of the one request that an S3 gets which stores whatever comes.
async fn seen(request: &[u8]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                if head.starts_with(b"PUT") {
                    sender.send(head).unwrap();
                }
                let answer = b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                socket.write_all(answer).await.ok();
            });
        }
    });
    let ring = Ring::start(&endpoint, 1, &["--s3-auth=none"]).await;
    let address = ring.nodes[0].s3.trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    heads.recv().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_sees_what_it_knows_of_a_head_byte_for_byte_and_nothing_else() {
    let request = b"PUT /bucket/key HTTP/1.1\r\nHost: falcon\r\nContent-Length: 0\r\nConnection: close\r\n\
        X-Forwarded-For: 10.0.0.1\r\nVia: 1.1 ingress\r\ntraceparent: 00-1-2-01\r\nCookie: a=b\r\n\
        Content-Disposition: attachment; filename=\"r\xe9sum\xe9.txt\"\r\nx-amz-meta-name: r\xc3\xa9sum\xc3\xa9\r\n\r\n";
    let head = seen(request).await;
    let shown = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(shown.contains("\r\ncontent-length: 0\r\n"), "{shown}");
    for name in ["x-forwarded-for", "via", "traceparent", "cookie"] {
        assert!(!shown.contains(&format!("\r\n{name}:")), "{name}: {shown}");
    }
    let holds = |bytes: &[u8]| head.windows(bytes.len()).any(|at| at == bytes);
    assert!(
        holds(b"attachment; filename=\"r\xe9sum\xe9.txt\""),
        "{shown}"
    );
    assert!(holds("résumé\r\n".as_bytes()), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_contradicts_its_head_is_refused_and_not_stored() {
    let (s3, ring) = ring().await;
    let chunked = b"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    for (length, checksum) in [("10", "crc32"), ("12", "crc32"), ("11", "sha256")] {
        warm(&s3, &ring).await;
        let headers = [
            (
                "x-amz-content-sha256",
                "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
            ),
            ("x-amz-decoded-content-length", length.to_owned()),
            ("x-amz-trailer", format!("x-amz-checksum-{checksum}")),
        ];
        let body = Bytes::from_static(chunked);
        let answer = sent(&ring.nodes[0], &Method::PUT, "/bucket/key", &headers, body).await;
        assert_eq!(
            answer.status,
            400,
            "{length}, {checksum}: {}",
            answer.text()
        );
        assert_eq!(
            s3.get("bucket", "key").unwrap(),
            OLD,
            "{length}, {checksum}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_body_after_an_early_answer_is_no_request() {
    let s3 = S3::start().await;
    let flags = ["--s3-auth=none", "--timeout=100"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    s3.put("bucket", "other", "bytes");
    let gate = Gate::new();
    s3.fault(Fault::hold(&gate).of("PutObject"));
    let address = ring.nodes[0].s3.trim_start_matches("http://").to_owned();
    let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
    let writer = tokio::spawn(async move {
        let head = "PUT /bucket/key HTTP/1.1\r\nHost: falcon\r\nContent-Length: 100000000\r\n\r\n";
        let next = "GET /bucket/other HTTP/1.1\r\nHost: falcon\r\n\r\n";
        let mut sent = writing.write_all(head.as_bytes()).await;
        // Never all of the body: what follows its end would be requests.
        for _ in 0..90_000_000 / next.len() {
            if sent.is_err() {
                return;
            }
            sent = writing.write_all(next.as_bytes()).await;
        }
    });
    let mut answers = Vec::new();
    // A reset after the answer is an end, too.
    drop(reading.read_to_end(&mut answers).await);
    writer.await.unwrap();
    let answers = String::from_utf8_lossy(&answers);
    assert!(answers.starts_with("HTTP/1.1 504"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_take_longer_than_the_first_byte_of_a_read() {
    let s3 = S3::start().await;
    let flags = ["--s3-auth=none", "--timeout=1000"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    s3.put("bucket", "source", "copied bytes");
    for write in writes() {
        s3.put("bucket", "key", OLD);
        s3.forget_requests();
        s3.calm();
        let late = Fault::delay(Duration::from_millis(1_500));
        let answer = write.done(&s3, &ring.nodes[0], Some(late)).await;
        assert!(
            answer.status.is_success(),
            "{}: {}",
            write.name,
            answer.text()
        );
        assert_eq!(s3.count(write.op), 1, "{}", write.name);
    }
}
