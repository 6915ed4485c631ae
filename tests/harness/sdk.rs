//! The Rust SDK as a user has it.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

/// A stock client of that endpoint, with nothing set that a user would not set.
pub(crate) fn client(endpoint: &str, key_id: &str, secret: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(key_id, secret, None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}
