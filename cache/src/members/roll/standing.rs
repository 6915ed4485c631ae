//! Whether a process that says hello is the node that it says it is.

/// What a process hears of itself when it says hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::members) struct Standing {
    /// Where another process listens that goes by its name, and lives.
    pub(in crate::members) taken: Option<String>,
    /// It has answered at the address that it gives.
    pub(in crate::members) reached: bool,
    /// It has yet to answer there, and has not been asked.
    pub(in crate::members) unproved: bool,
}

impl Standing {
    /// That of a second process.
    pub(super) fn taken(url: &str) -> Self {
        Self {
            taken: Some(url.to_owned()),
            ..Self::default()
        }
    }
}
