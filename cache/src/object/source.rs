//! Where an answer came from, and why one that S3 sent was not stored.

use serde::{Deserialize, Serialize};

/// Where an answer came from: the word in `x-falcon-cache` and in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// This node's memory.
    Memory,
    /// Another node's memory.
    Peer,
    /// S3, read for this answer.
    Origin,
    /// Memory, after S3 said that the version is still current.
    Revalidated,
    /// Memory, past its freshness, because S3 does not answer.
    Stale,
    /// S3, without storing anything.
    Bypass(BypassReason),
}

impl Source {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Bypass(_) => "bypass",
        }
    }

    /// Why nothing is stored.
    pub const fn bypass_reason(self) -> Option<BypassReason> {
        match self {
            Self::Bypass(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Why S3's answer is not stored: the word in `x-falcon-bypass` and in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BypassReason {
    /// The object is larger than `--max-blob-size`.
    TooLarge,
    /// S3 forbids to store it: `Cache-Control: private` or `no-store`.
    Private,
    /// S3 does not give it in parts that are provably of one version.
    WholeOnly,
    /// All memory is in use.
    NoMemory,
    /// The fetch that would have stored it was abandoned.
    FetchFailed,
    /// It is encrypted with the client's own key.
    CustomerKey,
    /// S3 alone knows the answer: an operation or a parameter that is not cached.
    OriginOnly,
    /// It is the answer to a write.
    Write,
}

impl BypassReason {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Private => "private",
            Self::WholeOnly => "whole-only",
            Self::NoMemory => "no-memory",
            Self::FetchFailed => "fetch-failed",
            Self::CustomerKey => "customer-key",
            Self::OriginOnly => "origin-only",
            Self::Write => "write",
        }
    }
}
