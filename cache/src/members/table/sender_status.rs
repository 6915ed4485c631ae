//! Whether a process that sends a heartbeat is the node that it says it is.

/// What a process hears of itself when it sends a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::members) struct SenderStatus {
    /// Where another process listens that goes by its name, and lives.
    pub(in crate::members) taken: Option<String>,
    /// It has answered at the address that it gives.
    pub(in crate::members) reached: bool,
    /// It has yet to answer there, and has not been asked.
    pub(in crate::members) unproved: bool,
}

impl SenderStatus {
    /// That of a second process.
    pub(super) fn taken(url: &str) -> Self {
        Self {
            taken: Some(url.to_owned()),
            ..Self::default()
        }
    }
}
