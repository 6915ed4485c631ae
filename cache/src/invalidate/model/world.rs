//! The nodes, their heads, the reads in progress and the invalidations, in indivisible steps.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::super::rounds::{Rounds, Step};
use crate::object::Scope;
use crate::store::{Generations, Ticket};

const NODES: usize = 3;

/// The sidecar, if a plan has one; it then carries out the first invalidation.
const SIDECAR: usize = 0;

/// The most invalidations of a plan.
const CALLS: usize = 2;

/// The most reads that a plan may have in progress at a time.
const MAX_FLIGHTS: usize = 4;

/// The hash of the one key; with one stripe, any value works.
const KEY: u64 = 0;

/// The generations of a node at every step, normalised, and a ticket from before them.
struct Counted {
    now: Rc<Generations>,
    outdated: Ticket,
}

thread_local! {
    static COUNTED: Counted = {
        let mut now = Generations::new(1);
        let outdated = now.begin(KEY);
        bump(&mut now);
        Counted { now: Rc::new(now), outdated }
    };
}

fn bump(generations: &mut Generations) {
    let scope = Scope::Key {
        bucket: String::new(),
        key: String::new(),
    };
    generations.bump(&scope, KEY);
}

/// What to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Writes to S3; the version counts them.
    pub(super) writes: u8,
    /// Invalidations, each called after the write of its number, at the node of its number.
    pub(super) calls: usize,
    /// Clean rounds in a row that complete an invalidation.
    pub(super) rounds: u8,
    /// Reads in progress at a time, over all nodes.
    pub(super) flights: usize,
    /// Orders that go unanswered.
    pub(super) lost: u8,
    /// Nodes that die.
    pub(super) deaths: u8,
    /// Leases that run out.
    pub(super) lapses: u8,
    /// The last node starts in the middle.
    pub(super) joins: bool,
    /// The first one is a sidecar: it asks again for each read, stores no head, and no node knows it. It knows one of
    /// the others.
    pub(super) sidecar: bool,
    /// The rule that is broken.
    pub(super) mutant: Option<Mutant>,
}

/// A rule of the protocol, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    NoTicket,
    NoDetach,
    PassesOnCopies,
    OnlyTheFirstSet,
    ServesUnheard,
    Coalesced,
    LossIsSuccess,
    SidecarBelieves,
    SidecarJoins,
    OnlyTheCoordinatorRemembers,
    AsksWhoOwes,
    TellsOfNoOtherDebt,
    NewcomersOweNothing,
    GivenUpBeforeTheLapse,
    BelievesWithoutALease,
    KeepsItsHeads,
    DropsItsHeadsAlone,
}

impl Plan {
    fn is_sidecar(&self, at: usize) -> bool {
        self.sidecar && at == SIDECAR
    }

    /// A head that is read there is stored there.
    fn stores(&self, at: usize) -> bool {
        !self.is_sidecar(at) || self.mutant == Some(Mutant::SidecarBelieves)
    }

    /// Later readers may join a read there.
    fn joins_reads(&self, at: usize) -> bool {
        !self.is_sidecar(at) || self.mutant == Some(Mutant::SidecarJoins)
    }
}

/// One indivisible step. Numbers are nodes, reads (`read`) and invalidations (`call`); where all nodes know each other,
/// nodes and reads are renumbered after each step.
#[derive(Debug, Clone, Copy)]
#[expect(
    dead_code,
    reason = "fields are read through Debug, in a counter-example"
)]
pub(super) enum Event {
    Begin,
    Write,
    Read { at: usize, home: usize },
    Asked { read: usize },
    S3Answers { read: usize },
    TakesAnswer { read: usize },
    Stores { read: usize },
    Evicts { at: usize },
    Invalidate { call: usize },
    Round { call: usize },
    Forgets { call: usize, at: usize },
    OrderLost { call: usize, at: usize },
    AnswerLost { call: usize, at: usize },
    Starts { knows: u8 },
    Heartbeat { to: usize },
    Serves,
    Pays { call: usize, to: usize, by: usize },
    Dies { at: usize },
    Lapses { at: usize },
    GivesUp { by: usize, at: usize },
    IsBack { at: usize, to: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    version: u8,
    copied: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    generations: Rc<Generations>,
    head: Option<Record>,
    serving: bool,
    /// Bits of the nodes that it knows; of itself too, once it runs.
    knows: u8,
    /// Bits of the nodes that it sent a heartbeat to.
    greeted: u8,
    /// Bits of the nodes that owe it each invalidation, as it remembers.
    owing: [u8; CALLS],
    /// Its lease has run out: it trusts none of its entries.
    lapsed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The request is on its way to the home.
    Asked(usize),
    /// The home's own read, by its place, will answer.
    Waits(usize),
    /// The answer is on its way back.
    Answered(u8),
    /// S3 has been asked, and has not read the object yet.
    Reading,
    /// S3 answered.
    Got(u8),
}

/// A read in progress: of S3, or a copy from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    at: usize,
    ticket: Ticket,
    /// A reader that arrives now would join it.
    open: bool,
    /// What was promised to the last reader that could join.
    floor: u8,
    stage: Stage,
}

