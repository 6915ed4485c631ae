//! S3 servers that others wrote, beside SeaweedFS: the gateways answer as each of them does, and outlive a restart of
//! it.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::{Gateways, before_weed, number, run, words};
use crate::gateway::client;
use crate::harness::http;
use crate::harness::servers::{Kind, Server};
use crate::harness::until;
use crate::harness::weed::{KEY_ID, SECRET, Weed};

/// The server with the bucket `bucket`, and gateways before it.
async fn before(kind: Kind) -> Option<(Server, Gateways)> {
    let server = Server::start(kind).await?;
    bucket(&server).await;
    let gateways = Box::pin(Gateways::before(&server.endpoint())).await;
    Some((server, gateways))
}

async fn bucket(server: &Server) {
    let s3 = client(&server.endpoint(), KEY_ID, SECRET);
    until("a bucket", || async {
        s3.create_bucket().bucket("bucket").send().await.ok()
    })
    .await;
}

async fn answers_as(kind: Kind) {
    let Some((server, gateways)) = Box::pin(before(kind)).await else {
        return;
    };
    let mut args = words(&format!(
        "--falcon --origin {} --direct {} --bucket bucket",
        kind.name(),
        server.endpoint()
    ));
    if kind != Kind::Versitygw {
        // What they list while something is being written makes them fail, now and then.
        args.extend(words("--jobs 1"));
    }
    if kind.has_versions() {
        args.extend(words("--versions versions"));
    }
    args.extend(gateways.ways());
    args.extend(gateways.blob_ways());
    if let Some(said) = run("differential.py", &args).await {
        assert!(number(&said, "passed") >= 500, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_answers_as_moto_does() {
    answers_as(Kind::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_answers_as_versitygw_does() {
    answers_as(Kind::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_answers_as_s3proxy_does() {
    answers_as(Kind::S3proxy).await;
}

/// An S3 that a test ends and starts again.
trait Restarts {
    async fn stop(&mut self);
    /// Whether what was stored is there again.
    async fn resume(&mut self) -> bool;
}

impl Restarts for Weed {
    async fn stop(&mut self) {
        self.stop().await;
    }

    async fn resume(&mut self) -> bool {
        self.resume().await;
        true
    }
}

impl Restarts for Server {
    async fn stop(&mut self) {
        self.stop().await;
    }

    async fn resume(&mut self) -> bool {
        self.resume().await;
        if !self.kind().keeps() {
            bucket(self).await;
        }
        self.kind().keeps()
    }
}

async fn outlives_a_restart((mut server, gateways): (impl Restarts, Gateways)) {
    let gateways_of = [0, 1].map(|place| client(gateways.gateway(place), KEY_ID, SECRET));
    let here = &gateways_of[0];
    for key in ["held", "cold"] {
        put(here, key, "before").await.unwrap();
    }
    let upload = here.create_multipart_upload().bucket("bucket").key("parts");
    let id = upload.send().await.unwrap().upload_id.unwrap();
    let first = part(here, &id, 1, Bytes::from(vec![1; 5 << 20])).await;
    for gateway in &gateways_of {
        assert_eq!(get(gateway, "held").await.unwrap(), "before");
    }

    server.stop().await;
    for (place, gateway) in gateways_of.iter().enumerate() {
        assert_eq!(get(gateway, "held").await.unwrap(), "before");
        assert_eq!(blob(&gateways, place, "held").await, (200, "before".into()));
        assert!(get(gateway, "cold").await.unwrap_err() >= 500);
        assert!(blob(&gateways, place, "cold").await.0 >= 500);
    }
    assert!(put(here, "held", "refused").await.unwrap_err() >= 500);

    let kept = server.resume().await;
    if !kept {
        put(here, "cold", "before").await.unwrap();
    }
    for (place, gateway) in gateways_of.iter().enumerate() {
        let found = until("S3 is asked again", || async {
            get(gateway, "cold").await.ok()
        })
        .await;
        assert_eq!(found, "before");
        assert_eq!(blob(&gateways, place, "cold").await, (200, "before".into()));
    }
    put(here, "held", "after").await.unwrap();
    for (place, gateway) in gateways_of.iter().enumerate() {
        assert_eq!(get(gateway, "held").await.unwrap(), "after");
        assert_eq!(blob(&gateways, place, "held").await, (200, "after".into()));
    }
    if kept {
        let last = part(here, &id, 2, Bytes::from_static(b"the end")).await;
        let whole = CompletedMultipartUpload::builder().parts(first).parts(last);
        here.complete_multipart_upload()
            .bucket("bucket")
            .key("parts")
            .upload_id(&id)
            .multipart_upload(whole.build())
            .send()
            .await
            .unwrap();
        let read = blob(&gateways, 1, "parts").await.1;
        assert_eq!(read.len(), (5 << 20) + 7);
        assert!(read.ends_with(b"\x01the end"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_seaweedfs_costs_misses_and_no_hit() {
    if let Some(both) = Box::pin(before_weed()).await {
        Box::pin(outlives_a_restart(both)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_moto_costs_misses_and_no_hit() {
    if let Some(both) = Box::pin(before(Kind::Moto)).await {
        Box::pin(outlives_a_restart(both)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_versitygw_costs_misses_and_no_hit() {
    if let Some(both) = Box::pin(before(Kind::Versitygw)).await {
        Box::pin(outlives_a_restart(both)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_s3proxy_costs_misses_and_no_hit() {
    if let Some(both) = Box::pin(before(Kind::S3proxy)).await {
        Box::pin(outlives_a_restart(both)).await;
    }
}

/// The status of a refusal.
type Refused = u16;

async fn put(gateway: &aws_sdk_s3::Client, key: &str, body: &'static str) -> Result<(), Refused> {
    let put = gateway.put_object().bucket("bucket").key(key);
    let sent = put.body(body.as_bytes().to_vec().into()).send().await;
    sent.map(drop).map_err(|error| status(error.raw_response()))
}

async fn get(gateway: &aws_sdk_s3::Client, key: &str) -> Result<Bytes, Refused> {
    let got = gateway.get_object().bucket("bucket").key(key).send().await;
    let got = got.map_err(|error| status(error.raw_response()))?;
    Ok(got.body.collect().await.unwrap().into_bytes())
}

fn status(response: Option<&aws_sdk_s3::config::http::HttpResponse>) -> u16 {
    response.expect("a gateway answers").status().as_u16()
}

async fn part(gateway: &aws_sdk_s3::Client, id: &str, number: i32, body: Bytes) -> CompletedPart {
    let sent = gateway.upload_part().bucket("bucket").key("parts");
    let sent = sent.upload_id(id).part_number(number).body(body.into());
    let sent = sent.send().await.unwrap();
    // Without the checksum: versitygw takes it only where the upload was begun with one.
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .build()
}

async fn blob(gateways: &Gateways, place: usize, key: &str) -> (u16, Bytes) {
    let url = format!("{}/get?key={key}", gateways.ring.nodes[place].url);
    let answer = http::get_with(&url, &[("authorization", "Bearer t")]).await;
    (answer.status.as_u16(), answer.body)
}
