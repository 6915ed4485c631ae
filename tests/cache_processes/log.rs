//! A node's log that nobody takes.

use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use crate::harness::http;
use crate::harness::node::{Process, free_ports};
use crate::harness::s3::S3;

/// More than a pipe holds and the node keeps waiting, at a line a request.
const REQUESTS: u32 = 6_000;
/// For all of them, where the code is built to be debugged and the machine is busy.
const PATIENCE: Duration = Duration::from_mins(2);

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
    let url = format!("{}/get?key=key", node.url);
    let all = async {
        for _ in 0..REQUESTS {
            assert_eq!(http::get(&url).await.text(), "value");
        }
    };
    timeout(PATIENCE, all).await.expect("every one is answered");
}
