//! What a run is made of, drawn up front from its seed, so that single faults and hosts can be left out of it.

use super::cut_off::Twist;
use super::kinds::draw_length;
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;
use dyad_cluster::{AckPolicy, OnFew};

/// Which node a fault strikes, found when it strikes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aim {
    /// This one.
    Node(usize),
    /// The owner of the first segment.
    Owner,
    /// Another node that holds an image in sync.
    Follower,
    /// A node whose image is being caught up, or else is stale.
    Behind,
    /// A node that has no image and sends everything on.
    Front,
}

/// What a fault waits for, for at most 4 s of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// Nothing.
    Time,
    /// Writes are under way.
    Writing,
    /// An image is being caught up.
    Resyncing,
    /// The same, and that for a while: about 50 ms.
    Copying,
    /// A new owner begins to serve and has extents that images may have differently (M9).
    Equalising,
    /// The same, and that for a while: about 50 ms.
    Comparing,
    /// An image asks for the mark of a region that was clean (P5).
    Marking,
    /// An image is asked to close an interval (M4).
    Closing,
    /// The store has noted that an image joined; its owner does not know yet (M16).
    Joined,
    /// The store has noted that one image alone is left in sync (M8).
    Alone,
    /// An image that has caught up is asked to note that it is complete: the record is to say so next (M16).
    Completing,
    /// A disk failed an operation (P11).
    DiskFailed,
    /// An owner has let everything end, and proposes another one (M12).
    HandingOver,
    /// An image is asked to write what an atomic write notes (M21).
    Noting,
    /// It was, and is asked to write what it was about.
    Carrying,
}

/// Longest wait for a trigger.
pub const TRIGGER_WAIT: Time = 4 * SECONDS;

/// Beats in a direction that is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beats {
    /// Are lost.
    Lost,
    /// Arrive when it is whole again.
    Late,
}

