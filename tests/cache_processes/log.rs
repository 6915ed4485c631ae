//! A node's log that nobody takes.

use std::process::Stdio;

use crate::harness::http;
use crate::harness::node::{Process, free_ports};
use crate::harness::s3::S3;

/// Far more than a pipe holds, at a line a request.
const REQUESTS: u32 = 2_000;

#[tokio::test]
async fn a_log_that_nobody_takes_holds_up_no_reader() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "value");
    let port = free_ports(1)[0];
    let flags = [
        format!("--port={port}"),
        "--admin-port=0".to_owned(),
        "--bucket=bucket".to_owned(),
        format!("--s3-endpoint={}", s3.endpoint()),
        "--log-level=debug".to_owned(),
    ];
    let Some(node) = Process::spawn(port, &flags, Stdio::piped()) else {
        return;
    };
    node.ready().await;
    for _ in 0..REQUESTS {
        let answer = http::get(&format!("{}/get?key=key", node.url)).await;
        assert_eq!(answer.text(), "value");
    }
}
