//! Falcon's operator: keeps the caches that `FalconCache` objects describe running.
//!
//! One line, each step in a file of its own, and no file calls back:
//!
//! ```text
//! FalconCache ─► plan ─► resources ─► apply ─► status
//! ```
//!
//! - `crd`: the words. What a user asks for and what is reported.
//! - `plan`: what was asked for, as it is meant: defaults, mistakes, risks.
//! - `resources`: everything that the cluster should hold for it.
//! - `apply`: the only writer; reads first, writes only what differs.
//! - `observe`: how the pods are.
//! - `status`, `events`: what is said about it.
//!
//! `plan`, `resources`, `status` and `events` are pure: no client, no clock. `controller` runs the line, `leader` sees to it that one process does.

pub mod crd;
pub mod plan;

pub mod resources;

pub mod apply;
pub mod observe;

pub mod events;
pub mod status;

pub mod controller;
pub mod leader;

pub mod config;
pub mod health;
pub mod metrics;
