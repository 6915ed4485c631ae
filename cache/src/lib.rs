//! A node of Falcon: it reads each object from S3 once and serves it from memory.
//!
//! ```text
//! request ─► api ─► proxy ─► store │ peer │ origin ─► answer
//! ```

pub mod invalidate;
pub mod members;
pub mod object;
pub mod peer;
pub mod ring;
pub mod store;
