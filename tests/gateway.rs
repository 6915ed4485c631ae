//! The S3 door: what stock clients are told, and what nobody is told who may not know.

mod refusals;
mod rights;
mod stock;
mod suites;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

/// A stock client of that endpoint, with nothing set that a user would not set.
fn client(endpoint: &str, key_id: &str, secret: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(key_id, secret, None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// The access file that lets the test's own keys do all.
fn everything_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = "- {name: all, accessKeyId: ALL, secretAccessKey: all-secret, token: all-token, verbs: [read, write, invalidate]}";
    std::fs::write(file.path(), rules).unwrap();
    file
}
