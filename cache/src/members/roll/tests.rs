use proptest::prelude::*;

use super::node::GONE_AFTER;
use super::*;

const NOW: Duration = Duration::from_secs(100);

fn roll() -> Roll {
    Roll::new(contact("me"), None, 1)
}

fn contact(name: &str) -> Contact {
    Contact {
        name: name.to_owned(),
        url: format!("http://{name}"),
    }
}

fn found(name: &str, serving: bool) -> Found {
    Found {
        name: name.to_owned(),
        url: format!("http://{name}"),
        zone: None,
        serving,
        terminating: false,
    }
}

fn hello(name: &str, boot: u64) -> Hello {
    Hello {
        name: name.to_owned(),
        url: format!("http://{name}"),
        boot,
        leaving: false,
        sidecar: false,
        joining: false,
        members: vec![],
    }
}

fn welcome(name: &str, boot: u64) -> Welcome {
    Welcome {
        name: name.to_owned(),
        boot,
        members: vec![],
        owing: vec![],
        taken: None,
        reached: true,
    }
}

fn state(roll: &Roll, name: &str) -> Option<State> {
    let members = roll.members();
    let member = members.iter().find(|member| member.name == name);
    member.map(|member| member.state)
}

fn knows(roll: &Roll, name: &str) -> bool {
    roll.contacts().iter().any(|known| known.name == name)
}

#[test]
fn this_node_is_in_the_list_whatever_discovery_says() {
    let mut roll = roll();
    assert_eq!(state(&roll, "me"), Some(State::Joining));
    roll.discovered(vec![found("a", true)], NOW);
    assert_eq!(state(&roll, "me"), Some(State::Joining));
    roll.set_ready();
    let mut me = found("me", false);
    me.terminating = true;
    me.zone = Some("z".to_owned());
    roll.discovered(vec![me], NOW);
    assert_eq!(state(&roll, "me"), Some(State::Serving));
    assert_eq!(roll.members()[0].zone.as_deref(), Some("z"));
    assert!(!knows(&roll, "me"));
    roll.leave();
    roll.set_ready();
    assert_eq!(state(&roll, "me"), Some(State::Leaving));
    assert!(roll.hello().leaving);
}

#[test]
fn a_member_joins_when_it_serves_and_a_readiness_flap_does_not_move_it() {
    let mut roll = roll();
    roll.discovered(vec![found("a", false)], NOW);
    assert_eq!(state(&roll, "a"), Some(State::Joining));
    for serving in [true, false, true, false] {
        roll.discovered(vec![found("a", serving)], NOW);
        assert_eq!(state(&roll, "a"), Some(State::Serving));
    }
}

#[test]
fn a_terminating_member_leaves_and_so_does_one_that_says_so() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true), found("b", true)], NOW);
    let mut terminating = found("a", true);
    terminating.terminating = true;
    roll.discovered(vec![terminating, found("b", true)], NOW);
    let mut leaving = hello("b", 1);
    leaving.leaving = true;
    roll.heard(&leaving, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Leaving));
    assert_eq!(state(&roll, "b"), Some(State::Leaving));
    assert!(knows(&roll, "a") && knows(&roll, "b"));
}

#[test]
fn a_silent_member_keeps_its_place_and_is_back_on_the_first_answer() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.unanswered("a", false, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Silent));
    roll.heard(&hello("a", 1), NOW);
    assert_eq!(state(&roll, "a"), Some(State::Silent));
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Serving));
    roll.suspect("a", NOW);
    assert_eq!(state(&roll, "a"), Some(State::Silent));
}

#[test]
fn an_answer_under_another_name_is_no_answer() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("b", 1), NOW, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Silent));
}

#[test]
fn a_node_that_is_gone_is_told_until_it_has_been_silent_for_ten_seconds() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.discovered(vec![], NOW);
    assert_eq!(state(&roll, "a"), None);
    let later = NOW + GONE_AFTER * 3;
    roll.answered("a", &welcome("a", 1), later, later);
    roll.forget_gone(later + GONE_AFTER);
    assert!(knows(&roll, "a"), "it answered all the time");
    roll.unanswered("a", false, later);
    roll.heard(&hello("a", 1), later + GONE_AFTER / 2);
    roll.forget_gone(later + GONE_AFTER);
    assert!(
        knows(&roll, "a"),
        "it said hello, though it could not be reached"
    );
    roll.forget_gone(later + GONE_AFTER / 2 + GONE_AFTER);
    assert!(!knows(&roll, "a"));
}

