//! The origin against an S3 that counts and fails on demand, and against a real one.

mod list;
mod read;
mod rotate;
mod trouble;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use falcon_cache::object::{Head, ObjectId};
use falcon_cache::origin::{Error, Origin, OriginBody, OriginSettings};
use tempfile::TempDir;

use crate::harness::s3::{KEY_ID, S3, SECRET};

/// Keys that servers must take as they are.
fn strange_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a#b",
        "a//b",
        "/a",
        "../x",
        "./x",
        "x/..",
        "%2F",
        "%252F",
        "a b",
        " a ",
        "a+b",
        "a?b&c=d",
        "a=b",
        "ä/€/😀",
        "quote\"'<&>",
        "semi;colon:comma,",
        "tilde~star*",
        "trailing/",
        "back\\slash",
        "[brackets]{}^`|",
    ]
    .map(ToOwned::to_owned)
    .into();
    keys.push("k".repeat(1024));
    keys.push("€".repeat(341));
    keys
}

/// Keys in a folder, as a mounted Secret has them.
fn secret(key_id: &str, secret: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_secret(&folder, key_id, secret);
    folder
}

fn write_secret(folder: &TempDir, key_id: &str, secret: &str) {
    std::fs::write(folder.path().join("access-key-id"), key_id).unwrap();
    std::fs::write(folder.path().join("secret-access-key"), secret).unwrap();
}

fn settings(endpoint: &str, keys: &TempDir) -> OriginSettings {
    OriginSettings {
        s3_endpoint: Some(endpoint.parse().unwrap()),
        s3_region: None,
        s3_force_path_style: true,
        s3_credentials_dir: Some(keys.path().to_owned()),
        timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        max_idle_connections: 16,
    }
}

/// An origin on its own S3, with patience for slow machines. The folder holds its keys.
async fn origin() -> (S3, Origin, TempDir) {
    let s3 = S3::start().await;
    let keys = secret(KEY_ID, SECRET);
    let origin = made(settings(&s3.endpoint(), &keys)).await;
    (s3, origin, keys)
}

async fn made(settings: OriginSettings) -> Origin {
    Origin::new(settings, Arc::default()).await
}

fn object(key: &str) -> ObjectId {
    ObjectId::new("bucket", key).unwrap()
}

/// The header fields that are stored with a version.
fn fields(head: &Head) -> Vec<(String, String)> {
    let shown = |(name, value): (&str, &[u8])| {
        let value = String::from_utf8_lossy(value).into_owned();
        (name.to_owned(), value)
    };
    head.fields.iter().map(shown).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn all(mut body: OriginBody) -> Result<Bytes, Arc<Error>> {
    let mut all = BytesMut::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}
