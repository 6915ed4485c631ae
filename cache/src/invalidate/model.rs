//! The promise of `/invalidate`, checked in every order of events: nodes, one key, an S3 that is written to, readers
//! everywhere.
//!
//! Readers are not part of the state. One could come to any serving node at any moment, so a head below the floor (what
//! completed invalidations have promised) is already a stale read, and a read in progress that can be joined owes its
//! result to a reader of this moment. Whatever holds the last version that is written can't be stale and is dropped
//! from the state at once, so only states that still contain something old remain.

mod explorer;
mod world;

use explorer::explore;
use world::{Mutant, Plan};

/// Two writes, each followed by an invalidation, from two coordinators that don't know of each other's.
const TWO_WRITES: Plan = Plan {
    writes: 2,
    calls: 2,
    rounds: 2,
    flights: 3,
    lost: 0,
    deaths: 0,
    lapses: 0,
    joins: false,
    sidecar: false,
    mutant: None,
};

/// One write and one invalidation, and more reads in progress at a time.
const MANY_FLIGHTS: Plan = Plan {
    writes: 1,
    calls: 1,
    flights: 4,
    ..TWO_WRITES
};

/// The third node starts in the middle and sends a heartbeat.
const A_NODE_JOINS: Plan = Plan {
    joins: true,
    ..MANY_FLIGHTS
};

/// The same with two writes and both coordinators; fewer reads at a time, to limit the number of states.
#[cfg(not(debug_assertions))]
const A_NODE_JOINS_TWO_WRITES: Plan = Plan {
    flights: 2,
    joins: true,
    ..TWO_WRITES
};

/// Orders or their answers are lost. The call has promised nothing then; collecting the debts does.
const LOST_ORDERS: Plan = Plan {
    flights: 2,
    lost: 2,
    ..MANY_FLIGHTS
};

/// The same, and a node may die at any moment: the coordinator, one that remembers, or one that owes.
const LOST_ORDERS_AND_A_DEATH: Plan = Plan {
    flights: 2,
    lost: 2,
    deaths: 1,
    ..MANY_FLIGHTS
};

/// A node hangs, or is cut off, for longer than its lease: the others may give it up. It keeps serving.
const A_LEASE_RUNS_OUT: Plan = Plan {
    flights: 2,
    lapses: 1,
    ..MANY_FLIGHTS
};

/// Two nodes owe at a time.
#[cfg(not(debug_assertions))]
const TWO_OWE: Plan = Plan {
    flights: 2,
    lost: 4,
    ..MANY_FLIGHTS
};

/// A node owes, and another one starts.
const A_NODE_JOINS_WHILE_ONE_OWES: Plan = Plan {
    flights: 2,
    lost: 2,
    joins: true,
    ..MANY_FLIGHTS
};

/// A sidecar beside two nodes: it carries out the first invalidation, one of the nodes the second.
const BESIDE: Plan = Plan {
    sidecar: true,
    ..TWO_WRITES
};

/// A sidecar beside a node, which passes its invalidation to a second one that starts in the middle and never hears of
/// the sidecar.
const BESIDE_WHILE_A_NODE_JOINS: Plan = Plan {
    joins: true,
    ..BESIDE
};

fn holds(name: &str, plan: Plan) {
    let started = tokio::time::Instant::now();
    let outcome = explore(plan);
    println!(
        "{name}: {} states, {:.1} s",
        outcome.states,
        started.elapsed().as_secs_f64()
    );
    assert!(outcome.completed, "no invalidation ever completed");
    if let Some(steps) = outcome.stale {
        panic!("stale after:\n{steps:#?}");
    }
}

fn fails(mutant: Mutant, plan: Plan) {
    fails_as(Plan {
        mutant: Some(mutant),
        ..plan
    });
}

fn fails_as(plan: Plan) {
    let outcome = explore(plan);
    let steps = outcome.stale.expect("breaking the rule does no harm");
    println!(
        "{plan:?}: stale after {} steps, {} states\n{steps:?}",
        steps.len(),
        outcome.states
    );
}

#[test]
fn no_read_is_stale_after_two_writes_and_their_invalidations() {
    holds("two writes", TWO_WRITES);
}

#[test]
fn no_read_is_stale_however_many_reads_are_under_way() {
    holds("many flights", MANY_FLIGHTS);
}

#[test]
fn no_read_is_stale_when_a_node_joins_in_the_middle() {
    holds("a node joins", A_NODE_JOINS);
}

/// 2.4 million states: minutes in a dev build.
#[cfg(not(debug_assertions))]
#[test]
fn no_read_is_stale_when_a_node_joins_between_two_writes() {
    holds("a node joins, two writes", A_NODE_JOINS_TWO_WRITES);
}

#[test]
fn no_read_is_stale_once_the_retry_of_a_lost_order_is_complete() {
    holds("lost orders", LOST_ORDERS);
}