#[test]
fn a_silent_node_that_discovery_names_is_told_for_ever() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.unanswered("a", false, NOW);
    roll.forget_gone(NOW + GONE_AFTER * 100);
    assert!(knows(&roll, "a"));
}

#[test]
fn a_stranger_who_says_hello_is_told_of_invalidations_but_owns_nothing() {
    let mut roll = roll();
    roll.heard(&hello("a", 1), NOW);
    assert!(knows(&roll, "a"));
    assert_eq!(state(&roll, "a"), None);
}

#[test]
fn a_new_incarnation_replaces_the_old_one_whose_late_words_count_for_nothing() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    let mut old = hello("a", 1);
    old.leaving = true;
    roll.heard(&old, NOW);
    let mut new = hello("a", 2);
    new.url = "http://elsewhere".to_owned();
    roll.heard(&new, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Serving));
    roll.heard(&old, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Serving));
    assert_eq!(roll.contacts()[0].url, "http://elsewhere");
}

#[test]
fn a_new_incarnation_has_to_be_ready_before_it_joins() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.discovered(vec![found("a", false)], NOW);
    roll.answered("a", &welcome("a", 2), NOW, NOW);
    assert_eq!(state(&roll, "a"), Some(State::Joining));
}

#[test]
fn a_new_address_from_discovery_wins_but_a_repeated_old_one_does_not() {
    let mut roll = roll();
    let at = |url: &str| Found {
        url: url.to_owned(),
        ..found("a", true)
    };
    roll.discovered(vec![at("http://1")], NOW);
    roll.discovered(vec![at("http://2")], NOW);
    assert_eq!(roll.contacts()[0].url, "http://2");
    let third = |boot| Hello {
        url: "http://3".to_owned(),
        ..hello("a", boot)
    };
    roll.heard(&third(1), NOW);
    assert_eq!(
        roll.contacts()[0].url,
        "http://2",
        "same incarnation, other address"
    );
    roll.suspect("a", NOW);
    roll.heard(&third(2), NOW);
    roll.discovered(vec![at("http://2")], NOW);
    assert_eq!(roll.contacts()[0].url, "http://3");
    roll.discovered(vec![at("http://4")], NOW);
    assert_eq!(roll.contacts()[0].url, "http://4");
}

#[test]
fn of_two_lines_of_one_name_the_one_that_does_not_terminate_counts() {
    let mut roll = roll();
    let old = Found {
        url: "http://old".to_owned(),
        terminating: true,
        ..found("a", false)
    };
    for lines in [[old.clone(), found("a", true)], [found("a", true), old]] {
        roll.discovered(lines.to_vec(), NOW);
        assert_eq!(roll.contacts()[0].url, "http://a");
        assert_eq!(state(&roll, "a"), Some(State::Serving));
    }
}

