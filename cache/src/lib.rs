//! A node of Falcon: it reads each object from S3 once and serves it from memory.
//!
//! ```text
//! request ─► api ─► proxy ─► store │ peer │ origin ─► answer
//! ```

pub mod config;
pub mod discovery;
pub mod members;
pub mod object;
pub mod peer;
pub mod ring;
