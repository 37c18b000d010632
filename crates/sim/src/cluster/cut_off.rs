//! An owner is cut off from the other nodes and the config store, but not from its hosts, and somebody follows it: only
//! leases keep it from answering with what was true before (M5, M6). Each twist is the interleaving that one of these
//! rules excludes.

use super::faults::Mend;
use super::happening::Happening;
use super::host::WATCHER;
use super::net::NodeNo;
use super::plan::{Aim, Beats, Fault, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use super::world::{Run, World};
use crate::rng::Rng;

/// L and its margin, about: earlier than this after the last beat nobody follows the owner.
const PROMISE: Time = 603 * MILLIS;

/// A claim that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// Who is cut off.
    owner: NodeNo,
    /// Whom the owner's letters reach again when the claim is under way; nobody: beats travel again.
    spared: Option<NodeNo>,
    /// Of the play.
    end: Time,
}

/// What else happens while the owner is cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Twist {
    /// Nothing.
    Plain,
    /// Nothing is cut but one direction.
    OneWay {
        /// Towards the owner.
        inward: bool,
    },
    /// The others hear the last beats, but their answers come when one of them has followed.
    LateAnswers,
    /// The owner's disk does nothing: reads are asked under a lease, and answered when that is long over.
    StuckDisk,
    /// One other node still talks to the owner, and grants it leases until it obeys another one.
    Spared {
        /// No letters get to that node, only beats.
        deaf: bool,
    },
    /// The others can be reached again before the store can.
    StoreLast,
    /// Beats travel again when another one has followed; that one hands over to a third (M12) and could grant leases then.
    BeatsReturn,
    /// The store is slow, and beats travel again while somebody's claim is under way there.
    SlowStore,
    /// The other nodes' processes start anew at that moment, and have forgotten what they promised.
    Restart,
    /// The others lose their power at that moment, and what they come back with is older than what the owner has (M11).
    PowerLoss,
    /// The others are stopped at that moment, until their promise is over or nearly so.
    Pause,
}

impl Plan {
    /// Two or three images, clocks that keep to the bound, and a host that reads all the time.
    pub(super) fn draw_leases(&mut self, at: Time, rng: &mut Rng) {
        (self.images, self.is_beyond_bound) = (2 + rng.index(2), false);
        self.nodes = self.nodes.max(self.images);
        self.hosts.push(WATCHER);
        self.draw_cut_offs(at, rng);
    }

    /// Some such cuts, one after the other. When the last one is over.
    fn draw_cut_offs(&mut self, at: Time, rng: &mut Rng) -> Time {
        let mut at = at + SECONDS;
        for _ in 0..2 + rng.below(3) {
            let third = self.images > 2;
            let twist = match rng.below(if third { 18 } else { 12 }) {
                0 => Twist::Plain,
                1 => Twist::OneWay { inward: rng.chance(1, 2) },
                2 => Twist::LateAnswers,
                3 | 4 => Twist::StuckDisk,
                5 => Twist::StoreLast,
                6..=8 => Twist::SlowStore,
                9 => Twist::Restart,
                10 => Twist::Pause,
                11 => Twist::PowerLoss,
                12 => Twist::Spared { deaf: true },
                13..=15 => Twist::Spared { deaf: false },
                _ => Twist::BeatsReturn,
            };
            let lasts = (2000 + rng.below(2000)) * MILLIS;
            let trigger = if rng.chance(1, 2) { Trigger::Writing } else { Trigger::Time };
            let kind = FaultKind::OwnerCutOff { twist };
            self.plan_fault(at, trigger, Aim::Owner, kind, lasts, rng);
            if twist == Twist::BeatsReturn {
                let at = at + 1600 * MILLIS + rng.below(800 * MILLIS);
                self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::HandOver, 0, rng);
            }
            // Time for those who were taken out to come back.
            at += lasts + (200 + rng.below(1500)) * MILLIS;
        }
        self.until = self.until.max(at);
        at
    }
}

impl World {
    /// The owner is cut off, with a twist.
    pub(super) fn cut_off(&mut self, fault: Fault, owner: NodeNo, twist: Twist, rng: &mut Rng) -> Run {
        let (now, end) = (self.queue.now(), self.queue.now() + fault.lasts);
        self.coverage.count(name(twist));
        self.reach.cut[owner] += 1;
        self.mend_later(end + rng.below(300 * MILLIS), Mend::StoreCut(owner));
        let others: Vec<NodeNo> = (0..self.plan.nodes).filter(|peer| *peer != owner).collect();
        let spared = match twist {
            Twist::Spared { .. } => Some(others[rng.index(others.len())]),
            _ => None,
        };
        // When whoever follows has done so, at the earliest.
        let followed = now + PROMISE + (100 + rng.below(700)) * MILLIS;
        let whole = if twist == Twist::StoreLast { followed } else { end };
        for &peer in &others {
            let (is_out, is_in) = match twist {
                Twist::Spared { deaf } if spared == Some(peer) => (deaf, deaf && rng.chance(1, 2)),
                Twist::OneWay { inward } => (!inward, inward),
                _ => (true, true),
            };
            if is_out {
                self.cut(owner, peer, Beats::Lost, whole, rng);
            }
            if is_in {
                self.cut(peer, owner, Beats::Lost, whole, rng);
            }
            let open = match twist {
                Twist::Spared { .. } if spared == Some(peer) => (now, end),
                Twist::BeatsReturn => (followed, end),
                Twist::LateAnswers => (now, now + 120 * MILLIS),
                _ => (0, 0),
            };
            self.open_beats(owner, peer, open);
            if twist == Twist::LateAnswers {
                let way = &mut self.beats[peer][owner];
                (way.late, way.until) = (way.late + 1, followed);
                self.mend_later(followed, Mend::BeatWay(peer, owner, true));
            }
        }
        self.twist(twist, (owner, &others, spared), (followed, end), rng)
    }