#[test]
fn hello_has_been_said_when_each_contact_answered_or_was_found_silent() {
    let mut roll = roll();
    assert!(
        !roll.said_hello(),
        "nothing is known before discovery has spoken"
    );
    roll.discovered(vec![found("a", true), found("b", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.suspect("b", NOW);
    assert!(!roll.said_hello(), "a suspicion is not an attempt");
    roll.unanswered("b", false, NOW);
    assert!(roll.said_hello());
    roll.learn(&[contact("c")], NOW);
    assert!(!roll.said_hello(), "one more has been named");
    roll.answered("c", &welcome("c", 1), NOW, NOW);
    assert!(roll.said_hello());
    roll.unanswered("a", false, NOW);
    roll.heard(&hello("a", 2), NOW);
    assert!(
        !roll.said_hello(),
        "another incarnation has not heard of this node"
    );
}

#[test]
fn two_nodes_do_not_remind_each_other_of_a_dead_third() {
    let mut rolls = [roll(), Roll::new(contact("b"), None, 2)];
    for roll in &mut rolls {
        roll.heard(&hello("dead", 1), NOW);
        roll.unanswered("dead", false, NOW);
    }
    for second in 0..40 {
        let now = NOW + Duration::from_secs(second);
        for (left, right) in [(0, 1), (1, 0)] {
            let names = rolls[left].vouched();
            rolls[right].learn(&names, now);
            rolls[right].unanswered("dead", false, now);
            rolls[right].forget_gone(now);
        }
    }
    assert!(!knows(&rolls[0], "dead") && !knows(&rolls[1], "dead"));
}

#[test]
fn contacts_are_bounded_and_discovery_comes_first() {
    let mut roll = roll();
    for i in 0..MAX_CONTACTS + 10 {
        roll.heard(&hello(&format!("n{i}"), 1), NOW);
    }
    assert_eq!(roll.contacts().len(), MAX_CONTACTS);
    roll.discovered(vec![found("a", true)], NOW);
    assert_eq!(roll.contacts().len(), MAX_CONTACTS);
    assert_eq!(state(&roll, "a"), Some(State::Serving));
}

#[derive(Debug, Clone)]
enum Word {
    Found(Vec<(u8, bool, bool)>),
    Heard(u8, u64, bool),
    Answered(u8, u64),
    Unanswered(u8),
    Suspect(u8),
    Later(u64),
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let line = (0..4_u8, any::<bool>(), prop::bool::weighted(0.2));
    let word = prop_oneof![
        prop::collection::vec(line, 0..5).prop_map(Word::Found),
        (0..4_u8, 1..4_u64, any::<bool>()).prop_map(|(n, boot, bye)| Word::Heard(n, boot, bye)),
        (0..4_u8, 1..4_u64).prop_map(|(n, boot)| Word::Answered(n, boot)),
        (0..4_u8).prop_map(Word::Unanswered),
        (0..4_u8).prop_map(Word::Suspect),
        (0..12_u64).prop_map(Word::Later),
    ];
    prop::collection::vec(word, 1..60)
}

proptest! {
    #[test]
    fn whatever_is_said_the_members_are_this_node_and_those_of_the_newest_discovery(words in words()) {
        let (mut roll, mut now) = (roll(), NOW);
        let mut listed: Vec<(String, bool)> = vec![];
        let mut served: Vec<String> = vec![];
        for word in words {
            let before = roll.members();
            roll.take_changed();
            let name = |n: u8| format!("n{n}");
            match word {
                Word::Found(lines) => {
                    let lines: Vec<Found> = lines.into_iter().map(|(n, serving, terminating)| Found { terminating, ..found(&name(n), serving) }).collect();
                    listed = lines.iter().map(|line| (line.name.clone(), line.terminating)).collect();
                    served.extend(lines.iter().filter(|line| line.serving).map(|line| line.name.clone()));
                    roll.discovered(lines, now);
                }
                Word::Heard(n, boot, leaving) => {
                    roll.heard(&Hello { leaving, ..hello(&name(n), boot) }, now);
                }
                Word::Answered(n, boot) => roll.answered(&name(n), &welcome(&name(n), boot), now, now),
                Word::Unanswered(n) => roll.unanswered(&name(n), false, now),
                Word::Suspect(n) => {
                    roll.suspect(&name(n), now);
                    prop_assert_ne!(state(&roll, &name(n)), Some(State::Serving));
                }
                Word::Later(seconds) => {
                    now += Duration::from_secs(seconds);
                    roll.forget_gone(now);
                }
            }
            let members = roll.members();
            prop_assert!(roll.take_changed() || members == before, "a change went unnoticed");
            prop_assert!(members.iter().any(|member| member.name == "me"));
            prop_assert!(members.is_sorted_by(|left, right| left.name < right.name));
            for (name, _) in &listed {
                prop_assert!(knows(&roll, name) && state(&roll, name).is_some());
            }
            for member in members.iter().filter(|member| member.name != "me") {
                prop_assert!(knows(&roll, &member.name));
                prop_assert!(listed.iter().any(|(name, _)| *name == member.name));
                if listed.iter().all(|(name, terminating)| *name != member.name || *terminating) {
                    prop_assert_eq!(member.state, State::Leaving);
                }
                if member.state == State::Serving {
                    prop_assert!(served.contains(&member.name));
                }
            }
        }
    }
}

#[test]
fn a_sidecar_is_answered_and_neither_noted_nor_named() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.take_changed();
    let hello = Hello {
        sidecar: true,
        members: vec![contact("z")],
        ..hello("sidecar@web", 7)
    };
    roll.heard(&hello, NOW);
    assert!(!roll.take_changed());
    assert!(!knows(&roll, "sidecar@web") && !knows(&roll, "z"));
    assert_eq!(
        roll.welcome(Standing::default()).members,
        [contact("me"), contact("a")]
    );
}

#[test]
fn a_sidecar_follows_the_ring_and_is_not_in_it() {
    let mut roll = Roll::beside(contact("sidecar@web"), 1);
    assert!(!roll.knows_the_ring());
    roll.discovered(vec![], NOW);
    assert!(!roll.knows_the_ring(), "there is nobody to tell");
    assert!(roll.said_hello(), "there is nobody to greet");
    roll.discovered(vec![found("a", true), found("b", true)], NOW);
    assert!(roll.knows_the_ring() && !roll.said_hello());
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.unanswered("b", false, NOW);
    roll.set_ready();
    assert!(roll.said_hello());
    let states: Vec<_> = ["a", "b", "sidecar@web"]
        .iter()
        .map(|name| state(&roll, name))
        .collect();
    assert_eq!(states, [Some(State::Serving), Some(State::Silent), None]);
    assert!(roll.hello().sidecar);
    assert!(!roll.vouched().contains(&contact("sidecar@web")));
}

#[test]
fn a_node_alone_knows_its_ring_once_discovery_has_spoken() {
    let mut roll = roll();
    assert!(!roll.knows_the_ring());
    roll.discovered(vec![], NOW);
    assert!(roll.knows_the_ring());
}

fn contact_at(name: &str, url: &str) -> Contact {
    Contact {
        url: url.to_owned(),
        ..contact(name)
    }
}

fn elsewhere(name: &str, boot: u64) -> Hello {
    Hello {
        url: "http://elsewhere".to_owned(),
        ..hello(name, boot)
    }
}

#[test]
fn a_second_process_of_a_name_is_not_noted_while_the_first_one_lives() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    let taken = roll.heard(&elsewhere("a", 2), NOW).taken;
    assert_eq!(taken.as_deref(), Some("http://a"));
    assert_eq!(roll.contacts(), [contact_at("a", "http://a")]);
    assert_eq!(roll.heard(&hello("a", 1), NOW).taken, None);
    let own = roll.heard(&elsewhere("me", 7), NOW).taken;
    assert_eq!(own.as_deref(), Some("http://me"));
}

#[test]
fn a_process_that_starts_again_where_it_was_is_known_by_its_first_answer() {
    let mut roll = roll();
    let second = Duration::from_secs(1);
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    let at_first = roll.heard(&hello("a", 2), NOW);
    assert_eq!(at_first.taken, None);
    assert!(at_first.unproved && !at_first.reached);
    assert!(
        !roll.heard(&hello("a", 2), NOW).unproved,
        "it is being asked"
    );
    roll.answered("a", &welcome("a", 2), NOW + second, NOW + second);
    assert!(roll.heard(&hello("a", 2), NOW + second).reached);
    assert_eq!(roll.contacts(), [contact_at("a", "http://a")]);
}

#[test]
fn of_two_processes_that_give_one_address_the_one_that_answers_there_is_the_node() {
    let mut roll = roll();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    assert_eq!(roll.heard(&hello("a", 2), at(1)).taken, None);
    roll.answered("a", &welcome("a", 1), NOW, at(1));
    assert_eq!(
        roll.heard(&hello("a", 2), at(1)).taken,
        None,
        "an old answer"
    );
    roll.answered("a", &welcome("a", 1), at(1), at(2));
    let taken = roll.heard(&hello("a", 2), at(2)).taken;
    assert_eq!(taken.as_deref(), Some("http://a"));
    assert!(roll.heard(&hello("a", 1), at(2)).reached);
}

#[test]
fn a_process_that_hung_and_answers_again_at_its_address_is_the_node_again() {
    let mut roll = roll();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.unanswered("a", false, at(1));
    let standing = roll.heard(&hello("a", 2), at(2));
    assert!(standing.taken.is_none() && !standing.reached);
    roll.answered("a", &welcome("a", 1), at(1), at(3));
    assert!(!roll.heard(&hello("a", 1), at(3)).reached, "a late word");
    roll.answered("a", &welcome("a", 1), at(3), at(3));
    assert!(roll.heard(&hello("a", 1), at(3)).reached);
    assert!(!roll.heard(&hello("a", 2), at(3)).reached);
}

#[test]
fn who_does_not_reach_a_node_renews_no_lease() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    let deaf = Welcome {
        reached: false,
        ..welcome("a", 1)
    };
    roll.answered("a", &deaf, NOW, NOW);
    assert_eq!(
        (roll.lease(NOW), roll.said_hello()),
        (Duration::ZERO, false)
    );
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    assert!(roll.lease(NOW) > NOW && roll.said_hello());
}

