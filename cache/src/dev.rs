//! `falcon-cache dev`: what a newcomer needs to see a ring at work, in one process.
//!
//! The nodes are the real ones, over real listeners; only the S3 behind them is borrowed.

pub mod embedded;
pub mod port;
