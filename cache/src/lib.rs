//! A node of Falcon: it reads each object from S3 once and serves it from memory.
//!
//! ```text
//! request ─► api │ gateway ─► proxy ─► store │ peer │ origin ─► answer
//! ```

// Words.
pub mod object;
pub mod ring;

// The ways in.
pub mod access;
pub mod api;
pub mod gateway;
pub mod server;
pub mod web;

// The decision, and the barrier.
pub mod fill;
pub mod invalidate;
pub mod proxy;

// Places.
pub mod origin;
pub mod peer;
pub mod store;

// The others.
pub mod discovery;
pub mod members;

// The whole.
pub mod config;
pub mod dev;
pub mod metrics;
pub mod node;