#[test]
fn a_process_that_starts_again_elsewhere_is_not_hindered_once_the_old_one_is_gone() {
    for way in ["leaves", "refuses", "terminates"] {
        let mut roll = roll();
        roll.discovered(vec![found("a", true)], NOW);
        roll.answered("a", &welcome("a", 1), NOW, NOW);
        let mut last = hello("a", 1);
        last.leaving = true;
        let gone = Found {
            terminating: true,
            ..found("a", false)
        };
        match way {
            "leaves" => assert_eq!(roll.heard(&last, NOW).taken, None),
            "refuses" => roll.unanswered("a", true, NOW),
            _ => roll.discovered(vec![gone], NOW),
        }
        assert_eq!(roll.heard(&elsewhere("a", 2), NOW).taken, None, "{way}");
        let told = roll.contacts();
        assert_eq!(told[0], contact_at("a", "http://elsewhere"), "{way}");
        // One that terminates has not said farewell: it may still read.
        assert_eq!(told.len(), if way == "terminates" { 2 } else { 1 }, "{way}");
    }
}

#[test]
fn a_process_that_hangs_is_told_on_though_another_has_taken_its_name() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.unanswered("a", false, NOW);
    assert_eq!(roll.heard(&elsewhere("a", 2), NOW).taken, None);
    let urls = |roll: &Roll| -> Vec<String> {
        let contacts = roll.contacts().into_iter();
        contacts.map(|contact| contact.url).collect()
    };
    assert_eq!(urls(&roll), ["http://elsewhere", "http://a"]);
    let taken = roll.heard(&hello("a", 1), NOW).taken;
    assert_eq!(taken.as_deref(), Some("http://elsewhere"), "it wakes");
    let later = NOW + GONE_AFTER;
    roll.forget_gone(later);
    assert_eq!(urls(&roll), ["http://elsewhere"]);
    assert!(roll.said_hello() || roll.contacts().len() == 1);
}

