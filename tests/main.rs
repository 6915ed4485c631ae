//! The tests that cross files: a ring of real nodes, real S3 servers, real sockets. One binary, so that it links once.
#![expect(
    clippy::unwrap_used,
    reason = "clippy's allow-unwrap-in-tests does not reach the helper functions of a test binary"
)]

mod harness;

mod architecture;
mod origin;
