//! What nodes owe: the scopes of invalidations that they did not answer. Pure: no clock, no network.
//!
//! Every node that took part in an incomplete invalidation remembers it, so that it outlives its coordinator. Each
//! node's list is bounded: beyond the bound that node owes everything, while the others still owe nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::object::Scope;

/// What one node may owe, in bytes of JSON; some 2,000 keys of usual length.
const NODE_BYTES: usize = 256 << 10;

/// What all nodes may owe together, so that it fits into the answer to a heartbeat.
const ALL_BYTES: usize = 768 << 10;

/// What one invalidation costs beside its scope.
const ENTRY_BYTES: usize = 8;

/// An invalidation that a node owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// What it has to forget.
    pub scope: Scope,
    /// The order in which debts were noted. A repeated invalidation gets a new number, so that an answer to the earlier
    /// one does not strike it.
    number: u64,
}

/// Which node owes which invalidations.
#[derive(Debug, Default)]
pub(super) struct Debts {
    nodes: BTreeMap<String, Owed>,
    noted: u64,
}

#[derive(Debug, Default)]
struct Owed {
    by_scope: HashMap<Scope, u64>,
    by_number: BTreeMap<u64, Scope>,
    bytes: usize,
}

impl Debts {
    /// This node has not answered an invalidation of this scope.
    pub(super) fn note(&mut self, name: &str, scope: &Scope) {
        self.noted += 1;
        let owed = self.nodes.entry(name.to_owned()).or_default();
        owed.note(scope, self.noted);
        if owed.bytes > NODE_BYTES {
            owed.widen(self.noted);
        }
        while self.nodes.values().map(|owed| owed.bytes).sum::<usize>() > ALL_BYTES {
            let Some(most) = self.nodes.values_mut().max_by_key(|owed| owed.bytes) else {
                break;
            };
            most.widen(self.noted);
        }
    }

    /// These owe all that any node owes; true if there is at least one of them.
    pub(super) fn share<'a>(&mut self, newcomers: impl Iterator<Item = &'a String>) -> bool {
        let owed = self.nodes.values().flat_map(|owed| owed.by_scope.keys());
        let scopes: HashSet<Scope> = owed.cloned().collect();
        let mut any = false;
        for name in newcomers {
            any = true;
            for scope in &scopes {
                self.note(name, scope);
            }
        }
        any
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn owes(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// The names of the nodes that owe something.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.nodes.keys()
    }

    /// The names of the nodes that owe this scope, or everything; for [`Scope::All`], of those that owe anything.
    pub(super) fn names_for(&self, scope: &Scope) -> impl Iterator<Item = &String> {
        let owes = move |owed: &Owed| {
            *scope == Scope::All
                || owed.by_scope.contains_key(scope)
                || owed.by_scope.contains_key(&Scope::All)
        };
        self.nodes
            .iter()
            .filter(move |(_, owed)| owes(owed))
            .map(|(name, _)| name)
    }

    /// Everything that a node owes.
    pub(super) fn of(&self, name: &str) -> Vec<Scope> {
        let owed = self.nodes.get(name);
        owed.map_or_else(Vec::new, |owed| owed.by_number.values().cloned().collect())
    }

    /// The oldest debt of a node.
    pub(super) fn oldest(&self, name: &str) -> Option<Debt> {
        let (number, scope) = self.nodes.get(name)?.by_number.first_key_value()?;
        Some(Debt {
            scope: scope.clone(),
            number: *number,
        })
    }

    /// The node has answered this debt, as it was noted then.
    pub(super) fn strike(&mut self, name: &str, debt: &Debt) {
        let Some(owed) = self.nodes.get_mut(name) else {
            return;
        };
        owed.strike(debt);
        if owed.by_number.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// Keeps the debts of these nodes: the others are gone for good.
    pub(super) fn retain(&mut self, knows: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| knows(name));
    }
}

impl Owed {
    fn note(&mut self, scope: &Scope, number: u64) {
        let scope = if self.by_scope.contains_key(&Scope::All) {
            &Scope::All
        } else {
            scope
        };
        if let Some(before) = self.by_scope.insert(scope.clone(), number) {
            self.by_number.remove(&before);
        } else {
            self.bytes += bytes_of(scope);
        }
        self.by_number.insert(number, scope.clone());
    }

    /// From now on the node owes everything.
    fn widen(&mut self, number: u64) {
        *self = Self::default();
        self.note(&Scope::All, number);
    }

    fn strike(&mut self, debt: &Debt) {
        if self.by_scope.get(&debt.scope) == Some(&debt.number) {
            self.by_scope.remove(&debt.scope);
            self.by_number.remove(&debt.number);
            self.bytes -= bytes_of(&debt.scope);
        }
    }
}

fn bytes_of(scope: &Scope) -> usize {
    ENTRY_BYTES + serde_json::to_vec(scope).map_or(NODE_BYTES, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: impl Into<String>) -> Scope {
        Scope::Key {
            bucket: "b".to_owned(),
            key: key.into(),
        }
    }

    #[test]
    fn a_repetition_is_not_struck_by_the_answer_to_what_was_sent_before_it() {
        let mut debts = Debts::default();
        debts.note("a", &key("k"));
        let sent = debts.oldest("a").unwrap();
        debts.note("a", &key("k"));
        debts.strike("a", &sent);
        assert_eq!(debts.of("a"), [key("k")]);
        let sent = debts.oldest("a").unwrap();
        debts.strike("a", &sent);
        assert!(!debts.owes("a"));
    }

    #[test]
    fn the_oldest_is_first_and_each_is_owed_once() {
        let mut debts = Debts::default();
        for name in ["1", "2", "1", "3"] {
            debts.note("a", &key(name));
        }
        assert_eq!(debts.of("a"), [key("2"), key("1"), key("3")]);
        assert_eq!(debts.oldest("a").unwrap().scope, key("2"));
    }

    #[test]
    fn a_node_that_owes_too_much_owes_everything_and_others_only_theirs() {
        let mut debts = Debts::default();
        debts.note("b", &key("k"));
        for i in 0..2_000 {
            debts.note("a", &key(format!("some/folder/key-{i}")));
        }
        assert_eq!(debts.of("a").len(), 2_000);
        let sent = debts.oldest("a").unwrap();
        debts.note("a", &key("x".repeat(NODE_BYTES)));
        assert_eq!(debts.of("a"), [Scope::All]);
        debts.strike("a", &sent);
        debts.note("a", &key("k"));
        assert_eq!(debts.of("a"), [Scope::All]);
        let sent = debts.oldest("a").unwrap();
        debts.strike("a", &sent);
        assert!(!debts.owes("a"));
        assert_eq!(debts.of("b"), [key("k")]);
    }

    #[test]
    fn all_together_owe_a_bounded_amount() {
        let mut debts = Debts::default();
        for node in 0..10 {
            for i in 0..1_000 {
                let name = format!("{i}{}", "x".repeat(200));
                debts.note(&node.to_string(), &key(name));
            }
        }
        let bytes: usize = debts.nodes.values().map(|owed| owed.bytes).sum();
        assert!(bytes <= ALL_BYTES, "{bytes}");
        assert_eq!(debts.names().count(), 10);
    }

    #[test]
    fn a_node_that_is_gone_owes_nothing() {
        let mut debts = Debts::default();
        debts.note("a", &key("k"));
        debts.note("b", &key("k"));
        debts.retain(|name| name == "b");
        assert_eq!(debts.names().collect::<Vec<_>>(), ["b"]);
    }
}
