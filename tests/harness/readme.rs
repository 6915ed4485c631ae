//! The commands of the README, as a reader would copy them.

const README: &str = include_str!("../../README.md");

/// The block of shell commands that begins with this one.
pub(crate) fn block(begin: &str) -> &'static str {
    blocks("sh\n")
        .find(|block| block.starts_with(begin))
        .unwrap_or_else(|| panic!("no block of the README begins with {begin}"))
}

/// The YAML in which this stands.
pub(crate) fn yaml(word: &str) -> &'static str {
    blocks("yaml\n")
        .find(|block| block.contains(word))
        .unwrap_or_else(|| panic!("no YAML of the README has {word}"))
}

fn blocks(kind: &str) -> impl Iterator<Item = &'static str> {
    README
        .split("```")
        .filter_map(move |part| part.strip_prefix(kind))
}