#[test]
fn no_read_is_stale_at_a_sidecar_that_nobody_knows() {
    holds("beside", BESIDE);
}

#[test]
fn no_read_is_stale_at_a_sidecar_while_a_node_joins() {
    holds("beside, a node joins", BESIDE_WHILE_A_NODE_JOINS);
}

#[test]
fn no_read_is_stale_once_nobody_remembers_a_debt_whoever_died() {
    holds("lost orders, a death", LOST_ORDERS_AND_A_DEATH);
}

/// 1.2 million states: two minutes in a dev build.
#[cfg(not(debug_assertions))]
#[test]
fn no_read_is_stale_at_a_node_that_was_given_up_and_comes_back() {
    holds("a lease runs out", A_LEASE_RUNS_OUT);
}

#[test]
fn giving_up_a_node_before_its_lease_has_run_out_would_be_stale() {
    fails(Mutant::GivenUpBeforeTheLapse, A_LEASE_RUNS_OUT);
}

#[test]
fn believing_without_a_lease_would_be_stale() {
    fails(Mutant::BelievesWithoutALease, A_LEASE_RUNS_OUT);
}

#[test]
fn keeping_heads_when_the_lease_is_renewed_would_be_stale() {
    fails(Mutant::KeepsItsHeads, A_LEASE_RUNS_OUT);
}

#[test]
fn storing_a_read_from_before_the_lease_was_renewed_would_be_stale() {
    fails(Mutant::DropsItsHeadsAlone, A_LEASE_RUNS_OUT);
}

/// Minutes in a dev build.
#[cfg(not(debug_assertions))]
#[test]
fn no_read_is_stale_once_two_have_paid() {
    holds("two owe", TWO_OWE);
}

/// 0.9 million states: a minute in a dev build.
#[cfg(not(debug_assertions))]
#[test]
fn no_read_is_stale_when_a_node_joins_while_one_owes() {
    holds("a node joins, one owes", A_NODE_JOINS_WHILE_ONE_OWES);
}

#[test]
fn a_debt_that_only_the_coordinator_remembered_would_be_stale() {
    fails(Mutant::OnlyTheCoordinatorRemembers, LOST_ORDERS_AND_A_DEATH);
}

#[test]
fn copying_what_a_node_knows_that_owes_would_be_stale() {
    fails(Mutant::AsksWhoOwes, LOST_ORDERS);
}

#[cfg(not(debug_assertions))]
#[test]
fn collecting_without_a_word_of_who_else_owes_would_be_stale() {
    fails(Mutant::TellsOfNoOtherDebt, TWO_OWE);
}

#[test]
fn a_newcomer_that_owed_nothing_would_be_stale() {
    fails(Mutant::NewcomersOweNothing, A_NODE_JOINS_WHILE_ONE_OWES);
}

#[test]
fn a_sidecar_that_told_only_whom_it_knew_at_first_would_make_others_stale() {
    fails(Mutant::OnlyTheFirstSet, BESIDE_WHILE_A_NODE_JOINS);
}

#[test]
fn a_sidecar_that_believed_a_head_would_be_stale() {
    fails(Mutant::SidecarBelieves, BESIDE);
}

#[test]
fn a_sidecar_that_joined_a_question_that_is_out_would_be_stale() {
    fails(Mutant::SidecarJoins, BESIDE);
}

#[test]
fn a_single_round_would_be_stale() {
    fails_as(Plan {
        rounds: 1,
        ..MANY_FLIGHTS
    });
}

#[test]
fn storing_without_the_ticket_would_be_stale() {
    fails(Mutant::NoTicket, MANY_FLIGHTS);
}

#[test]
fn joining_a_read_that_is_under_way_would_be_stale() {
    fails(Mutant::NoDetach, MANY_FLIGHTS);
}

#[test]
fn passing_on_a_copied_head_would_be_stale() {
    fails(Mutant::PassesOnCopies, MANY_FLIGHTS);
}

#[test]
fn passing_on_a_copied_head_would_be_stale_after_any_number_of_rounds() {
    for rounds in 3..6 {
        fails_as(Plan {
            rounds,
            mutant: Some(Mutant::PassesOnCopies),
            ..MANY_FLIGHTS
        });
    }
}

#[test]
fn not_telling_a_node_that_joined_would_be_stale() {
    fails(Mutant::OnlyTheFirstSet, A_NODE_JOINS);
}

#[test]
fn serving_before_the_hello_would_be_stale() {
    fails(Mutant::ServesUnheard, A_NODE_JOINS);
}

#[test]
fn a_coalesced_second_invalidation_would_be_stale() {
    fails(Mutant::Coalesced, TWO_WRITES);
}

#[test]
fn calling_an_unanswered_order_complete_would_be_stale() {
    fails(Mutant::LossIsSuccess, LOST_ORDERS);
}
