//! The tests.

mod harness;
mod origin;
