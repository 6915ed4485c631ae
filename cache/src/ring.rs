//! Who owns what: rendezvous hashing over the members' names. Pure: no clock, no network.
//!
//! Each member is scored for each extent by a hash of both; the highest score owns it, the next is its stand-in,
//! and so on. A member that leaves moves only what it owned, and what it owned spreads over all the others.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::object::ObjectId;

/// The state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Not ready yet: owns nothing, is told of invalidations.
    Joining,
    /// Owns its share.
    Serving,
    /// Keeps its place but does not answer: requests go to the next in order at once.
    Unreachable,
    /// Terminating: no longer owns anything, still answers, is told of invalidations.
    Leaving,
}

impl MemberState {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 4] = [
        Self::Joining,
        Self::Serving,
        Self::Unreachable,
        Self::Leaving,
    ];

    /// The word, as in `/ring` and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Unreachable => "unreachable",
            Self::Leaving => "leaving",
        }
    }
}

/// A node of the cache, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What places it in the ring: the pod's name, or the URL in `--peers`.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
    /// The availability zone, where the cluster names one.
    pub zone: Option<String>,
    /// Its state.
    pub state: MemberState,
}

/// The members at one moment. It changes by replacement; a request takes it once.
#[derive(Debug, Clone)]
pub struct Ring {
    members: Vec<Member>,
    /// Those that serve: the hash of each one's name, and its place among the members.
    serving: Vec<(u64, usize)>,
    me: String,
    version: u64,
}

impl Ring {
    /// A ring of `members`, seen from the node named `me`. They are kept sorted by name; a name given twice keeps its
    /// first entry.
    pub fn new(me: &str, mut members: Vec<Member>, version: u64) -> Self {
        members.sort_by(|left, right| left.name.cmp(&right.name));
        members.dedup_by(|next, kept| next.name == kept.name);
        let serving = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.state == MemberState::Serving)
            .map(|(at, member)| (xxh3_64(member.name.as_bytes()), at))
            .collect();
        Self {
            members,
            serving,
            me: me.to_owned(),
            version,
        }
    }

    /// The name of the node whose view this is.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// How many changes this node has seen since it started.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All members, sorted by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members
            .binary_search_by(|member| member.name.as_str().cmp(name))
            .ok()
            .map(|at| &self.members[at])
    }

    /// The members that can be asked for `extent` of `object` now, in order: the owner, then its stand-ins.
    pub fn owners(&self, object: &ObjectId, extent: u32) -> Vec<&Member> {
        let mut scored: Vec<_> = self.scored(object, extent).collect();
        scored.sort_unstable_by(|left, right| right.cmp(left));
        let places = scored.into_iter();
        places.map(|(_, Reverse(at))| &self.members[at]).collect()
    }

    /// The first of [`Ring::owners`], without sorting the rest. `None` while no member serves.
    pub fn owner(&self, object: &ObjectId, extent: u32) -> Option<&Member> {
        let (_, Reverse(at)) = self.scored(object, extent).max()?;
        Some(&self.members[at])
    }

    /// True if this node is the owner, or if no member serves.
    pub fn owns(&self, object: &ObjectId, extent: u32) -> bool {
        self.owner(object, extent)
            .is_none_or(|member| member.name == self.me)
    }

    /// The score and the place of each member that serves; between equal scores, the first name wins.
    fn scored(
        &self,
        object: &ObjectId,
        extent: u32,
    ) -> impl Iterator<Item = (u64, Reverse<usize>)> + '_ {
        // One hash of object and extent; then, for each member, only a mix with the hash of its name.
        let place = xxh3_64_with_seed(&extent.to_le_bytes(), object.stable_hash());
        let serving = self.serving.iter();
        serving.map(move |(name, at)| (mixed(place ^ name), Reverse(*at)))
    }
}

/// SplitMix64's last step: each bit of the result depends on each bit given, in half the time of a hash of bytes.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(names: &[String]) -> Ring {
        let member = |name: &String| Member {
            name: name.clone(),
            url: String::new(),
            zone: None,
            state: MemberState::Serving,
        };
        Ring::new("a", names.iter().map(member).collect(), 1)
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("falcon-{i}")).collect()
    }

    /// The owner's place among the members, for each of 100,000 keys.
    fn placed(ring: &Ring) -> Vec<usize> {
        let place = |i: u32| {
            let object = ObjectId::new("b", &format!("k{i}")).unwrap();
            let owner = ring.owner(&object, 0).unwrap();
            let at = ring.members().iter().position(|member| member == owner);
            at.unwrap()
        };
        (0..100_000).map(place).collect()
    }

    #[test]
    fn no_share_of_100_000_keys_is_more_than_2_percent_above_the_mean() {
        for count in [2, 3, 4, 5, 8] {
            let mut shares = vec![0; count];
            for at in placed(&ring(&names(count))) {
                shares[at] += 1;
            }
            let largest = shares.iter().max().unwrap();
            assert!(largest * count * 100 <= 102 * 100_000, "{shares:?}");
        }
    }

    #[test]
    fn a_fifth_member_moves_only_the_keys_that_it_owns_coming_and_going() {
        let names = names(5);
        for fifth in 0..5 {
            let mut four = names.clone();
            four.remove(fifth);
            let (with, without) = (placed(&ring(&names)), placed(&ring(&four)));
            // The places behind the fifth are one lower without it.
            let moved = with
                .iter()
                .zip(&without)
                .filter(|(with, without)| **with != *without + usize::from(**without >= fifth));
            let must = with.iter().filter(|at| **at == fifth);
            assert!(moved.map(|(with, _)| with).eq(must));
        }
    }

    #[test]
    fn a_member_that_does_not_serve_owns_nothing_and_the_next_takes_over() {
        let object = ObjectId::new("b", "k").unwrap();
        let full = ring(&names(3));
        let order: Vec<String> = full
            .owners(&object, 0)
            .iter()
            .map(|member| member.name.clone())
            .collect();
        for state in [
            MemberState::Unreachable,
            MemberState::Joining,
            MemberState::Leaving,
        ] {
            let mut members = full.members().to_vec();
            members
                .iter_mut()
                .find(|member| member.name == order[0])
                .unwrap()
                .state = state;
            let ring = Ring::new("a", members, 2);
            assert_eq!(ring.owner(&object, 0).unwrap().name, order[1]);
            assert_eq!(ring.owners(&object, 0).len(), 2);
        }
    }

    #[test]
    fn a_node_alone_owns_everything() {
        assert!(Ring::new("a", vec![], 0).owns(&ObjectId::new("b", "k").unwrap(), 7));
    }

    proptest! {
        #[test]
        fn a_member_that_leaves_moves_only_what_it_owned(count in 2usize..12, gone in 0usize..12, keys in prop::collection::vec("[a-z#/ %]{1,20}", 1..50), extent in 0u32..4) {
            let names = names(count);
            let gone = &names[gone % count];
            let rest: Vec<String> = names.iter().filter(|name| *name != gone).cloned().collect();
            let (before, after) = (ring(&names), ring(&rest));
            for key in keys {
                let object = ObjectId::new("b", &key).unwrap();
                let old = &before.owner(&object, extent).unwrap().name;
                if old != gone {
                    prop_assert_eq!(old, &after.owner(&object, extent).unwrap().name);
                }
                prop_assert_eq!(old, &before.owners(&object, extent)[0].name);
            }
        }
    }
}
