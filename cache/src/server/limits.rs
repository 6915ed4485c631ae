//! What a connection may cost. Every limit is a value here, so that tests can shorten it.

use std::time::Duration;

/// The limits of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at one time; a further one is answered `503` and closed.
    pub max_connections: usize,
    /// From the first byte of a head (or from the accept) to its end.
    pub head: Duration,
    /// A kept-alive connection between two requests. Longer than the minute that load balancers keep theirs, so that
    /// the client closes first and no request is lost.
    pub idle: Duration,
    /// A request body that brings less than 1 KiB while it is waited for; the answer is `408`.
    pub body: Duration,
    /// A reader that takes no byte is cut.
    pub stall: Duration,
    /// Bytes that a connection writes before others get their turn, while answers of at most this size are being sent.
    pub quantum: usize,
    /// The same while no such answer is being sent.
    pub long_quantum: usize,
    /// `SO_SNDBUF` in bytes: what a reader that has stopped can hold in the kernel.
    pub send_buffer: usize,
    /// How long running requests may take to end once the listener is stopped.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            stall: Duration::from_mins(1),
            quantum: 64 * 1024,
            long_quantum: 512 * 1024,
            send_buffer: 512 * 1024,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