/// Which operations of a disk fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskFault {
    /// Reads.
    Read,
    /// Writes through the page cache.
    Write,
    /// Writes of the journal.
    Durable,
    /// Syncs.
    Sync,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// The process dies on a machine that stays up; `amid`: in the middle of a call of the pool.
    ProcessCrash {
        /// In the middle of a call.
        amid: bool,
    },
    /// The machine loses its power.
    PowerLoss,
    /// The same, and it comes back with the disk as it was a while ago, if the others went on without it meanwhile.
    OldDisk,
    /// The same, and it comes back with an empty disk, if the others went on without it meanwhile.
    EmptyDisk,
    /// All machines lose their power.
    PowerLossOfAll,
    /// All processes die.
    ProcessCrashOfAll,
    /// The process is stopped, and goes on later.
    Pause,
    /// Nothing gets from this node to another, or the other way round.
    CutOneWay {
        /// The other node, counted from this one.
        other: usize,
        /// From the other to this one.
        inward: bool,
        /// What becomes of beats.
        beats: Beats,
    },
    /// Nothing gets between this node and any other.
    Isolation {
        /// Nor to the config store.
        store: bool,
        /// Nor to the hosts.
        hosts: bool,
        /// What becomes of beats.
        beats: Beats,
    },
    /// The connection to another node breaks, and comes back at once.
    LinkBreak {
        /// The other node, counted from this one.
        other: usize,
    },
    /// Beats alone are lost or late.
    BeatsOnly {
        /// The other node, counted from this one.
        other: usize,
        /// Late rather than lost.
        late: bool,
    },
    /// This node, the owner, reaches neither the others nor the config store, but its hosts.
    OwnerCutOff {
        /// What else happens then.
        twist: Twist,
    },
    /// Letters from this node to the owner are slow.
    SlowToOwner {
        /// By so much.
        delay: Time,
    },
    /// This node gives up its connection to the owner, to which still comes whatever was on its way.
    FrontHangsUp,
    /// The owner's beats do not reach this node.
    OwnerUnheard,
    /// Letters between this node and all others are slow.
    SlowNet {
        /// By so much at most.
        most: Time,
    },
    /// The config store cannot be reached by anybody.
    StoreAway,
    /// The config store loses questions and answers, and carries some out late.
    StoreFlaky,
    /// This node does not reach the config store.
    StoreCut,
    /// One host does not reach this node.
    HostCut,
    /// The disk is slow by this factor.
    DiskSlow {
        /// How many times slower.
        factor: u64,
    },
    /// The disk does nothing.
    DiskStuck,
    /// The disk fails operations of a kind.
    DiskFails {
        /// Which.
        kind: DiskFault,
        /// So many; then it works again, until the process is started anew.
        times: u64,
    },
    /// The disk fails the next operation of a kind.
    DiskFailsNow {
        /// Which.
        kind: DiskFault,
    },
    /// Bits of the disk change.
    Rot,
    /// Many bits change of the disk of the only image in sync.
    RotOfLast,
    /// One bit changes of the SCSI state there.
    RotOfState,
    /// The clock runs wrong from now on.
    Drift {
        /// By how many millionths.
        ppm: i64,
    },
    /// An administrator hands the first segment over to this node.
    HandOver,
    /// An administrator takes this node's image out; it is brought back at the end.
    TakeOut,
    /// An administrator detaches this node's image, which is behind; it is brought back at the end.
    Detach,
    /// An administrator adds an image on a node that has none, while hosts go on.
    AddImage {
        /// In the place of this node's.
        replaces: bool,
    },
    /// An administrator removes this node's image, which is behind.
    RemoveImage,
    /// An administrator promotes this node's image, which is behind, while the owner is off (M10).
    Promote,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When, at the earliest.
    pub at: Time,
    /// What it waits for.
    pub trigger: Trigger,
    /// Whom it strikes.
    pub aim: Aim,
    /// What.
    pub kind: FaultKind,
    /// For how long.
    pub lasts: Time,
    /// Seed of whatever it leaves open.
    pub seed: u64,
}

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of everything below and of all that the plan leaves open.
    pub seed: u64,
    /// Count of nodes.
    pub nodes: usize,
    /// Images of each segment, on the first nodes (shifted by the segment's place).
    pub images: usize,
    /// Count of volumes, of one segment each.
    pub segments: usize,
    /// 4 MiB regions of a segment.
    pub regions: u64,
    /// What disks write untorn.
    pub unit: usize,
    /// Size of each disk.
    pub disk_bytes: u64,
    /// Size of L.
    pub log_bytes: usize,
    /// Bound of drift that the nodes are told; their clocks keep it.
    pub ppm_bound: i64,
    /// Clocks may break that bound: reads may be stale then.
    pub is_beyond_bound: bool,
    /// When writes may be acknowledged (A4).
    pub policy: AckPolicy,
    /// Length of an interval in milliseconds.
    pub interval: u64,
    /// Hosts that are left out.
    pub hosts: Vec<usize>,
    /// Operations of each host at most.
    pub quota: u64,
    /// When hosts stop asking and everything is mended.
    pub until: Time,
    /// In order of their number.
    pub faults: Vec<Fault>,
    /// Numbers of the faults that are left out.
    pub skipped: Vec<usize>,
}

/// What sort of trouble a run sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mood {
    /// Anything.
    Mixed,
    /// Crashes and pauses.
    Crashes,
    /// Cuts and the store.
    Cuts,
    /// Losses of power.
    Power,
    /// Disks.
    Disks,
    /// Nothing but an administrator's changes.
    Planned,
    /// An image that was taken out is promoted while the owner is off (M10).
    Forced,
    /// Owners are cut off from those who may follow them, while hosts read (M5, M6).
    Leases,
    /// Forwarded commands are held up (M18, M19).
    Ghosts,
    /// Power is lost everywhere while regions become marked and clean (P5, P8).
    Marks,
    /// Catching up lasts long and fails again (M13 to M16).
    Resyncs,
}

/// How often each comes, of all runs.
const MIX: [Mood; 19] = [
    Mood::Mixed,
    Mood::Mixed,
    Mood::Mixed,
    Mood::Crashes,
    Mood::Crashes,
    Mood::Cuts,
    Mood::Power,
    Mood::Power,
    Mood::Disks,
    Mood::Planned,
    Mood::Forced,
    Mood::Leases,
    Mood::Leases,
    Mood::Ghosts,
    Mood::Ghosts,
    Mood::Marks,
    Mood::Marks,
    Mood::Resyncs,
    Mood::Resyncs,
];

