//! The table of members: what it makes of discoveries, heartbeats and failures.

use proptest::prelude::*;

use super::*;
use crate::members::lease::GONE_AFTER;

const NOW: Duration = Duration::from_secs(100);

fn table() -> Table {
    Table::new(contact("me"), None, 1)
}

fn contact(name: &str) -> Contact {
    Contact {
        name: name.to_owned(),
        url: format!("http://{name}"),
    }
}

fn found(name: &str, serving: bool) -> DiscoveredNode {
    DiscoveredNode {
        name: name.to_owned(),
        url: format!("http://{name}"),
        zone: None,
        serving,
        terminating: false,
    }
}

fn heartbeat(name: &str, incarnation: u64) -> Heartbeat {
    Heartbeat {
        name: name.to_owned(),
        url: format!("http://{name}"),
        incarnation,
        leaving: false,
        sidecar: false,
        joining: false,
        members: vec![],
    }
}

/// What a node says of one that it knows and that answers it.
const REACHED: SenderStatus = SenderStatus {
    taken: None,
    reached: true,
};

fn ack(name: &str, incarnation: u64) -> HeartbeatAck {
    HeartbeatAck {
        name: name.to_owned(),
        incarnation,
        members: vec![],
        owing: vec![],
        sender: REACHED,
    }
}

fn state(table: &Table, name: &str) -> Option<MemberState> {
    let members = table.members();
    let member = members.iter().find(|member| member.name == name);
    member.map(|member| member.state)
}

fn knows(table: &Table, name: &str) -> bool {
    table.contacts().iter().any(|known| known.name == name)
}

#[test]
fn this_node_is_in_the_list_whatever_discovery_says() {
    let mut table = table();
    assert_eq!(state(&table, "me"), Some(MemberState::Joining));
    table.apply_discovery(vec![found("a", true)], NOW);
    assert_eq!(state(&table, "me"), Some(MemberState::Joining));
    table.set_ready();
    let mut me = found("me", false);
    me.terminating = true;
    me.zone = Some("z".to_owned());
    table.apply_discovery(vec![me], NOW);
    assert_eq!(state(&table, "me"), Some(MemberState::Serving));
    assert_eq!(table.members()[0].zone.as_deref(), Some("z"));
    assert!(!knows(&table, "me"));
    table.leave();
    table.set_ready();
    assert_eq!(state(&table, "me"), Some(MemberState::Leaving));
    assert!(table.heartbeat().leaving);
}

#[test]
fn a_member_joins_when_it_serves_and_a_readiness_flap_does_not_move_it() {
    let mut table = table();
    table.apply_discovery(vec![found("a", false)], NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Joining));
    for serving in [true, false, true, false] {
        table.apply_discovery(vec![found("a", serving)], NOW);
        assert_eq!(state(&table, "a"), Some(MemberState::Serving));
    }
}

#[test]
fn a_terminating_member_leaves_and_so_does_one_that_says_so() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true), found("b", true)], NOW);
    let mut terminating = found("a", true);
    terminating.terminating = true;
    table.apply_discovery(vec![terminating, found("b", true)], NOW);
    let mut leaving = heartbeat("b", 1);
    leaving.leaving = true;
    table.record_heartbeat(&leaving, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Leaving));
    assert_eq!(state(&table, "b"), Some(MemberState::Leaving));
    assert!(knows(&table, "a") && knows(&table, "b"));
}

#[test]
fn a_silent_member_keeps_its_place_and_is_back_on_the_first_answer() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_missed("a", false, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Unreachable));
    table.record_heartbeat(&heartbeat("a", 1), NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Unreachable));
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Serving));
    table.suspect("a", NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Unreachable));
}

#[test]
fn an_answer_under_another_name_is_no_answer() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("b", 1), NOW, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Unreachable));
}

#[test]
fn a_node_that_is_gone_is_told_until_it_has_been_silent_for_ten_seconds() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.apply_discovery(vec![], NOW);
    assert_eq!(state(&table, "a"), None);
    let later = NOW + GONE_AFTER * 3;
    table.record_ack("a", &ack("a", 1), later, later);
    table.forget_gone(later + GONE_AFTER);
    assert!(knows(&table, "a"), "it answered all the time");
    table.record_missed("a", false, later);
    table.record_heartbeat(&heartbeat("a", 1), later + GONE_AFTER / 2);
    table.forget_gone(later + GONE_AFTER);
    assert!(
        knows(&table, "a"),
        "it sent a heartbeat, though it could not be reached"
    );
    table.forget_gone(later + GONE_AFTER / 2 + GONE_AFTER);
    assert!(!knows(&table, "a"));
}