impl Flight {
    fn is_copy(&self) -> bool {
        !matches!(self.stage, Stage::Reading | Stage::Got(_))
    }

    fn version(&self) -> Option<u8> {
        match self.stage {
            Stage::Answered(version) | Stage::Got(version) => Some(version),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    NotYet,
    Running {
        target: u8,
        rounds: Rc<Rounds<usize>>,
        /// Bits of the nodes that have not answered in this round.
        told: u8,
    },
    /// Its answer is that of the previous one (a mutant).
    Shares(u8),
    /// The caller has got 207; the promise holds once no node remembers a debt.
    Incomplete(u8),
    Done,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    s3: u8,
    /// No reader that starts now may see an older version.
    floor: u8,
    lost: u8,
    deaths: u8,
    lapses: u8,
    nodes: [Node; NODES],
    flights: [Option<Flight>; MAX_FLIGHTS],
    calls: [Call; CALLS],
    /// The node of each invalidation.
    coordinators: [usize; CALLS],
}

fn bit(node: usize) -> u8 {
    1 << node
}

fn nodes_of(bits: u8) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |node| bits & bit(*node) != 0)
}

type Successors = Vec<(Event, World)>;

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let first = if plan.joins { NODES - 1 } else { NODES };
        let beside = if plan.sidecar { bit(SIDECAR) } else { 0 };
        let members = (bit(first) - 1) & !beside;
        let knows = |at: usize| match at {
            at if plan.is_sidecar(at) => bit(at) | bit(at + 1),
            at if at < first => members,
            _ => 0,
        };
        let node = |at: usize| Node {
            generations: COUNTED.with(|counted| Rc::clone(&counted.now)),
            head: None,
            serving: at < first,
            knows: knows(at),
            greeted: 0,
            owing: [0; CALLS],
            lapsed: false,
        };
        Self {
            s3: 0,
            floor: 0,
            lost: 0,
            deaths: 0,
            lapses: 0,
            nodes: [node(0), node(1), node(2)],
            flights: [None; MAX_FLIGHTS],
            calls: [0, 1].map(|call| {
                if call < plan.calls {
                    Call::NotYet
                } else {
                    Call::Done
                }
            }),
            coordinators: [0, 1],
        }
    }

    /// A reader of this moment, or a waiting one, would get an older version than was promised to it.
    pub(super) fn is_stale(&self) -> bool {
        let hit = self
            .nodes
            .iter()
            .filter(|node| node.serving && !node.lapsed)
            .filter_map(|node| node.head)
            .any(|head| head.version < self.floor);
        let joined = self
            .flights
            .iter()
            .flatten()
            .any(|flight| flight.version().is_some_and(|got| got < flight.floor));
        hit || joined
    }

    /// All invalidations have been answered with 200.
    pub(super) fn is_complete(&self) -> bool {
        self.calls.iter().all(|call| *call == Call::Done)
    }

    /// All that can happen next.
    pub(super) fn successors(&self, plan: Plan, next: &mut Successors) {
        let mut add = |event: Event, mut world: World| {
            world.settle(plan);
            next.push((event, world));
        };
        if self.s3 < plan.writes {
            let mut world = self.clone();
            world.s3 += 1;
            add(Event::Write, world);
        }
        self.reads(plan, &mut add);
        self.flights(plan, &mut add);
        self.invalidations(plan, &mut add);
        self.debts(plan, &mut add);
        self.dying(plan, &mut add);
        self.lapsing(plan, &mut add);
        if plan.joins {
            self.joining(plan, &mut add);
        }
    }

    fn reads(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        for at in 0..NODES {
            if self.nodes[at].head.is_some() {
                let mut world = self.clone();
                world.nodes[at].head = None;
                add(Event::Evicts { at }, world);
            }
            if self.nodes[at].head.is_some() && !self.nodes[at].lapsed {
                continue;
            }
            if !self.nodes[at].serving {
                continue;
            }
            // Each node may take any node that it knows for the home, except those that owe; a sidecar has another
            // discovery.
            let homes = if plan.is_sidecar(at) {
                self.serving()
            } else if plan.mutant == Some(Mutant::AsksWhoOwes) {
                self.nodes[at].knows
            } else {
                self.nodes[at].knows & !self.nodes[at].owing.iter().fold(0, |all, bits| all | bits)
            };
            for home in nodes_of(homes) {
                if self.open(at, home != at).is_some() {
                    continue;
                }
                let mut world = self.clone();
                let stage = if home == at {
                    Stage::Reading
                } else {
                    Stage::Asked(home)
                };
                if world.take_off(plan, at, stage).is_some() {
                    add(Event::Read { at, home }, world);
                }
            }
        }
    }

    fn flights(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        for read in 0..MAX_FLIGHTS {
            let Some(flight) = self.flights[read] else {
                continue;
            };
            let mut world = self.clone();
            match flight.stage {
                Stage::Asked(home) => {
                    if let Some(stage) = world.ask(plan, home) {
                        world.flight(read).stage = stage;
                        add(Event::Asked { read }, world);
                    }
                }
                Stage::Waits(on) => {
                    if let Some(Stage::Got(version)) = self.flights[on].map(|on| on.stage) {
                        world.flight(read).stage = Stage::Answered(version);
                        add(Event::TakesAnswer { read }, world);
                    }
                }
                Stage::Reading => {
                    world.flight(read).stage = Stage::Got(self.s3);
                    add(Event::S3Answers { read }, world);
                }
                Stage::Got(version) | Stage::Answered(version) => {
                    world.land(plan, read, version, flight);
                    add(Event::Stores { read }, world);
                }
            }
        }
    }

    fn invalidations(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        for call in 0..CALLS {
            match &self.calls[call] {
                Call::NotYet
                    if usize::from(self.s3) > call && self.runs(self.coordinators[call]) =>
                {
                    let mut world = self.clone();
                    world.call(plan, call);
                    add(Event::Invalidate { call }, world);
                }
                Call::Running { told: 0, .. } => {
                    let mut world = self.clone();
                    world.round(plan, call);
                    add(Event::Round { call }, world);
                }
                Call::Running { told, .. } => {
                    for at in nodes_of(*told) {
                        let mut world = self.clone();
                        world.remember(plan, call, at);
                        world.forget(plan, at);
                        if self.lost < plan.lost {
                            let mut world = world.clone();
                            world.hear(plan, call, at, false);
                            add(Event::AnswerLost { call, at }, world);
                            let mut world = self.clone();
                            world.hear(plan, call, at, false);
                            add(Event::OrderLost { call, at }, world);
                        }
                        world.hear(plan, call, at, true);
                        add(Event::Forgets { call, at }, world);
                    }
                }
                _ => {}
            }
        }
    }

    /// A node that remembers a debt collects it.
    fn debts(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        for by in 0..NODES {
            for call in 0..CALLS {
                for to in nodes_of(self.nodes[by].owing[call]) {
                    let mut world = self.clone();
                    if plan.mutant != Some(Mutant::TellsOfNoOtherDebt) {
                        world.nodes[to].owing[call] |= self.nodes[by].owing[call] & !bit(to);
                    }
                    world.forget(plan, to);
                    world.meet(plan, by, self.nodes[to].knows);
                    // It first hears of the nodes that only the debtor knew.
                    if world.nodes[by].owing[call] == self.nodes[by].owing[call] {
                        world.nodes[by].owing[call] &= !bit(to);
                    }
                    add(Event::Pays { call, to, by }, world);
                }
            }
        }
    }

    fn dying(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        if self.deaths == plan.deaths {
            return;
        }
        for at in (0..NODES).filter(|at| self.runs(*at)) {
            let mut world = self.clone();
            world.deaths += 1;
            world.die(plan, at);
            add(Event::Dies { at }, world);
        }
    }

    /// A lease runs out. Nodes without one may be given up, one by one. The lease is back once one of the others has
    /// answered: with the node itself, that is more than half of three.
    fn lapsing(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        for at in (0..NODES).filter(|at| self.runs(*at) && self.nodes[*at].serving) {
            let lapsed = self.nodes[at].lapsed;
            if !lapsed && self.lapses < plan.lapses {
                let mut world = self.clone();
                world.lapses += 1;
                world.nodes[at].lapsed = plan.mutant != Some(Mutant::BelievesWithoutALease);
                world.close(at);
                add(Event::Lapses { at }, world);
            }
            for other in nodes_of(self.alive() & !bit(at)) {
                let early = plan.mutant == Some(Mutant::GivenUpBeforeTheLapse)
                    || plan.mutant == Some(Mutant::BelievesWithoutALease) && self.lapses > 0;
                if (lapsed || early) && self.nodes[other].knows & bit(at) != 0 {
                    let mut world = self.clone();
                    world.give_up(plan, other, at);
                    add(Event::GivesUp { by: other, at }, world);
                }
                if lapsed {
                    let mut world = self.clone();
                    world.meet(plan, other, bit(at));
                    world.nodes[at].lapsed = false;
                    if plan.mutant == Some(Mutant::DropsItsHeadsAlone) {
                        world.nodes[at].head = None;
                    } else if plan.mutant != Some(Mutant::KeepsItsHeads) {
                        world.forget(plan, at);
                    }
                    add(Event::IsBack { at, to: other }, world);
                }
            }
        }
    }

    fn give_up(&mut self, plan: Plan, by: usize, at: usize) {
        let node = &mut self.nodes[by];
        node.knows &= !bit(at);
        for bits in &mut node.owing {
            *bits &= !bit(at);
        }
        for call in 0..CALLS {
            if let Call::Running { told, .. } = self.calls[call]
                && self.coordinators[call] == by
                && told & bit(at) != 0
            {
                self.hear(plan, call, at, false);
                self.lost -= 1;
            }
        }
    }

    /// Later readers join no read of this node that is in progress.
    fn close(&mut self, at: usize) {
        for flight in self.flights.iter_mut().flatten() {
            flight.open &= flight.at != at;
        }
    }

    /// What it knows is lost; requests to it fail.
    fn die(&mut self, plan: Plan, at: usize) {
        for call in 0..CALLS {
            if let Call::Running { told, .. } = self.calls[call] {
                if self.coordinators[call] == at {
                    self.calls[call] = Call::Done;
                } else if told & bit(at) != 0 {
                    self.hear(plan, call, at, false);
                    self.lost -= 1;
                }
            }
        }
        let node = &mut self.nodes[at];
        (node.head, node.serving, node.knows, node.greeted) = (None, false, 0, 0);
        node.owing = [0; CALLS];
        for other in &mut self.nodes {
            other.knows &= !bit(at);
            other.greeted &= !bit(at);
            for bits in &mut other.owing {
                *bits &= !bit(at);
            }
        }
        let gone = self
            .flights
            .map(|flight| flight.is_some_and(|flight| flight.at == at));
        for flight in &mut self.flights {
            *flight = flight.filter(|flight| match flight.stage {
                Stage::Asked(home) => flight.at != at && home != at,
                Stage::Waits(on) => flight.at != at && !gone[on],
                _ => flight.at != at,
            });
        }
    }

    fn joining(&self, plan: Plan, add: &mut impl FnMut(Event, World)) {
        let me = NODES - 1;
        let node = &self.nodes[me];
        if node.knows == 0 {
            for knows in (1..bit(me)).filter(|knows| {
                let alive = knows & !self.alive() == 0;
                alive && !(plan.sidecar && knows & bit(SIDECAR) != 0)
            }) {
                let mut world = self.clone();
                world.nodes[me].knows = knows | bit(me);
                add(Event::Starts { knows }, world);
            }
            return;
        }
        if node.serving && plan.mutant != Some(Mutant::ServesUnheard) {
            return;
        }
        for to in nodes_of(node.knows & !node.greeted & !bit(me)) {
            let mut world = self.clone();
            world.meet(plan, to, bit(me));
            world.meet(plan, me, self.nodes[to].knows);
            world.nodes[me].greeted |= bit(to);
            for call in 0..CALLS {
                world.nodes[me].owing[call] |= self.nodes[to].owing[call] & !bit(me);
            }
            add(Event::Heartbeat { to }, world);
        }
        let heard = node.knows == node.greeted | bit(me);
        if !node.serving && (heard || plan.mutant == Some(Mutant::ServesUnheard)) {
            let mut world = self.clone();
            world.nodes[me].serving = true;
            add(Event::Serves, world);
        }
    }

    fn runs(&self, at: usize) -> bool {
        self.nodes[at].knows & bit(at) != 0
    }

    fn serving(&self) -> u8 {
        (0..NODES)
            .filter(|node| self.nodes[*node].serving)
            .fold(0, |bits, node| bits | bit(node))
    }

    fn flight(&mut self, read: usize) -> &mut Flight {
        self.flights[read].as_mut().expect("it is under way")
    }

    /// The read at a node that a reader who arrives now joins: of S3, or a copy.
    fn open(&self, at: usize, copy: bool) -> Option<usize> {
        self.flights.iter().position(|flight| {
            flight.is_some_and(|flight| flight.at == at && flight.open && flight.is_copy() == copy)
        })
    }

    fn take_off(&mut self, plan: Plan, at: usize, stage: Stage) -> Option<usize> {
        let read = (0..plan.flights).find(|read| self.flights[*read].is_none())?;
        self.flights[read] = Some(Flight {
            at,
            ticket: self.nodes[at].generations.begin(KEY),
            open: plan.joins_reads(at) && !self.nodes[at].lapsed,
            floor: self.floor,
            stage,
        });
        Some(read)
    }

    /// A peer's request arrives. It is answered from a head that was read here, else by a read of S3, and never
    /// forwarded.
    fn ask(&mut self, plan: Plan, home: usize) -> Option<Stage> {
        let passes_on = plan.mutant == Some(Mutant::PassesOnCopies);
        if let Some(head) = self.nodes[home].head
            && (!head.copied || passes_on)
            && !self.nodes[home].lapsed
        {
            return Some(Stage::Answered(head.version));
        }
        self.open(home, false)
            .or_else(|| self.take_off(plan, home, Stage::Reading))
            .map(Stage::Waits)
    }

    /// The end of a read: the waiting readers get the answer, and it is stored if no invalidation came between.
    fn land(&mut self, plan: Plan, read: usize, version: u8, flight: Flight) {
        for waiter in self.flights.iter_mut().flatten() {
            if waiter.stage == Stage::Waits(read) {
                waiter.stage = Stage::Answered(version);
            }
        }
        self.flights[read] = None;
        let node = &mut self.nodes[flight.at];
        let valid = node.generations.valid(KEY, flight.ticket);
        if plan.stores(flight.at) && (valid || plan.mutant == Some(Mutant::NoTicket)) {
            node.head = Some(Record {
                version,
                copied: flight.is_copy(),
            });
        }
    }

    fn forget(&mut self, plan: Plan, at: usize) {
        bump(Rc::make_mut(&mut self.nodes[at].generations));
        self.nodes[at].head = None;
        if plan.mutant == Some(Mutant::NoDetach) {
            return;
        }
        self.close(at);
    }

    /// A node that becomes known to one that remembers a debt owes it too.
    fn meet(&mut self, plan: Plan, at: usize, knows: u8) {
        let node = &mut self.nodes[at];
        let new = knows & !node.knows;
        node.knows |= knows;
        if plan.mutant == Some(Mutant::NewcomersOweNothing) {
            return;
        }
        for owing in node.owing.iter_mut().filter(|owing| **owing != 0) {
            *owing |= new & !bit(at);
        }
    }

    /// The order of a round names the nodes that have not answered before.
    fn remember(&mut self, plan: Plan, call: usize, at: usize) {
        let Call::Running { rounds, .. } = &self.calls[call] else {
            return;
        };
        let mut owing = rounds
            .announced()
            .iter()
            .fold(0, |bits, node| bits | bit(*node));
        if plan.mutant == Some(Mutant::OnlyTheCoordinatorRemembers) && at != self.coordinators[call]
        {
            owing = 0;
        }
        owing &= self.alive() & !bit(at);
        self.nodes[at].owing[call] |= owing;
    }

    fn alive(&self) -> u8 {
        (0..NODES)
            .filter(|node| self.runs(*node))
            .fold(0, |bits, node| bits | bit(node))
    }

    fn call(&mut self, plan: Plan, call: usize) {
        let target = self.s3;
        let under_way = self
            .calls
            .iter()
            .any(|other| matches!(other, Call::Running { .. }));
        if under_way && plan.mutant == Some(Mutant::Coalesced) {
            self.calls[call] = Call::Shares(target);
            return;
        }
        let rounds = Rounds::new(self.coordinators[call]).satisfied_by(plan.rounds);
        self.calls[call] = Call::Running {
            target,
            rounds: Rc::new(rounds),
            told: 0,
        };
        // The first round begins with the call: nothing is sent before it.
        self.round(plan, call);
    }

    /// The coordinator takes the nodes that it knows and begins a round, or is done.
    fn round(&mut self, plan: Plan, call: usize) {
        let me = self.coordinators[call];
        let (knows, alive) = (self.nodes[me].knows, self.alive());
        let Call::Running {
            target,
            rounds,
            told,
        } = &mut self.calls[call]
        else {
            return;
        };
        let rounds = Rc::make_mut(rounds);
        let first_only = plan.mutant == Some(Mutant::OnlyTheFirstSet);
        let contacts = if first_only && rounds.begun() > 0 {
            0
        } else {
            knows
        };
        match rounds.next(nodes_of(contacts)) {
            Step::Tell(names) => {
                *told = names.into_iter().fold(0, |bits, name| bits | bit(name));
                // A node that has died meanwhile does not answer.
                for dead in nodes_of(*told & !alive) {
                    *told &= !bit(dead);
                    rounds.fail(&dead);
                }
            }
            // The caller gets 207, and every node remembers.
            Step::Incomplete => {
                let missing = rounds
                    .missing()
                    .iter()
                    .fold(0, |bits, node| bits | bit(*node));
                self.nodes[me].owing[call] |= missing & alive;
                self.calls[call] = Call::Incomplete(*target);
            }
            Step::Complete => {
                let mut promised = *target;
                self.calls[call] = Call::Done;
                for other in &mut self.calls {
                    if let Call::Shares(target) = *other {
                        promised = promised.max(target);
                        *other = Call::Done;
                    }
                }
                self.floor = self.floor.max(promised);
            }
        }
    }

    /// The coordinator learns the outcome of an order.
    fn hear(&mut self, plan: Plan, call: usize, at: usize, answered: bool) {
        let members = self.nodes[at].knows;
        if !answered {
            self.lost += 1;
        }
        let Call::Running { rounds, told, .. } = &mut self.calls[call] else {
            return;
        };
        *told &= !bit(at);
        let rounds = Rc::make_mut(rounds);
        let names_nobody = plan.mutant == Some(Mutant::OnlyTheFirstSet);
        if answered && !names_nobody {
            rounds.ack(&at, nodes_of(members));
        } else if answered || plan.mutant == Some(Mutant::LossIsSuccess) {
            rounds.ack(&at, []);
        } else {
            rounds.fail(&at);
        }
        // The nodes that an answer names are known from then on.
        let me = self.coordinators[call];
        if answered && !names_nobody {
            self.meet(plan, me, members);
        }
    }

    /// Drops what makes no difference any more, so that there are fewer states.
    fn settle(&mut self, plan: Plan) {
        self.settle_debts();
        let last = plan.writes;
        let (s3, floor) = (self.s3, self.floor);
        for flight in self.flights.iter_mut().flatten() {
            if flight.open && self.nodes[flight.at].serving {
                flight.floor = floor;
            }
        }
        for node in &mut self.nodes {
            node.head = node.head.filter(|head| head.version != last);
        }
        for read in 0..MAX_FLIGHTS {
            let Some(flight) = self.flights[read] else {
                continue;
            };
            let waited_for = self
                .flights
                .iter()
                .flatten()
                .any(|other| other.stage == Stage::Waits(read));
            let newest =
                flight.version() == Some(last) || flight.stage == Stage::Reading && s3 == last;
            let valid = self.nodes[flight.at].generations.valid(KEY, flight.ticket)
                || plan.mutant == Some(Mutant::NoTicket);
            let void = !flight.open && flight.floor == 0 && !(plan.stores(flight.at) && valid);
            if newest {
                for waiter in &mut self.flights {
                    *waiter = waiter.filter(|waiter| waiter.stage != Stage::Waits(read));
                }
            }
            if newest || void && !waited_for {
                self.flights[read] = None;
            }
        }
        self.renumber();
        if !plan.joins && !plan.sidecar {
            self.name_anew(plan.lost > 0 || plan.lapses > 0);
        }
        self.line_up();
    }

    /// An incomplete invalidation is promised once no node remembers its debt.
    fn settle_debts(&mut self) {
        for call in 0..CALLS {
            let owed = self.nodes.iter().any(|node| node.owing[call] != 0);
            if let Call::Incomplete(target) = self.calls[call]
                && !owed
            {
                self.floor = self.floor.max(target);
                self.calls[call] = Call::Done;
            }
        }
    }

    /// A ticket is valid or not; its number does not matter.
    fn renumber(&mut self) {
        COUNTED.with(|counted| {
            for flight in self.flights.iter_mut().flatten() {
                let generations = &self.nodes[flight.at].generations;
                flight.ticket = if generations.valid(KEY, flight.ticket) {
                    counted.now.begin(KEY)
                } else {
                    counted.outdated
                };
            }
            for node in &mut self.nodes {
                node.generations = Rc::clone(&counted.now);
            }
        });
    }

    /// Nodes that all know each other differ only in their place, so they are sorted by what they hold.
    fn name_anew(&mut self, lost: bool) {
        let mut order: [usize; NODES] = [0, 1, 2];
        order.sort_by_cached_key(|node| self.looks(*node, lost));
        if order == [0, 1, 2] {
            return;
        }
        let mut names = [0; NODES];
        for (new, old) in order.into_iter().enumerate() {
            names[old] = new;
        }
        self.nodes = order.map(|old| self.nodes[old].clone());
        let renamed = |bits: u8| nodes_of(bits).fold(0, |bits, node| bits | bit(names[node]));
        for node in &mut self.nodes {
            node.knows = renamed(node.knows);
            node.owing = node.owing.map(renamed);
        }
        // While no node owes anything, all coordinators are alike: each knows every node.
        if lost {
            self.coordinators = self.coordinators.map(|node| names[node]);
        }
        for flight in self.flights.iter_mut().flatten() {
            flight.at = names[flight.at];
            if let Stage::Asked(home) = &mut flight.stage {
                *home = names[*home];
            }
        }
        for call in &mut self.calls {
            if let Call::Running { rounds, told, .. } = call {
                *told = nodes_of(*told).fold(0, |bits, node| bits | bit(names[node]));
                *rounds = Rc::new(rounds.renamed(|node| names[*node]));
            }
        }
    }

    /// What distinguishes a node from another, except its place.
    fn looks(&self, node: usize, lost: bool) -> u64 {
        let one = &self.nodes[node];
        let mut looks = one.bare_looks() << 3 | u64::from(one.knows.count_ones());
        for call in 0..CALLS {
            let owes = self
                .nodes
                .iter()
                .filter(|other| other.owing[call] & bit(node) != 0);
            looks = looks << 2 | u64::from(one.owing[call].count_ones());
            looks = looks << 2 | owes.count() as u64;
            let coordinates =
                lost && self.coordinators[call] == node && self.calls[call] != Call::Done;
            looks = looks << 1 | u64::from(coordinates);
        }
        for call in &self.calls {
            if let Call::Running { rounds, told, .. } = call {
                let bits = u64::from(told & bit(node) != 0)
                    | u64::from(rounds.missing().contains(&node)) << 1;
                looks = looks << 2 | bits;
            }
        }
        // Summed, so that the order of the reads does not matter.
        for flight in self.flights.iter().flatten() {
            if flight.at == node {
                looks += flight.looks() << 32;
            }
            if flight.stage == Stage::Asked(node) {
                looks += 1 << 52;
            }
        }
        looks
    }

    /// The order of the reads does not matter either.
    fn line_up(&mut self) {
        let mut order: [usize; MAX_FLIGHTS] = [0, 1, 2, 3];
        let looks = self
            .flights
            .map(|flight| flight.map_or(u64::MAX, |flight| flight.looks() << 4 | flight.at as u64));
        if looks.is_sorted() {
            return;
        }
        order.sort_by_key(|read| looks[*read]);
        self.flights = order.map(|old| self.flights[old]);
        for flight in self.flights.iter_mut().flatten() {
            if let Stage::Waits(on) = &mut flight.stage
                && let Some(new) = order.iter().position(|old| old == on)
            {
                *on = new;
            }
        }
    }
}

