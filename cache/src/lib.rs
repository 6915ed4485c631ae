//! A node of Falcon: it reads each object from S3 once and serves it from memory.
//!
//! ```text
//! request ─► api ─► proxy ─► store │ peer │ origin ─► answer
//! ```

pub mod api;
pub mod config;
pub mod invalidate;
pub mod members;
pub mod metrics;
pub mod object;
pub mod origin;
pub mod peer;
pub mod proxy;
pub mod ring;
pub mod server;
pub mod store;
