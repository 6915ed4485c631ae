//! The cache node.
fn main() {}
