//! The operator.
use std::io::Write;
fn main() -> anyhow::Result<()> { std::io::stdout().write_all(falcon_operator::crd::yaml()?.as_bytes())?; Ok(()) }
