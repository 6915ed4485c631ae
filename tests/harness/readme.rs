//! The commands of the README, as a reader would copy them.

const README: &str = include_str!("../../README.md");

/// The block of shell commands that begins with this one.
pub(crate) fn block(begin: &str) -> &'static str {
    README
        .split("```")
        .filter_map(|part| part.strip_prefix("sh\n"))
        .find(|block| block.starts_with(begin))
        .unwrap_or_else(|| panic!("no block of the README begins with {begin}"))
}
