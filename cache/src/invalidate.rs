//! The barrier.
mod rounds;
#[cfg(test)]
mod model;
