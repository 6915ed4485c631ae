//! What a read or write means in HTTP, the same for the blob API and the S3 gateway: ranges and conditions, headers,
//! failures and their statuses, rights, the access log, and the barrier after a write.

pub(crate) mod access_log;
pub(crate) mod aftermath;
pub(crate) mod barrier;
pub(crate) mod body_buffer;
mod conditions;
pub(crate) mod dialect;
pub(crate) mod error_document;
pub(crate) mod failure;
pub(crate) mod hits;
mod metered_body;
pub(crate) mod middleware;
mod range;
pub(crate) mod read;
mod request_id;
pub(crate) mod response_context;
pub(crate) mod response_headers;
pub(crate) mod rights;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod xml;

pub use aftermath::Aftermath;
pub(crate) use hits::Hits;
pub use rights::ServedBuckets;
pub use services::{Services, WebSettings};
