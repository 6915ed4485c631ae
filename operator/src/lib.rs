//! Falcon's operator: keeps the caches that `FalconCache` objects describe running.
pub mod crd;
pub mod apply;
pub mod observe;
pub mod plan;
pub mod resources;
