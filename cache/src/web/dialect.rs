//! The two forms in which failures are answered.

/// How a port answers failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The blob API's: JSON, with Falcon's codes.
    Blob,
    /// S3's: XML, with S3's codes and headers.
    S3,
}