#[test]
fn a_silent_node_that_discovery_names_is_told_for_ever() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_missed("a", false, NOW);
    table.forget_gone(NOW + GONE_AFTER * 100);
    assert!(knows(&table, "a"));
}

#[test]
fn a_stranger_who_says_hello_is_told_of_invalidations_but_owns_nothing() {
    let mut table = table();
    table.record_heartbeat(&heartbeat("a", 1), NOW);
    assert!(knows(&table, "a"));
    assert_eq!(state(&table, "a"), None);
}

#[test]
fn a_new_incarnation_replaces_the_old_one_and_its_late_messages() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    let mut old = heartbeat("a", 1);
    old.leaving = true;
    table.record_heartbeat(&old, NOW);
    let mut new = heartbeat("a", 2);
    new.url = "http://elsewhere".to_owned();
    table.record_heartbeat(&new, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Serving));
    table.record_heartbeat(&old, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Serving));
    assert_eq!(table.contacts()[0].url, "http://elsewhere");
}

#[test]
fn a_new_incarnation_has_to_be_ready_before_it_joins() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.apply_discovery(vec![found("a", false)], NOW);
    table.record_ack("a", &ack("a", 2), NOW, NOW);
    assert_eq!(state(&table, "a"), Some(MemberState::Joining));
}

#[test]
fn a_new_address_from_discovery_wins_but_a_repeated_old_one_does_not() {
    let mut table = table();
    let at = |url: &str| DiscoveredNode {
        url: url.to_owned(),
        ..found("a", true)
    };
    table.apply_discovery(vec![at("http://1")], NOW);
    table.apply_discovery(vec![at("http://2")], NOW);
    assert_eq!(table.contacts()[0].url, "http://2");
    let third = |incarnation| Heartbeat {
        url: "http://3".to_owned(),
        ..heartbeat("a", incarnation)
    };
    table.record_heartbeat(&third(1), NOW);
    assert_eq!(
        table.contacts()[0].url,
        "http://2",
        "same incarnation, other address"
    );
    table.suspect("a", NOW);
    table.record_heartbeat(&third(2), NOW);
    table.apply_discovery(vec![at("http://2")], NOW);
    assert_eq!(table.contacts()[0].url, "http://3");
    table.apply_discovery(vec![at("http://4")], NOW);
    assert_eq!(table.contacts()[0].url, "http://4");
}

#[test]
fn of_two_lines_of_one_name_the_one_that_does_not_terminate_counts() {
    let mut table = table();
    let old = DiscoveredNode {
        url: "http://old".to_owned(),
        terminating: true,
        ..found("a", false)
    };
    for lines in [[old.clone(), found("a", true)], [found("a", true), old]] {
        table.apply_discovery(lines.to_vec(), NOW);
        assert_eq!(table.contacts()[0].url, "http://a");
        assert_eq!(state(&table, "a"), Some(MemberState::Serving));
    }
}

