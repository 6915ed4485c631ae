//! The tests that cross files: a ring of real nodes, real S3 servers, real sockets. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod harness;

mod architecture;
mod cache_bounds;
mod cache_hit;
mod cache_hit_ratio;
mod cache_invalidate;
mod cache_memory;
mod cache_peers;
mod cache_processes;
mod cache_production;
mod cache_read;
mod cache_write;
mod cluster_failures;
mod cluster_gateway;
mod cluster_load;
mod cluster_objects;
mod cluster_story;
mod contract;
mod dev;
mod gateway;
mod history;
mod operator_conflicts;
mod operator_crash;
mod operator_failures;
mod operator_fleet;
mod operator_leader;
mod operator_rights;
mod operator_schema;
mod origin;
mod original;
mod sidecar;
