//! Falcon's operator: runs the caches that `FalconCache` objects describe.
//!
//! A reconcile is a pipeline; each step is a module, and none calls back:
//!
//! ```text
//! FalconCache ─► plan ─► resources ─► apply ─► repair ─► status
//! ```
//!
//! - `crd`: the API types: what a user asks for and what is reported.
//! - `plan`: the resolved spec: defaults, mistakes, risks.
//! - `resources`: the desired Kubernetes objects.
//! - `apply`: writes FalconCaches and what they own: reads first, writes only what differs.
//! - `observe`: the state of the pods.
//! - `repair`: fixes what is stuck although everything is applied.
//! - `status`, `events`: what is reported.
//!
//! `plan`, `resources`, `status` and `events` are pure: no client, no clock. `controller` runs the pipeline, `leader`
//! ensures that only one process does.

pub mod apply;
pub mod config;
pub mod controller;
pub mod crd;
pub mod events;
pub mod health;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod repair;
pub mod resources;
pub mod status;