#[test]
fn a_node_whose_name_is_taken_believes_nothing() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true), found("b", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    assert!(roll.lease(NOW) > NOW);
    let taken = Welcome {
        taken: Some("http://elsewhere".to_owned()),
        ..welcome("b", 1)
    };
    roll.answered("b", &taken, NOW, NOW);
    assert_eq!(roll.rival().unwrap(), "http://elsewhere");
    assert_eq!(roll.lease(NOW), Duration::ZERO);
    roll.answered("b", &welcome("b", 1), NOW, NOW);
    assert!(roll.rival().is_none() && roll.lease(NOW) > NOW);
}

#[test]
fn who_refuses_leaves_or_has_just_been_found_need_not_answer_for_a_lease() {
    let mut roll = roll();
    let all = ["a", "b", "c", "d"].map(|name| found(name, true));
    roll.discovered(all.to_vec(), NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    assert_eq!(roll.lease(NOW), Duration::ZERO, "two of five");
    roll.unanswered("b", true, NOW);
    roll.unanswered("c", false, NOW);
    assert_eq!(roll.lease(NOW), Duration::ZERO, "two of four");
    let mut bye = hello("d", 1);
    bye.leaving = true;
    roll.heard(&bye, NOW);
    assert_eq!(roll.lease(NOW), NOW + lease::LEASE, "two of three");
    let mut more = all.to_vec();
    more.extend(["e", "f"].map(|name| found(name, true)));
    roll.discovered(more, NOW);
    assert_eq!(roll.lease(NOW), NOW + lease::LEASE, "two are new");
    let later = NOW + lease::LEASE;
    assert_eq!(roll.lease(later), Duration::ZERO, "not any more");
}

#[test]
fn one_that_starts_again_does_not_end_the_lease_of_the_other() {
    let mut roll = roll();
    roll.discovered(vec![found("a", true)], NOW);
    roll.answered("a", &welcome("a", 1), NOW, NOW);
    roll.unanswered("a", true, NOW);
    assert_eq!(roll.lease(NOW), Duration::MAX, "no process is there");
    roll.heard(&hello("a", 2), NOW);
    assert!(roll.lease(NOW) > NOW, "it has just come up");
}