impl Node {
    fn looks(&self) -> u64 {
        let owing = self
            .owing
            .iter()
            .fold(0, |all, bits| all << 3 | u64::from(*bits));
        self.bare_looks() << 12 | owing << 6 | u64::from(self.knows) << 3 | u64::from(self.greeted)
    }

    /// Its own state, without what it knows about others.
    fn bare_looks(&self) -> u64 {
        let head = self.head.map_or(0, |head| {
            1 + u64::from(head.version) * 2 + u64::from(head.copied)
        });
        head << 2 | u64::from(self.lapsed) << 1 | u64::from(self.serving)
    }
}

impl Flight {
    /// What distinguishes it from another, except its node and what it waits for.
    fn looks(&self) -> u64 {
        let stage = match self.stage {
            Stage::Asked(_) => 0,
            Stage::Waits(_) => 1,
            Stage::Reading => 2,
            Stage::Answered(version) => 3 + u64::from(version),
            Stage::Got(version) => 6 + u64::from(version),
        };
        stage << 4
            | u64::from(self.floor) << 2
            | u64::from(self.open) << 1
            | u64::from(COUNTED.with(|counted| self.ticket == counted.outdated))
    }
}

/// A hash of most of a world: equality decides, and derived hashing costs more than everything else.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut words = [0_u64; 3];
        words[0] = u64::from(self.deaths) << 9
            | u64::from(self.lapses) << 8
            | u64::from(self.s3) << 5
            | u64::from(self.floor) << 2
            | u64::from(self.lost);
        for node in &self.nodes {
            words[0] = words[0] << 17 | node.looks();
        }
        for (at, flight) in self.flights.iter().enumerate() {
            let bits = flight.map_or(0, |flight| {
                let link = match flight.stage {
                    Stage::Asked(to) | Stage::Waits(to) => to as u64,
                    _ => 0,
                };
                1 | (flight.at as u64) << 1 | link << 3 | flight.looks() << 5
            });
            words[1] |= bits << (16 * at);
        }
        for call in &self.calls {
            words[2] = words[2] << 24
                | match call {
                    Call::NotYet => 0,
                    Call::Shares(_) => 1,
                    Call::Done => 2,
                    Call::Incomplete(target) => 3 | u64::from(*target) << 3,
                    Call::Running {
                        target,
                        rounds,
                        told,
                    } => {
                        let bits = |nodes: &BTreeSet<usize>| {
                            nodes
                                .iter()
                                .fold(0_u64, |bits, node| bits | u64::from(bit(*node)))
                        };
                        let rounds = bits(rounds.missing())
                            | bits(rounds.announced()) << 3
                            | u64::from(rounds.begun()) << 6;
                        4 | u64::from(*target) << 3 | u64::from(*told) << 5 | rounds << 8
                    }
                };
        }
        for word in words {
            hasher.write_u64(word);
        }
    }
}