#[test]
fn hello_has_been_said_when_each_contact_answered_or_was_found_silent() {
    let mut table = table();
    assert!(
        !table.is_announced(),
        "nothing is known before discovery has spoken"
    );
    table.apply_discovery(vec![found("a", true), found("b", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.suspect("b", NOW);
    assert!(!table.is_announced(), "a suspicion is not an attempt");
    table.record_missed("b", false, NOW);
    assert!(table.is_announced());
    table.learn(&[contact("c")], NOW);
    assert!(!table.is_announced(), "one more has been named");
    table.record_ack("c", &ack("c", 1), NOW, NOW);
    assert!(table.is_announced());
    table.record_missed("a", false, NOW);
    table.record_heartbeat(&heartbeat("a", 2), NOW);
    assert!(
        !table.is_announced(),
        "another incarnation has not heard of this node"
    );
}

#[test]
fn two_nodes_do_not_remind_each_other_of_a_dead_third() {
    let mut tables = [table(), Table::new(contact("b"), None, 2)];
    for table in &mut tables {
        table.record_heartbeat(&heartbeat("dead", 1), NOW);
        table.record_missed("dead", false, NOW);
    }
    for second in 0..40 {
        let now = NOW + Duration::from_secs(second);
        for (left, right) in [(0, 1), (1, 0)] {
            let names = tables[left].vouched();
            tables[right].learn(&names, now);
            tables[right].record_missed("dead", false, now);
            tables[right].forget_gone(now);
        }
    }
    assert!(!knows(&tables[0], "dead") && !knows(&tables[1], "dead"));
}

#[test]
fn contacts_are_bounded_and_discovery_comes_first() {
    let mut table = table();
    for i in 0..MAX_CONTACTS + 10 {
        table.record_heartbeat(&heartbeat(&format!("n{i}"), 1), NOW);
    }
    assert_eq!(table.contacts().len(), MAX_CONTACTS);
    table.apply_discovery(vec![found("a", true)], NOW);
    assert_eq!(table.contacts().len(), MAX_CONTACTS);
    assert_eq!(state(&table, "a"), Some(MemberState::Serving));
}

#[derive(Debug, Clone)]
enum Word {
    DiscoveredNode(Vec<(u8, bool, bool)>),
    Heard(u8, u64, bool),
    Answered(u8, u64),
    Unanswered(u8),
    Suspect(u8),
    Later(u64),
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let line = (0..4_u8, any::<bool>(), prop::bool::weighted(0.2));
    let word = prop_oneof![
        prop::collection::vec(line, 0..5).prop_map(Word::DiscoveredNode),
        (0..4_u8, 1..4_u64, any::<bool>()).prop_map(|(n, incarnation, bye)| Word::Heard(
            n,
            incarnation,
            bye
        )),
        (0..4_u8, 1..4_u64).prop_map(|(n, incarnation)| Word::Answered(n, incarnation)),
        (0..4_u8).prop_map(Word::Unanswered),
        (0..4_u8).prop_map(Word::Suspect),
        (0..12_u64).prop_map(Word::Later),
    ];
    prop::collection::vec(word, 1..60)
}

proptest! {
    #[test]
    fn the_members_are_always_this_node_and_those_of_the_newest_discovery(words in words()) {
        let (mut table, mut now) = (table(), NOW);
        let mut listed: Vec<(String, bool)> = vec![];
        let mut served: Vec<String> = vec![];
        for word in words {
            let before = table.members();
            table.take_changed();
            let name = |n: u8| format!("n{n}");
            match word {
                Word::DiscoveredNode(lines) => {
                    let lines: Vec<DiscoveredNode> = lines.into_iter().map(|(n, serving, terminating)| DiscoveredNode { terminating, ..found(&name(n), serving) }).collect();
                    listed = lines.iter().map(|line| (line.name.clone(), line.terminating)).collect();
                    served.extend(lines.iter().filter(|line| line.serving).map(|line| line.name.clone()));
                    table.apply_discovery(lines, now);
                }
                Word::Heard(n, incarnation, leaving) => {
                    table.record_heartbeat(&Heartbeat { leaving, ..heartbeat(&name(n), incarnation) }, now);
                }
                Word::Answered(n, incarnation) => table.record_ack(&name(n), &ack(&name(n), incarnation), now, now),
                Word::Unanswered(n) => table.record_missed(&name(n), false, now),
                Word::Suspect(n) => {
                    table.suspect(&name(n), now);
                    prop_assert_ne!(state(&table, &name(n)), Some(MemberState::Serving));
                }
                Word::Later(seconds) => {
                    now += Duration::from_secs(seconds);
                    table.forget_gone(now);
                }
            }
            let members = table.members();
            prop_assert!(table.take_changed() || members == before, "a change went unnoticed");
            prop_assert!(members.iter().any(|member| member.name == "me"));
            prop_assert!(members.is_sorted_by(|left, right| left.name < right.name));
            for (name, _) in &listed {
                prop_assert!(knows(&table, name) && state(&table, name).is_some());
            }
            for member in members.iter().filter(|member| member.name != "me") {
                prop_assert!(knows(&table, &member.name));
                prop_assert!(listed.iter().any(|(name, _)| *name == member.name));
                if listed.iter().all(|(name, terminating)| *name != member.name || *terminating) {
                    prop_assert_eq!(member.state, MemberState::Leaving);
                }
                if member.state == MemberState::Serving {
                    prop_assert!(served.contains(&member.name));
                }
            }
        }
    }
}

#[test]
fn a_sidecar_is_answered_and_neither_noted_nor_named() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.take_changed();
    let heartbeat = Heartbeat {
        sidecar: true,
        members: vec![contact("z")],
        ..heartbeat("sidecar@web", 7)
    };
    table.record_heartbeat(&heartbeat, NOW);
    assert!(!table.take_changed());
    assert!(!knows(&table, "sidecar@web") && !knows(&table, "z"));
    assert_eq!(
        table.ack(SenderStatus::default()).members,
        [contact("me"), contact("a")]
    );
}

#[test]
fn a_sidecar_follows_the_ring_and_is_not_in_it() {
    let mut table = Table::beside(contact("sidecar@web"), 1);
    assert!(!table.knows_the_ring());
    table.apply_discovery(vec![], NOW);
    assert!(!table.knows_the_ring(), "there is nobody to tell");
    assert!(table.is_announced(), "there is nobody to greet");
    table.apply_discovery(vec![found("a", true), found("b", true)], NOW);
    assert!(table.knows_the_ring() && !table.is_announced());
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.record_missed("b", false, NOW);
    table.set_ready();
    assert!(table.is_announced());
    let states: Vec<_> = ["a", "b", "sidecar@web"]
        .iter()
        .map(|name| state(&table, name))
        .collect();
    assert_eq!(
        states,
        [
            Some(MemberState::Serving),
            Some(MemberState::Unreachable),
            None
        ]
    );
    assert!(table.heartbeat().sidecar);
    assert!(!table.vouched().contains(&contact("sidecar@web")));
}

#[test]
fn a_node_alone_knows_its_ring_once_discovery_has_spoken() {
    let mut table = table();
    assert!(!table.knows_the_ring());
    table.apply_discovery(vec![], NOW);
    assert!(table.knows_the_ring());
}

fn contact_at(name: &str, url: &str) -> Contact {
    Contact {
        url: url.to_owned(),
        ..contact(name)
    }
}

fn elsewhere(name: &str, incarnation: u64) -> Heartbeat {
    Heartbeat {
        url: "http://elsewhere".to_owned(),
        ..heartbeat(name, incarnation)
    }
}

#[test]
fn a_second_process_of_a_name_is_not_noted_while_the_first_one_lives() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    let taken = table.record_heartbeat(&elsewhere("a", 2), NOW).status.taken;
    assert_eq!(taken.as_deref(), Some("http://a"));
    assert_eq!(table.contacts(), [contact_at("a", "http://a")]);
    assert_eq!(
        table.record_heartbeat(&heartbeat("a", 1), NOW).status.taken,
        None
    );
    let own = table
        .record_heartbeat(&elsewhere("me", 7), NOW)
        .status
        .taken;
    assert_eq!(own.as_deref(), Some("http://me"));
}

#[test]
fn a_process_that_starts_again_where_it_was_is_known_by_its_first_answer() {
    let mut table = table();
    let second = Duration::from_secs(1);
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    let at_first = table.record_heartbeat(&heartbeat("a", 2), NOW);
    assert_eq!(at_first.status.taken, None);
    assert!(at_first.unproved && !at_first.status.reached);
    assert!(
        !table.record_heartbeat(&heartbeat("a", 2), NOW).unproved,
        "it is being asked"
    );
    table.record_ack("a", &ack("a", 2), NOW + second, NOW + second);
    assert!(
        table
            .record_heartbeat(&heartbeat("a", 2), NOW + second)
            .status
            .reached
    );
    assert_eq!(table.contacts(), [contact_at("a", "http://a")]);
}

#[test]
fn of_two_processes_with_one_address_the_node_is_the_one_that_answers() {
    let mut table = table();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    assert_eq!(
        table
            .record_heartbeat(&heartbeat("a", 2), at(1))
            .status
            .taken,
        None
    );
    table.record_ack("a", &ack("a", 1), NOW, at(1));
    assert_eq!(
        table
            .record_heartbeat(&heartbeat("a", 2), at(1))
            .status
            .taken,
        None,
        "an old answer"
    );
    table.record_ack("a", &ack("a", 1), at(1), at(2));
    let taken = table
        .record_heartbeat(&heartbeat("a", 2), at(2))
        .status
        .taken;
    assert_eq!(taken.as_deref(), Some("http://a"));
    assert!(
        table
            .record_heartbeat(&heartbeat("a", 1), at(2))
            .status
            .reached
    );
}

#[test]
fn a_process_that_hung_and_answers_again_at_its_address_is_the_node_again() {
    let mut table = table();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.record_missed("a", false, at(1));
    let status = table.record_heartbeat(&heartbeat("a", 2), at(2)).status;
    assert!(status.taken.is_none() && !status.reached);
    table.record_ack("a", &ack("a", 1), at(1), at(3));
    assert!(
        !table
            .record_heartbeat(&heartbeat("a", 1), at(3))
            .status
            .reached,
        "a late word"
    );
    table.record_ack("a", &ack("a", 1), at(3), at(3));
    assert!(
        table
            .record_heartbeat(&heartbeat("a", 1), at(3))
            .status
            .reached
    );
    assert!(
        !table
            .record_heartbeat(&heartbeat("a", 2), at(3))
            .status
            .reached
    );
}

#[test]
fn a_node_that_does_not_reach_another_renews_no_lease() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    let deaf = HeartbeatAck {
        sender: SenderStatus::default(),
        ..ack("a", 1)
    };
    table.record_ack("a", &deaf, NOW, NOW);
    assert_eq!(
        (table.lease(NOW), table.is_announced()),
        (Duration::ZERO, false)
    );
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    assert!(table.lease(NOW) > NOW && table.is_announced());
}