/// One volume in eight wants two images for an acknowledgement. Drawn apart from the rest of the plan, which was there
/// before it.
fn draw_policy(seed: u64, images: usize) -> AckPolicy {
    let mut rng = Rng::new(seed ^ 0xa4a4_a4a4_a4a4_a4a4);
    let on_few = if rng.chance(1, 2) { OnFew::Error } else { OnFew::Wait };
    match rng.chance(1, 8) && images > 1 {
        true => AckPolicy { min_in_sync: 2, on_few },
        false => AckPolicy::default(),
    }
}

impl Plan {
    /// The plan of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xc1a5_7e50_91a7_0001);
        let images = [2, 2, 2, 2, 3, 3, 3, 1, 4][rng.index(9)];
        let nodes = (images + usize::from(rng.chance(1, 4))).clamp(2, 4);
        let is_beyond_bound = rng.chance(1, 16);
        let until = (8 + rng.below(10)) * SECONDS;
        let mut plan = Self {
            seed,
            nodes,
            images: images.min(nodes),
            segments: if rng.chance(1, 5) { 2 } else { 1 },
            regions: 1 + rng.below(3),
            unit: if rng.chance(1, 2) { 512 } else { 4096 },
            disk_bytes: if rng.chance(1, 10) { 8 << 20 } else { 12 << 20 },
            log_bytes: [24 << 10, 64 << 10, 256 << 10][rng.index(3)],
            ppm_bound: 1000,
            is_beyond_bound,
            policy: draw_policy(seed, images),
            interval: [100, 300, 1000, 3000][rng.index(4)],
            hosts: (0..1 + rng.index(3)).collect(),
            quota: 400 + rng.below(1600),
            until,
            faults: Vec::new(),
            skipped: Vec::new(),
        };
        plan.draw_faults(&mut rng);
        plan.draw_play();
        plan.draw_few();
        plan.draw_recalled();
        plan.draw_survived();
        plan.draw_seldom();
        plan
    }

    /// Some runs, one in so many, are plays instead of what was drawn: what they are drawn from. Drawn apart, so that the others
    /// stay what they are.
    pub(super) fn becomes_play(&mut self, salt: u64, one_in: u64) -> Option<Rng> {
        let mut rng = Rng::new(self.seed ^ salt);
        if !rng.chance(1, one_in) {
            return None;
        }
        self.faults.clear();
        self.is_beyond_bound = false;
        Some(rng)
    }

    /// The same, with two images of one volume that may be acknowledged by one.
    pub(super) fn becomes_play_of_two(&mut self, salt: u64, one_in: u64) -> Option<Rng> {
        let rng = self.becomes_play(salt, one_in)?;
        (self.images, self.segments) = (2, 1);
        self.policy = AckPolicy::default();
        Some(rng)
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        let mood = MIX[rng.index(MIX.len())];
        let has_rot = mood == Mood::Disks && rng.chance(1, 3);
        let count = 2 + rng.below(6);
        let mut at = (300 + rng.below(2000)) * MILLIS;
        match self.begin(mood, at, rng) {
            Some(from) => at = from,
            None => return,
        }
        for number in 0..count {
            let kind = self.draw_kind(mood, has_rot, rng);
            let lasts = draw_length(kind, rng);
            let mut aim = self.draw_aim(kind, rng);
            let mut trigger = match rng.below(20) {
                0..=9 => Trigger::Writing,
                10..=14 => Trigger::Resyncing,
                15 => Trigger::Marking,
                16 => Trigger::Closing,
                _ => Trigger::Time,
            };
            // Many a run begins with the owner's failing amid writes.
            if number == 0 && matches!(mood, Mood::Mixed | Mood::Crashes | Mood::Power) && rng.chance(1, 2) {
                (aim, trigger) = (Aim::Owner, Trigger::Writing);
            }
            self.plan_fault(at, trigger, aim, kind, lasts, rng);
            if aim == Aim::Owner && trigger == Trigger::Writing && rng.chance(1, 3) {
                let kind = self.draw_kind(Mood::Crashes, false, rng);
                self.plan_fault(at, Trigger::Equalising, Aim::Owner, kind, draw_length(kind, rng), rng);
            }
            if rng.chance(1, 4) {
                self.plan_second(at, rng);
            }
            // Sometimes two at once, sometimes when the first is over.
            at += match rng.below(3) {
                0 => rng.below(200) * MILLIS,
                1 => rng.below(1500) * MILLIS,
                _ => lasts + rng.below(2500) * MILLIS,
            };
            if at > self.until {
                break;
            }
        }
        self.draw_weather(rng);
    }

    /// Who comes back, or whoever helps him, meets trouble again at a moment that matters.
    fn plan_second(&mut self, at: Time, rng: &mut Rng) {
        let trigger = [Trigger::Copying, Trigger::Joined, Trigger::Equalising][rng.index(3)];
        let aim = [Aim::Owner, Aim::Owner, Aim::Behind, Aim::Follower][rng.index(4)];
        let kind = self.draw_kind([Mood::Crashes, Mood::Power, Mood::Cuts][rng.index(3)], false, rng);
        let kind = if kind == FaultKind::Promote { FaultKind::HandOver } else { kind };
        self.plan_fault(at + 20 * MILLIS, trigger, aim, kind, draw_length(kind, rng), rng);
    }

    /// One more fault. What it leaves open is drawn last, so that a play draws the same however it is written down.
    pub(super) fn plan_fault(
        &mut self,
        at: Time,
        trigger: Trigger,
        aim: Aim,
        kind: FaultKind,
        lasts: Time,
        rng: &mut Rng,
    ) {
        self.faults.push(Fault { at, trigger, aim, kind, lasts, seed: rng.bits() });
    }

    /// The plays that such a run begins with. When they are over; none if nothing else shall happen.
    fn begin(&mut self, mood: Mood, at: Time, rng: &mut Rng) -> Option<Time> {
        match mood {
            Mood::Planned => self.nodes = (self.images + 1).clamp(self.nodes, 4), // room for one more image
            Mood::Forced => {
                self.images = 2; // with a third one in sync nothing has to be forced
                let at = self.draw_promotion(at, rng);
                if rng.chance(1, 2) {
                    self.quota = 60 + rng.below(400); // what one image alone wrote is not all written again
                }
                return Some(at);
            }
            Mood::Resyncs => {
                self.images = 2 + rng.index(2);
                self.nodes = self.nodes.max(self.images);
                return Some(self.draw_resync_trouble(at, rng));
            }
            Mood::Leases => self.draw_leases(at, rng),
            Mood::Ghosts => self.draw_ghosts(at, rng),
            Mood::Marks => self.draw_marks(at, rng),
            Mood::Mixed | Mood::Crashes | Mood::Cuts | Mood::Power | Mood::Disks => {}
        }
        (!matches!(mood, Mood::Leases | Mood::Ghosts | Mood::Marks)).then_some(at)
    }

    fn draw_aim(&self, kind: FaultKind, rng: &mut Rng) -> Aim {
        let any = Aim::Node(rng.index(self.nodes));
        match kind {
            FaultKind::HandOver => Aim::Follower,
            FaultKind::Promote | FaultKind::Detach | FaultKind::RemoveImage => Aim::Behind,
            _ => [Aim::Owner, Aim::Owner, Aim::Follower, Aim::Follower, Aim::Behind, any][rng.index(6)],
        }
    }

    /// A clock's fault: within the bound, or beyond it where the run may.
    pub fn draw_ppm(&self, rng: &mut Rng) -> i64 {
        let bound = self.ppm_bound;
        let within = match rng.below(3) {
            0 => -bound,
            1 => bound,
            _ => rng.below(2 * bound as u64 + 1) as i64 - bound,
        };
        if self.is_beyond_bound { within * 200 } else { within }
    }
}
