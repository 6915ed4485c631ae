//! A breadth-first search through every state that a world can reach, so the first counter-example is a shortest one.

use std::collections::HashSet;
use std::rc::Rc;

use super::world::{Event, Plan, World};

/// What the search found.
pub(super) struct Outcome {
    /// Different states.
    pub(super) states: usize,
    /// In some state every invalidation of the plan was complete.
    pub(super) completed: bool,
    /// The events that lead to a stale read.
    pub(super) stale: Option<Vec<Event>>,
}

/// Visits all states of a plan, or stops at the first stale one.
pub(super) fn explore(plan: Plan) -> Outcome {
    let first = Rc::new(World::new(plan));
    let mut seen = HashSet::from([Rc::clone(&first)]);
    // Each state with the one it came from, in the order of discovery.
    let mut states = vec![(first, 0, Event::Begin)];
    let (mut at, mut completed) = (0, false);
    let mut next = Vec::new();
    while at < states.len() {
        let world = Rc::clone(&states[at].0);
        completed |= world.is_complete();
        world.successors(plan, &mut next);
        for (event, world) in next.drain(..) {
            let stale = world.is_stale();
            if seen.contains(&world) {
                continue;
            }
            let world = Rc::new(world);
            seen.insert(Rc::clone(&world));
            states.push((world, at, event));
            if stale {
                return Outcome {
                    states: states.len(),
                    completed,
                    stale: Some(path(&states)),
                };
            }
        }
        at += 1;
    }
    Outcome {
        states: states.len(),
        completed,
        stale: None,
    }
}

fn path(states: &[(Rc<World>, usize, Event)]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = states.len() - 1;
    while at > 0 {
        events.push(states[at].2);
        at = states[at].1;
    }
    events.reverse();
    events
}