#[test]
fn a_process_may_start_again_elsewhere_once_the_old_one_is_gone() {
    for way in ["leaves", "refuses", "terminates"] {
        let mut table = table();
        table.apply_discovery(vec![found("a", true)], NOW);
        table.record_ack("a", &ack("a", 1), NOW, NOW);
        let mut last = heartbeat("a", 1);
        last.leaving = true;
        let gone = DiscoveredNode {
            terminating: true,
            ..found("a", false)
        };
        match way {
            "leaves" => assert_eq!(table.record_heartbeat(&last, NOW).status.taken, None),
            "refuses" => table.record_missed("a", true, NOW),
            _ => table.apply_discovery(vec![gone], NOW),
        }
        assert_eq!(
            table.record_heartbeat(&elsewhere("a", 2), NOW).status.taken,
            None,
            "{way}"
        );
        let told = table.contacts();
        assert_eq!(told[0], contact_at("a", "http://elsewhere"), "{way}");
        // One that terminates has not said that it leaves: it may still read.
        assert_eq!(told.len(), if way == "terminates" { 2 } else { 1 }, "{way}");
    }
}

#[test]
fn a_process_that_hangs_is_told_on_though_another_has_taken_its_name() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.record_missed("a", false, NOW);
    assert_eq!(
        table.record_heartbeat(&elsewhere("a", 2), NOW).status.taken,
        None
    );
    let urls = |table: &Table| -> Vec<String> {
        let contacts = table.contacts().into_iter();
        contacts.map(|contact| contact.url).collect()
    };
    assert_eq!(urls(&table), ["http://elsewhere", "http://a"]);
    let taken = table.record_heartbeat(&heartbeat("a", 1), NOW).status.taken;
    assert_eq!(taken.as_deref(), Some("http://elsewhere"), "it wakes");
    let later = NOW + GONE_AFTER;
    table.forget_gone(later);
    assert_eq!(urls(&table), ["http://elsewhere"]);
    assert!(table.is_announced() || table.contacts().len() == 1);
}

