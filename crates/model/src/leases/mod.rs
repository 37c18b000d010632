//! Who may answer a host, at the same true time: leases, promises, claims, compare-and-sets (M5, M6, M7, M9, M12).
//!
//! ```text
//!  node 0 ──beat──▶ node 1      each: Leases (real), its clock, the newest record that it knows
//!  node 0 ◀─answer─ node 1      each: the record that its image keeps durably (M3)
//!     └──propose──▶ store ◀──── a compare-and-set may be lost, its answer may be lost, it may come late
//! ```
//!
//! Everything happens at any time: a node that does nothing for a while is paused, a beat that is not
//! delivered is late, or lost once the next one takes its place, and time goes on in steps of half a lease, for each node
//! at its own rate, without an end: since times count relative to now, the states are finite. Decisions are
//! those of `Leases`, `takeover::decide`, `SegmentRecord::changed` and `propose`; the node here only calls them in the
//! order in which a part does. Data is not looked at: that is for `parts`.

mod action;
mod cluster;
mod node;
mod rules;
mod store;

use dyad_units::Period;

use crate::search::{Model, Violation};

pub(crate) use action::Action;
pub(crate) use cluster::Cluster;
pub(crate) use store::{Fate, Known, STORE, put};

/// A step of true time, half a lease: after two, a slow clock still holds it and a true one does not.
pub(crate) const STEP: Period = Period::from_millis(100);

/// How fast a node's clock runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rate {
    /// Slow by the bound.
    Slow,
    /// True.
    True,
    /// Fast by the bound.
    Fast,
}

impl Rate {
    /// What the clock counts while [`STEP`] passes: off by [`DRIFT_PPM`].
    pub(crate) const fn step(self) -> Period {
        match self {
            Self::Slow => Period::from_millis(96),
            Self::True => STEP,
            Self::Fast => Period::from_millis(104),
        }
    }
}

/// Drift at the bound: large, so that it shows within a few steps.
pub(crate) const DRIFT_PPM: u32 = 40_000;
/// L.
pub(crate) const LEASE: Period = Period::from_millis(200);
/// One beat per step, whatever the clock's rate.
pub(crate) const BEAT: Period = Period::from_millis(90);

/// A small case, and what may go wrong in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Clocks of the nodes, one per node.
    pub rates: &'static [Rate],
    /// Highest epoch: claims, changes of the set and hand-overs together.
    pub epochs: u32,
    /// Starts of processes after the first.
    pub restarts: u8,
    /// Steps of time that pass while a message is under way, or while a node does nothing (each such node counts);
    /// messages lost count too. None: any number, and every interleaving of them.
    pub delays: Option<u8>,
    /// Compare-and-sets whose answer is lost: one that is lost before the store is as if it was sent later.
    pub unknown: u8,
    /// Compare-and-sets that come to the store long after their sender gave them up (M7).
    pub late: u8,
    /// The owner takes images out and lets them join again (M8, M16).
    pub members: bool,
    /// The owner hands over (M12).
    pub hand_over: bool,
}

impl Model for Case {
    type State = Cluster;
    type Action = Action;

    /// Node 0 serves and holds the leases of all others: what can go wrong begins here.
    fn initial(&self) -> Cluster {
        let others = (1_u8..).take(self.rates.len() - 1);
        let all = (1 << self.rates.len()) - 1;
        let mut way = vec![
            Action::Tick { runs: all },
            Action::Tick { runs: all },
            Action::Tick { runs: all },
            Action::Claim { node: 0, asked: all },
        ];
        way.push(Action::Propose { node: 0, fate: Fate::Answered });
        way.extend(others.clone().map(|to| Action::Open { owner: 0, to, answered: true }));
        way.extend([Action::Serve { node: 0 }, Action::Tick { runs: all }]);
        way.extend(others.flat_map(|to| [Action::GiveBeat { from: 0, to }, Action::GiveAnswer { from: to, to: 0 }]));
        let mut cluster = Cluster::new(self);
        for action in way {
            cluster.act(self, action).expect("nothing goes wrong here");
        }
        assert!(cluster.nodes[0].life.as_ref().is_some_and(|life| life.may_answer(0, cluster.nodes[0].clock)));
        cluster
    }

    fn actions(&self, state: &Cluster, out: &mut Vec<Action>) {
        action::possible(self, state, out);
    }

    fn step(&self, state: &mut Cluster, action: Action) -> Result<(), Violation> {
        state.act(self, action)?;
        rules::check(state)
    }

    fn digest(&self, state: &Cluster) -> u128 {
        state.digest(self)
    }

    fn milestones(&self, state: &Cluster) -> u32 {
        rules::milestones(self, state)
    }

    fn milestone_names(&self) -> &'static [&'static str] {
        &rules::MILESTONES
    }

    fn show(&self, state: &Cluster) -> String {
        state.show()
    }
}
