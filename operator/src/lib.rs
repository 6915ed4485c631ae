//! Falcon's operator: keeps the caches that `FalconCache` objects describe running.
pub mod crd;
pub mod plan;
pub mod resources;