#[test]
fn a_node_whose_name_is_taken_believes_nothing() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true), found("b", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    assert!(table.lease(NOW) > NOW);
    let taken = HeartbeatAck {
        sender: SenderStatus {
            taken: Some("http://elsewhere".to_owned()),
            reached: true,
        },
        ..ack("b", 1)
    };
    table.record_ack("b", &taken, NOW, NOW);
    assert_eq!(table.rival().unwrap(), "http://elsewhere");
    assert_eq!(table.lease(NOW), Duration::ZERO);
    table.record_ack("b", &ack("b", 1), NOW, NOW);
    assert!(table.rival().is_none() && table.lease(NOW) > NOW);
}

#[test]
fn a_lease_needs_no_answer_from_nodes_that_refuse_leave_or_are_new() {
    let mut table = table();
    let all = ["a", "b", "c", "d"].map(|name| found(name, true));
    table.apply_discovery(all.to_vec(), NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    assert_eq!(table.lease(NOW), Duration::ZERO, "two of five");
    table.record_missed("b", true, NOW);
    table.record_missed("c", false, NOW);
    assert_eq!(table.lease(NOW), Duration::ZERO, "two of four");
    let mut bye = heartbeat("d", 1);
    bye.leaving = true;
    table.record_heartbeat(&bye, NOW);
    assert_eq!(table.lease(NOW), NOW + lease::LEASE, "two of three");
    let mut more = all.to_vec();
    more.extend(["e", "f"].map(|name| found(name, true)));
    table.apply_discovery(more, NOW);
    assert_eq!(table.lease(NOW), NOW + lease::LEASE, "two are new");
    let later = NOW + lease::LEASE;
    assert_eq!(table.lease(later), Duration::ZERO, "not any more");
}

#[test]
fn one_that_starts_again_does_not_end_the_lease_of_the_other() {
    let mut table = table();
    table.apply_discovery(vec![found("a", true)], NOW);
    table.record_ack("a", &ack("a", 1), NOW, NOW);
    table.record_missed("a", true, NOW);
    assert_eq!(table.lease(NOW), Duration::MAX, "no process is there");
    table.record_heartbeat(&heartbeat("a", 2), NOW);
    assert!(table.lease(NOW) > NOW, "it has just come up");
}
