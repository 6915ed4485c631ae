//! The S3 gateway: what stock clients are told, and what nobody is told who may not know.

mod closed;
mod figures;
mod judged;
mod pages;
mod refusals;
mod rights;
mod stock;
mod suites;
mod two_readings;
mod writes;

use crate::harness::sdk::client;

/// The access file that lets the test's own keys do all.
fn everything_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = "- {name: all, accessKeyId: ALL, secretAccessKey: all-secret, token: all-token, buckets: ['*'], prefixes: ['*'], verbs: [read, write, invalidate]}";
    std::fs::write(file.path(), rules).unwrap();
    file
}
