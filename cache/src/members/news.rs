//! What the log says of a ring that changed.

use crate::ring::{Member, Ring, State};

/// One line for each node that has another state than before.
pub(super) fn tell(before: &Ring, now: &Ring) {
    for Member { name, state, .. } in now.members() {
        let was = before.member(name).map(|member| member.state);
        if was == Some(*state) {
            continue;
        }
        let (was, now) = (was.map_or("unknown", State::as_str), state.as_str());
        if *state == State::Silent {
            tracing::warn!(
                name,
                was,
                now,
                "a node does not answer: the next in order stand in for it"
            );
        } else {
            tracing::info!(name, was, now, "the ring changed");
        }
    }
    for Member { name, state, .. } in before.members() {
        if now.member(name).is_none() {
            tracing::info!(name, was = state.as_str(), "a node left the ring");
        }
    }
}
