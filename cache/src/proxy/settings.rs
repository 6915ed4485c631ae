//! What the proxy is configured with.

use std::time::Duration;

use crate::object::Blocks;

/// What the proxy is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxySettings {
    /// How objects are cut.
    pub blocks: Blocks,
    /// The largest single read from S3 or a peer, in bytes; a multiple of the block size.
    pub part_bytes: u64,
    /// Reads in flight for one large object.
    pub parts_in_flight: u64,
    /// Larger objects are served and not stored, in bytes.
    pub max_blob_size: u64,
    /// How long a version is taken as current; `None` is for ever.
    pub ttl: Option<Duration>,
    /// How much longer it may be served while S3 fails.
    pub stale_if_error: Duration,
    /// How long S3's "no such object" is believed.
    pub negative_ttl: Duration,
    /// To the first byte.
    pub timeout: Duration,
    /// Reads from S3 at one moment, of all objects together.
    pub origin_reads: usize,
}
