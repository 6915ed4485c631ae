//! Planted violations, each found, beside the histories that only look like them.

use super::*;

fn version(sequence: u64) -> Version {
    Version {
        key: 0,
        writer: 0,
        sequence,
    }
}

fn stored(sequence: u64) -> Value {
    Value::Stored(version(sequence))
}

fn commit(at: Time, value: Value) -> Commit {
    Commit {
        key: 0,
        at,
        value,
        behind: false,
    }
}

fn span(start: Time, end: Time) -> Span {
    Span { start, end }
}

fn read(node: usize, start: Time, end: Time, value: Value) -> Read {
    Read {
        key: 0,
        node,
        span: span(start, end),
        value,
        how: "GET".to_owned(),
    }
}

fn write(start: Time, end: Time, effect: Effect, outcome: Outcome) -> Write {
    Write {
        keys: vec![0],
        node: 0,
        span: span(start, end),
        effect,
        outcome,
        how: "PUT".to_owned(),
    }
}

const DONE: Outcome = Outcome::Done {
    unanswered: Vec::new(),
};

/// Version 1 from 10 on, version 2 written from 20 to 40 and landed at 30.
fn overwritten(outcome: Outcome) -> History {
    History {
        commits: vec![commit(10, stored(1)), commit(30, stored(2))],
        writes: vec![write(20, 40, Effect::Store(version(2)), outcome)],
        ..History::default()
    }
}

fn with(history: &History, read: Read) -> usize {
    let mut history = history.clone();
    history.reads.push(read);
    history.violations().len()
}

#[test]
fn a_read_after_an_acknowledged_write_must_not_give_the_version_before() {
    let history = overwritten(DONE);
    assert_eq!(with(&history, read(1, 41, 50, stored(1))), 1);
    assert_eq!(with(&history, read(1, 41, 50, Value::Absent)), 1);
    assert_eq!(with(&history, read(1, 41, 50, stored(2))), 0);
    // Begun before, it may give either.
    assert_eq!(with(&history, read(1, 39, 50, stored(1))), 0);
    assert_eq!(with(&history, read(1, 39, 50, stored(2))), 0);
}

#[test]
fn a_read_gives_nothing_that_is_yet_to_come_and_nothing_that_never_was() {
    let history = overwritten(DONE);
    assert_eq!(with(&history, read(1, 11, 29, stored(2))), 1);
    assert_eq!(with(&history, read(1, 11, 12, stored(9))), 1);
    assert_eq!(with(&history, read(1, 11, 12, Value::Absent)), 0);
}

#[test]
fn a_deletion_binds_like_a_write() {
    let history = History {
        commits: vec![commit(10, stored(1)), commit(30, Value::Absent)],
        writes: vec![write(20, 40, Effect::Remove, DONE)],
        ..History::default()
    };
    assert_eq!(with(&history, read(2, 41, 50, stored(1))), 1);
    assert_eq!(with(&history, read(2, 41, 50, Value::Absent)), 0);
}

#[test]
fn a_change_behind_falcon_counts_from_an_invalidation_that_began_after_it() {
    let mut history = History {
        commits: vec![commit(10, stored(1)), commit(30, stored(2))],
        ..History::default()
    };
    assert_eq!(with(&history, read(1, 1000, 1001, stored(1))), 0);
    history.writes = vec![write(25, 40, Effect::Invalidate, DONE)];
    assert_eq!(with(&history, read(1, 1000, 1001, stored(1))), 0);
    history.writes = vec![write(31, 40, Effect::Invalidate, DONE)];
    assert_eq!(with(&history, read(1, 41, 50, stored(1))), 1);
}

#[test]
fn a_deletion_behind_falcon_is_no_request_s_work() {
    let unknown = Outcome::Unknown { answered: false };
    let mut history = History {
        commits: vec![commit(10, stored(1)), commit(90, Value::Absent)],
        writes: vec![write(20, 40, Effect::Remove, unknown)],
        settled: vec![100],
        ..History::default()
    };
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 1);
    history.commits[1].behind = true;
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 0);
}

#[test]
fn an_unknown_outcome_binds_only_if_it_landed_and_all_is_well() {
    let unknown = Outcome::Unknown { answered: true };
    let mut history = overwritten(unknown.clone());
    assert_eq!(with(&history, read(1, 41, 50, stored(1))), 0);
    assert_eq!(with(&history, read(1, 41, 50, stored(2))), 0);
    history.settled = vec![100];
    assert_eq!(with(&history, read(1, 99, 110, stored(1))), 0);
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 1);
    history.commits.pop();
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 0);
    // It lands long after its answer.
    history.commits.push(commit(90, stored(2)));
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 1);
}

#[test]
fn a_write_whose_node_ended_before_it_said_anything_is_nobodys_promise() {
    let mut history = overwritten(Outcome::Unknown { answered: false });
    history.settled = vec![100];
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 1);
    history.ended = vec![(1, 35)];
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 1);
    history.ended = vec![(0, 35)];
    assert_eq!(with(&history, read(1, 101, 110, stored(1))), 0);
}

#[test]
fn an_incomplete_barrier_binds_those_that_answered_and_later_everybody() {
    let unanswered = vec![2];
    let mut history = overwritten(Outcome::Done { unanswered });
    assert_eq!(with(&history, read(2, 41, 50, stored(1))), 0);
    assert_eq!(with(&history, read(1, 41, 50, stored(1))), 1);
    // Node 2 is only out of reach: a sidecar, which knows of nothing, may ask it when it is back.
    history.sidecars = vec![3];
    assert_eq!(with(&history, read(3, 41, 50, stored(1))), 1);
    history.hung = vec![(2, span(15, 35))];
    assert_eq!(with(&history, read(3, 41, 50, stored(1))), 0);
    assert_eq!(with(&history, read(1, 41, 50, stored(1))), 1);
    history.settled = vec![100];
    // Its end, after the answer, changes nothing.
    history.ended = vec![(0, 50)];
    for node in [1, 2, 3] {
        assert_eq!(with(&history, read(node, 101, 110, stored(1))), 1);
    }
}

#[test]
fn an_acknowledged_write_that_is_lost_and_a_refused_one_there_are_found() {
    assert_eq!(overwritten(DONE).violations().len(), 0);
    let mut lost = overwritten(DONE);
    lost.commits.pop();
    assert_eq!(lost.violations().len(), 1);
    assert_eq!(overwritten(Outcome::Refused).violations().len(), 1);
}

#[test]
fn a_version_that_comes_back_is_current_again() {
    let mut history = overwritten(DONE);
    history.commits.push(commit(50, stored(1)));
    assert_eq!(with(&history, read(1, 41, 55, stored(1))), 0);
    assert_eq!(with(&history, read(1, 41, 49, stored(1))), 1);
}