    /// Beats get through a cut in this stretch of time.
    fn open_beats(&mut self, one: NodeNo, other: NodeNo, open: (Time, Time)) {
        self.beats[one][other].open = open;
        self.beats[other][one].open = open;
    }

    /// Something is to get through again while a claim is on its way to the store: what the owner sends to the spared node, and
    /// is held back from now on, or beats.
    fn await_claim(&mut self, owner: NodeNo, spared: Option<NodeNo>, end: Time) {
        if self.reach.awaited.is_some() {
            return;
        }
        if let Some(spared) = spared {
            let now = self.queue.now();
            if let Some((at, event)) = self.net.cut(now, owner, spared, end - now + SECONDS) {
                self.queue.push(at, Happening::Net(event));
            }
        }
        self.reach.awaited = Some(Awaited { owner, spared, end });
        self.mend_later(end, Mend::AwaitedClaim);
    }

    /// A node proposes. How much slower than usual the store is, if that is the awaited claim.
    pub(super) fn amid_claim(&mut self, node: NodeNo) -> Time {
        let Some(Awaited { owner, spared, end }) = self.reach.awaited.filter(|awaited| awaited.owner != node) else {
            return 0;
        };
        self.reach.awaited = None;
        self.coverage.count("something got through amid a claim (M6, M9)");
        let slow = (100 + self.rng.below(300)) * MILLIS;
        let at = self.queue.now() + self.rng.below(slow);
        match spared {
            Some(spared) => self.mend_later(at, Mend::Way(owner, spared)),
            None => (0..self.plan.nodes)
                .filter(|&peer| peer != owner)
                .for_each(|peer| self.open_beats(owner, peer, (at, end))),
        }
        slow
    }

    /// Nobody claimed.
    pub(super) fn await_no_claim(&mut self) {
        if let Some(Awaited { owner, spared: Some(spared), .. }) = self.reach.awaited.take() {
            self.mend_later(self.queue.now(), Mend::Way(owner, spared));
        }
    }

    fn twist(
        &mut self,
        twist: Twist,
        (owner, others, spared): (NodeNo, &[NodeNo], Option<NodeNo>),
        (followed, end): (Time, Time),
        rng: &mut Rng,
    ) -> Run {
        let now = self.queue.now();
        match twist {
            Twist::StuckDisk => {
                self.machines[owner].disk_pace = None;
                self.mend_later(followed, Mend::Disk(owner));
            }
            Twist::Spared { deaf: false } => {
                let spared = spared.unwrap_or(owner);
                // What is written between the questions of a claim and its fence (M9) is on that node only.
                if rng.chance(3, 4) {
                    self.await_claim(owner, Some(spared), end);
                }
                // When that node obeys another owner, its connection to this one breaks, and comes back (M3).
                self.mend_later(followed + 400 * MILLIS, Mend::Reset(owner, spared));
            }
            Twist::SlowStore => self.await_claim(owner, None, end),
            Twist::Restart => {
                for &peer in others {
                    self.rest_until(peer, now + (1 + rng.below(200)) * MILLIS);
                    self.kill_process(peer, false)?;
                }
            }
            Twist::PowerLoss => {
                for &peer in others {
                    self.rest_until(peer, now + (1 + rng.below(400)) * MILLIS);
                    self.cut_power(peer, rng);
                }
            }
            Twist::Pause => {
                let until = now + (200 + rng.below(600)) * MILLIS;
                for &peer in others.iter().filter(|&&peer| self.machines[peer].process.is_some()).collect::<Vec<_>>() {
                    self.machines[peer].pauses += 1;
                    let life = self.machines[peer].life;
                    self.mend_later(until, Mend::Resume(peer, life));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A twist's name in the coverage.
fn name(twist: Twist) -> &'static str {
    match twist {
        Twist::Plain => "owner cut off: no more (M5)",
        Twist::OneWay { .. } => "owner cut off: one way (M5)",
        Twist::LateAnswers => "owner cut off: answers of beats late (M5)",
        Twist::StuckDisk => "owner cut off: reads in its disk (M5)",
        Twist::Spared { .. } => "owner cut off: not from one node (M3, M5)",
        Twist::StoreLast => "owner cut off: longest from the store (M3)",
        Twist::BeatsReturn => "owner cut off: beats return (M5)",
        Twist::SlowStore => "owner cut off: beats return amid a claim (M6)",
        Twist::Restart => "owner cut off: the others restart (M6)",
        Twist::PowerLoss => "owner cut off: the others lose their power (M11)",
        Twist::Pause => "owner cut off: the others are stopped (M6)",
    }
}
