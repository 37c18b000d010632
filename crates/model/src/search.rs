//! Breadth-first search over all states of a model.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// A rule does not hold: which, and in what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Number of the rule, as in the design.
    pub rule: &'static str,
    /// What was found, in a sentence.
    pub what: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// A case small enough to be looked at in every interleaving.
pub trait Model {
    /// Everything that there is.
    type State: Clone;
    /// One step of somebody.
    type Action: Copy + fmt::Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// What may happen next, in any order. An action that turns out to change nothing is harmless.
    fn actions(&self, state: &Self::State, out: &mut Vec<Self::Action>);

    /// Lets it happen.
    ///
    /// # Errors
    /// The rule that does not hold after it.
    fn step(&self, state: &mut Self::State, action: Self::Action) -> Result<(), Violation>;

    /// The same for states that have the same future.
    fn digest(&self, state: &Self::State) -> u128;

    /// Names of what the step reached that the search should have seen at least once: a bound that is too small, or a
    /// fault that never happens, would prove nothing.
    fn milestones(&self, state: &Self::State) -> u32;

    /// The names, by bit.
    fn milestone_names(&self) -> &'static [&'static str];

    /// One line for people.
    fn show(&self, state: &Self::State) -> String;
}

/// A state in which a rule does not hold, and the shortest way to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule.
    pub violation: Violation,
    /// Each step, and what there was after it.
    pub trace: Vec<String>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// Longest of the shortest ways to a state.
    pub depth: u32,
    /// Processor time taken.
    pub time: Duration,
    /// Every reachable state was seen; otherwise every one within the bound of steps.
    pub is_complete: bool,
    /// Each milestone, and whether a state reached it.
    pub reached: Vec<(&'static str, bool)>,
    /// The first violation.
    pub found: Option<Found>,
}

impl Report {
    /// Whether every state was seen, all is well in each, and every milestone was reached.
    pub fn is_proof(&self) -> bool {
        self.is_complete && self.found.is_none() && self.reached.iter().all(|(_, reached)| *reached)
    }
}

/// Digests are as good as random already.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

/// How each state was first reached: from which one, by what.
struct Ways<A> {
    ways: Vec<(u32, A)>,
}

impl<A: Copy> Ways<A> {
    /// The actions from the first state to this one. State 0 is the first; way `n` leads to state `n + 1`.
    fn to(&self, mut state: u32) -> Vec<A> {
        let mut actions = Vec::new();
        while state > 0 {
            let (from, action) = self.ways[state as usize - 1];
            actions.push(action);
            state = from;
        }
        actions.reverse();
        actions
    }
}

/// Where a search ends although not every state was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most steps from the first state.
    pub depth: u32,
    /// Most states, about.
    pub states: u64,
}

impl Bounds {
    /// Every state.
    pub const NONE: Self = Self { depth: u32::MAX, states: u64::MAX };
}

/// Processor time of this process where the system tells it, else time: other work on the machine says nothing about a
/// search.
fn processor_time(begin: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

/// Looks at every state that can be reached within the bounds, in every interleaving.
pub fn explore<M: Model>(model: &M, bounds: Bounds) -> Report {
    let begin = Instant::now();
    let before = processor_time(begin);
    let mut seen: HashSet<u128, BuildHasherDefault<Already>> = HashSet::default();
    let mut ways = Ways { ways: Vec::new() };
    let first = model.initial();
    seen.insert(model.digest(&first));
    let mut reached = model.milestones(&first);
    let (mut level, mut next) = (vec![(0_u32, first)], Vec::new());
    let (mut depth, mut steps) = (0, 0);
    let mut actions = Vec::new();
    let mut found = None;
    'search: while !level.is_empty() && depth < bounds.depth && (seen.len() as u64) < bounds.states {
        for (at, state) in level.drain(..) {
            actions.clear();
            model.actions(&state, &mut actions);
            for &action in &actions {
                steps += 1;
                let mut after = state.clone();
                if let Err(violation) = model.step(&mut after, action) {
                    let mut way = ways.to(at);
                    way.push(action);
                    found = Some(Found { violation, trace: retell(model, &way) });
                    break 'search;
                }
                reached |= model.milestones(&after);
                if seen.insert(model.digest(&after)) {
                    ways.ways.push((at, action));
                    next.push((ways.ways.len() as u32, after));
                }
            }
        }
        std::mem::swap(&mut level, &mut next);
        depth += u32::from(!level.is_empty());
    }
    let time = processor_time(begin).saturating_sub(before);
    let names = model.milestone_names().iter().enumerate();
    let reached = names.map(|(bit, name)| (*name, reached >> bit & 1 == 1)).collect();
    let is_complete = found.is_none() && level.is_empty();
    Report { states: seen.len() as u64, steps, depth, time, is_complete, reached, found }
}

/// Goes the way again and says what happens.
fn retell<M: Model>(model: &M, way: &[M::Action]) -> Vec<String> {
    let mut state = model.initial();
    let mut told = vec![format!("     {}", model.show(&state))];
    for (number, &action) in way.iter().enumerate() {
        let outcome = model.step(&mut state, action);
        let shown = model.show(&state);
        told.push(match outcome {
            Ok(()) => format!("{:3}. {action:?}\n     {shown}", number + 1),
            Err(violation) => {
                format!("{:3}. {action:?}\n     {}: {}\n     {shown}", number + 1, violation.rule, violation.what)
            }
        });
    }
    told
}
