//! What the log says about a ring that changed.

use crate::ring::{Member, MemberState, Ring};

/// Logs one line for each node whose state changed.
pub(super) fn log_changes(before: &Ring, now: &Ring) {
    for Member { name, state, .. } in now.members() {
        let was = before.member(name).map(|member| member.state);
        if was == Some(*state) {
            continue;
        }
        let (was, now) = (was.map_or("unknown", MemberState::as_str), state.as_str());
        if *state == MemberState::Unreachable {
            tracing::warn!(
                name,
                was,
                now,
                "a node does not answer: the next nodes in order stand in for it"
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
