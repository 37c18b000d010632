//! Many runs; and the story of one that broke a rule, with as few faults and hosts as still show it.

use dyad_payload::Slab;

use super::coverage::Coverage;
use super::plan::Plan;
use super::queue::{SECONDS, Time};
use super::setup::Templates;
use super::world::World;
use crate::model::Violation;

/// Buffers of one run: far more than its operations need, so that running out means a leak.
const SLAB_BYTES: usize = 256 << 20;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What broke, if anything.
    pub violation: Option<Violation>,
    /// Folded over everything that happened.
    pub trace: u64,
    /// Host operations answered.
    pub answered: u64,
    /// Events.
    pub events: u64,
    /// True time at the end.
    pub ended: Time,
    /// What it saw.
    pub coverage: Coverage,
    /// What happened, if it was written down.
    pub story: Vec<String>,
}

/// Runs seeds one after the other; keeps what they share.
pub struct Campaign {
    slab: Slab,
    templates: Templates,
}

impl Default for Campaign {
    fn default() -> Self {
        Self { slab: Slab::new(SLAB_BYTES), templates: Templates::default() }
    }
}

impl Campaign {
    /// One run.
    pub fn play(&mut self, plan: Plan, keeps_story: bool) -> Outcome {
        self.play_told(plan, keeps_story, false)
    }

    /// One run; `is_long`: with a story of all of it, in detail.
    pub fn play_told(&mut self, plan: Plan, keeps_story: bool, is_long: bool) -> Outcome {
        let mut world = World::new(plan, &self.slab, &mut self.templates);
        (world.story.is_kept, world.story.is_long) = (keeps_story, is_long);
        let violation = world.run().err();
        Outcome {
            violation,
            trace: world.trace,
            answered: world.answered,
            events: world.events(),
            ended: world.now(),
            story: world.story.lines().map(str::to_owned).collect(),
            coverage: world.coverage,
        }
    }

    /// The plan with fewer faults and hosts and less time, as long as it still breaks a rule.
    pub fn shrink(&mut self, plan: Plan) -> Plan {
        let mut small = plan;
        let ended = self.play(small.clone(), false).ended;
        if ended < small.until {
            // Nothing of what was planned for later mattered.
            small.skipped = (0..small.faults.len()).filter(|at| small.faults[*at].at > ended).collect();
        }
        for fault in (0..small.faults.len()).rev() {
            if !small.skipped.contains(&fault) {
                let mut without = small.clone();
                without.skipped.push(fault);
                self.keep_if_broken(&mut small, without);
            }
        }
        for host in small.hosts.clone() {
            let mut without = small.clone();
            without.hosts.retain(|other| *other != host);
            if !without.hosts.is_empty() {
                self.keep_if_broken(&mut small, without);
            }
        }
        while small.until > 4 * SECONDS {
            let shorter = Plan { until: small.until * 3 / 4, ..small.clone() };
            if !self.keep_if_broken(&mut small, shorter) {
                break;
            }
        }
        while small.quota > 20 {
            let fewer = Plan { quota: small.quota / 2, ..small.clone() };
            if !self.keep_if_broken(&mut small, fewer) {
                break;
            }
        }
        small
    }

    fn keep_if_broken(&mut self, small: &mut Plan, tried: Plan) -> bool {
        let is_broken = self.play(tried.clone(), false).violation.is_some();
        if is_broken {
            *small = tried;
        }
        is_broken
    }
}

/// A plan in words.
pub fn tell(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "seed {}: {} nodes, {} images{}, {} segments of {} regions, disks of {} MiB with blocks of {}, intervals of {} ms, hosts {:?}, {} operations each, mended after {} s{}",
        plan.seed,
        plan.nodes,
        plan.images,
        if plan.policy.min_in_sync > 1 { " (two for an acknowledgement)" } else { "" },
        plan.segments,
        plan.regions,
        plan.disk_bytes >> 20,
        plan.unit,
        plan.interval,
        plan.hosts,
        plan.quota,
        plan.until / SECONDS,
        if plan.is_beyond_bound { ", clocks beyond the bound" } else { "" }
    )];
    for (number, fault) in plan.faults.iter().enumerate().filter(|(number, _)| !plan.skipped.contains(number)) {
        lines.push(format!(
            "fault {number}: {} s or later ({:?}), {:?} at {:?} for {} ms",
            super::block::at_seconds(fault.at),
            fault.trigger,
            fault.kind,
            fault.aim,
            fault.lasts / 1_000_000
        ));
    }
    lines
}
