//! A small case of whole parts, and what may go wrong in it.

use dyad_mirror::{LeaseTuning, PartTuning, Tuning};
use dyad_units::Period;

use crate::parts::action::{self, Action};
use crate::parts::history::HostOp;
use crate::parts::rules::{self, Reached};
use crate::parts::world::World;
use crate::search::{Model, Violation};

/// A step of time, half a lease.
pub(crate) const STEP: Period = Period::from_millis(100);
/// L.
pub(crate) const LEASE: Period = Period::from_millis(200);
/// One beat per step.
const BEAT: Period = Period::from_millis(90);
/// Of times for which nobody waits here.
const ENDLESS: Period = Period::from_secs(1_000_000);

/// Leases: clocks run true here; `leases` has those that do not.
pub(crate) const LEASE_TUNING: LeaseTuning = LeaseTuning { length: LEASE, drift_ppm: 1000, beat: BEAT };

/// Times of a part: waits of one to three steps, everything else endless.
pub(crate) fn tuning() -> PartTuning {
    let owner = Tuning {
        lock_wait: Period::from_millis(600),
        interval: ENDLESS,
        silence: ENDLESS,
        slow: ENDLESS,
        lease_grace: Period::from_millis(50),
        lease_first: Period::from_millis(150),
        resync_wait: Period::from_millis(250),
        hand_over: Period::from_millis(250),
        ..Tuning::default()
    };
    PartTuning {
        owner,
        link_grace: Period::from_millis(50),
        open_wait: Period::from_millis(150),
        show_wait: Period::from_millis(50),
        fresh_wait: Period::from_millis(150),
        claim_pause: Period::from_millis(150),
        claim_max: ENDLESS,
        return_pause: Period::from_millis(150),
        return_pause_max: Period::from_millis(150),
        return_quiet: ENDLESS,
        ..PartTuning::default()
    }
}

/// What may happen to a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The process ends.
    Crash,
    /// The machine ends.
    PowerLoss,
}

/// What hosts and administrators do, each list in its order, at any moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// What hosts ask, and of which node.
    pub(crate) ops: &'static [(u8, HostOp)],
    /// Commands: which node shall own the segment (M12), told to whoever owns it.
    pub(crate) hand_overs: &'static [u8],
    /// This node is down at the beginning: its image was taken out and missed a write.
    pub(crate) behind: Option<u8>,
}

/// A small case, and what may go wrong in it. Every count is that of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Nodes, each with an image.
    pub(crate) nodes: usize,
    pub(crate) script: Script,
    /// Which nodes may fail how, and how often all together.
    pub(crate) faults: &'static [(u8, Fault)],
    pub(crate) faults_max: u8,
    /// Connections that break; each may come back at any moment.
    pub(crate) cuts: u8,
    /// Compare-and-sets whose answer is lost.
    pub(crate) unknown: u8,
    /// Compare-and-sets that come to the store after their sender gave them up.
    pub(crate) late: u8,
    /// Steps of time that pass while something is under way, or while a node that runs does nothing.
    pub(crate) delays: u8,
    /// What a search that sees everything must have seen.
    pub(crate) expects: &'static [Reached],
}

impl Model for Case {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        World::serving(self)
    }

    fn actions(&self, state: &World, out: &mut Vec<Action>) {
        action::possible(self, state, out);
    }

    fn step(&self, state: &mut World, action: Action) -> Result<(), Violation> {
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.act(self, action)));
        stepped.unwrap_or_else(|_| Err(Violation::new("assertion", "the code panicked, see above")))?;
        rules::check(state)
    }

    fn digest(&self, state: &World) -> u128 {
        state.digest()
    }

    fn milestones(&self, state: &World) -> u32 {
        rules::milestones(self, state)
    }

    fn milestone_names(&self) -> &'static [&'static str] {
        &rules::MILESTONES
    }

    fn show(&self, state: &World) -> String {
        state.show()
    }
}
