//! The tests.

mod architecture;
