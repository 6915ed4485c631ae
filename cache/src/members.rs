//! Who is known and what became of them.

/// One line of discovery: a node as the list or the cluster names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What places it in the ring: the pod's name, or the URL of a static peer.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
    /// The availability zone, where the cluster names one.
    pub zone: Option<String>,
    /// True when the cluster holds it for ready.
    pub serving: bool,
    /// True once it is being deleted.
    pub terminating: bool,
}
