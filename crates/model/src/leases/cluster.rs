//! All nodes, the store, and what is under way between them.

use std::collections::VecDeque;
use std::sync::Arc;

use dyad_cluster::takeover::{RANK_STEP, Shown};
use dyad_cluster::{Change, IMAGES_MAX, NewSegment, OutReason, SegmentRecord};
use dyad_mirror::{Beat, BeatAnswer, LeaseTuning, Leases};
use dyad_units::{Bytes, Epoch, ImageId, LayerId, Moment, Period, PoolId, VolumeId};

use crate::digest::{Digest, Rules, Shape, Shared, Treat};
use crate::leases::action::Action;
use crate::leases::node::{LIVES, Life, Node, Purpose, Role, SEGMENT, bits, node_id};
use crate::leases::store::{Fate, Known, put};
use crate::leases::{BEAT, Case, DRIFT_PPM, LEASE};
use crate::search::Violation;

/// Messages of one kind from each node to each other one, oldest first.
type Links<M> = Vec<Vec<VecDeque<Arc<M>>>>;

/// How a node is looked at. What is left out decides nothing here: whether a beat is due (one is at every step), when nodes
/// were heard and which beat was their newest (M19), who was listed (the part's patience), how often the process was
/// paused (its hosts).
fn rules(case: &Case) -> Rules {
    // A promise that is over matters only to those who wait for their turn after it.
    let turns = case.rates.len().saturating_sub(2) as u64;
    let over = Period::from_nanos(RANK_STEP.as_nanos() * turns);
    let mut named = vec![
        ("until", Treat::Since(over)),
        ("everyone", Treat::Own(1)),
        ("void", Treat::Own(1)),
        // A gap longer than L is a pause.
        ("ran", Treat::Since(Period::from_nanos(LEASE.as_nanos() + 1))),
        // Younger than half of it, a beat lists the segment.
        ("ticked", Treat::Since(Period::from_nanos(LEASE.as_nanos() / 2))),
        ("sent", Treat::Sent),
        // Other moments: of the promise to everyone.
        ("Moment", Treat::Since(over)),
    ];
    let left_out = ["clock", "next_beat", "number", "beaten", "heard", "beat", "listed", "pauses"];
    named.extend(left_out.map(|name| (name, Treat::Skip)));
    if case.restarts == 0 {
        named.push(("neighbours", Treat::Skip)); // which life they are in never changes
    }
    Rules { named }
}

/// The whole.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Shared<Node>>,
    pub(crate) store: Known,
    /// A compare-and-set that its sender gave up, still on its way (M7).
    pub(crate) late: Option<(Known, Epoch)>,
    pub(crate) beats: Links<Beat>,
    /// By who answers, then by who asked.
    pub(crate) answers: Links<BeatAnswer>,
    pub(crate) release: Option<Release>,
    pub(crate) spent: Spent,
}

/// What has happened of that which happens only so often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Starts of processes after the first.
    pub(crate) restarts: u8,
    pub(crate) unknown: u8,
    pub(crate) late: u8,
    pub(crate) delays: u8,
}

/// The word of an old owner, under way (M12).
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) by: usize,
    pub(crate) to: usize,
    epoch: Epoch,
}

fn image_id(at: usize) -> ImageId {
    ImageId::from_bytes([0x10 + at as u8; 16])
}

/// Clocks begin far from zero, so that nothing is before their start.
const BEGIN: Moment = Moment::from_nanos(1 << 50);

const TUNING: LeaseTuning = LeaseTuning { length: LEASE, drift_ppm: DRIFT_PPM, beat: BEAT };

impl Cluster {
    pub(crate) fn new(case: &Case) -> Self {
        let count = case.rates.len();
        let images = (0..count).map(|at| (image_id(at), node_id(at), PoolId::from_bytes([0x20 + at as u8; 16])));
        let store = Known::new(SegmentRecord::new(NewSegment {
            id: SEGMENT,
            volume: VolumeId::from_bytes([0x66; 16]),
            layer: LayerId::from_bytes([0x67; 16]),
            size: Bytes::kib(256),
            images: images.collect(),
        }));
        let node = |at: usize| {
            Shared::new(Node { at, clock: BEGIN, start: at as u64 * LIVES, kept: store.clone(), life: None })
        };
        let links = || vec![vec![VecDeque::new(); count]; count];
        let mut cluster = Self {
            nodes: (0..count).map(node).collect(),
            store: store.clone(),
            late: None,
            beats: links(),
            answers: vec![vec![VecDeque::new(); count]; count],
            release: None,
            spent: Spent::default(),
        };
        (0..count).for_each(|at| cluster.start(at));
        cluster
    }

    /// Lets it happen.
    pub(crate) fn act(&mut self, case: &Case, action: Action) -> Result<(), Violation> {
        match action {
            Action::Tick { runs } => {
                if case.delays.is_some() {
                    self.spent.delays += self.delays(runs);
                }
                for (node, rate) in self.nodes.iter_mut().zip(case.rates) {
                    let node = node.make_mut();
                    node.clock = node.clock + rate.step();
                }
                bits(runs).for_each(|at| self.beat(case, at));
            }
            Action::GiveBeat { from, to } => self.give_beat(usize::from(from), usize::from(to)),
            Action::GiveAnswer { from, to } => self.give_answer(usize::from(from), usize::from(to)),
            Action::Lose { from, to } => {
                self.beats[usize::from(from)][usize::from(to)].clear();
                self.answers[usize::from(from)][usize::from(to)].clear();
                self.spent.delays += 1;
            }
            Action::Claim { node, asked } => return self.claim(usize::from(node), asked),
            Action::Propose { node, fate } => self.propose(usize::from(node), fate),
            Action::Arrive => {
                if let Some((record, expected)) = self.late.take() {
                    self.store = put(&self.store, &record, expected, Fate::Answered).0;
                }
            }
            Action::Open { owner, to, answered } => return self.open(usize::from(owner), usize::from(to), answered),
            Action::Serve { node } => {
                let node = self.nodes[usize::from(node)].make_mut();
                let now = node.clock;
                let Some(life) = &mut node.life else { return Ok(()) };
                if let Role::Owner { fenced, .. } = life.role
                    && life.may_begin(now)
                {
                    life.role = Role::Owner { fenced, serves: true };
                }
            }
            Action::TakeOut { owner, image } => {
                let change = Change::TakeOut { image: image_id(usize::from(image)), reason: OutReason::Silent };
                self.change(usize::from(owner), &[change], Purpose::Members);
            }
            Action::Join { owner, image } => {
                let incarnation = self.nodes[usize::from(image)].incarnation();
                let image = image_id(usize::from(image));
                let changes = [Change::Resync { image }, Change::Join { image, incarnation }];
                self.change(usize::from(owner), &changes, Purpose::Members);
            }
            Action::HandOver { owner, to } => {
                let change = Change::Own { node: node_id(usize::from(to)) };
                self.change(usize::from(owner), &[change], Purpose::HandOver);
            }
            Action::GiveRelease { to } => self.give_release(usize::from(to)),
            Action::See { node } => {
                let store = self.store.clone();
                self.with_release(usize::from(node), |node| node.see(&store));
            }
            Action::Crash { node } => self.crash(usize::from(node)),
            Action::Start { node } => self.start(usize::from(node)),
        }
        Ok(())
    }

    /// What a step of time in which these nodes run costs of the delays allowed.
    pub(crate) fn delays(&self, runs: u8) -> u8 {
        let idle = self.nodes.iter().filter(|node| node.life.is_some() && runs >> node.at & 1 == 0).count();
        let beats = self.beats.iter().flatten().any(|link| !link.is_empty());
        let answers = self.answers.iter().flatten().any(|link| !link.is_empty());
        idle as u8 + u8::from(beats || answers || self.release.is_some())
    }

    fn beat(&mut self, case: &Case, at: usize) {
        let node = self.nodes[at].make_mut();
        let now = node.clock;
        let Some(life) = &mut node.life else { return };
        if matches!(life.role, Role::Owner { .. }) {
            life.leases.own(SEGMENT, life.known.epoch(), now);
        }
        let Some(beat) = life.leases.beat(now).map(Arc::new) else { return };
        // A beat that lists nothing only proves a life: nothing new while no process starts again.
        if beat.owned.is_empty() && case.restarts == 0 {
            return;
        }
        for (_, link) in self.beats[at].iter_mut().enumerate().filter(|(to, _)| *to != at) {
            send(link, &beat);
        }
    }

    fn give_beat(&mut self, from: usize, to: usize) {
        let Some(beat) = self.beats[from][to].pop_front() else { return };
        let node = self.nodes[to].make_mut();
        let now = node.clock;
        let Some(life) = &mut node.life else { return };
        let answer = life.leases.on_beat(now, node_id(from), &beat);
        send(&mut self.answers[to][from], &Arc::new(answer));
    }

    fn give_answer(&mut self, from: usize, to: usize) {
        let Some(answer) = self.answers[from][to].pop_front() else { return };
        let node = self.nodes[to].make_mut();
        let now = node.clock;
        if let Some(life) = &mut node.life {
            life.leases.on_answer(now, node_id(from), &answer);
        }
    }

    fn claim(&mut self, at: usize, asked: u8) -> Result<(), Violation> {
        let Some(known) = self.nodes[at].life.as_ref().map(|life| life.known.clone()) else { return Ok(()) };
        let mut shown = [Shown::Unknown; IMAGES_MAX];
        for (other, shown) in self.nodes.iter().zip(&mut shown) {
            if other.at == at || asked >> other.at & 1 == 1 {
                *shown = other.shown(&known);
            }
        }
        self.nodes[at].make_mut().claim(shown)
    }

    fn change(&mut self, owner: usize, changes: &[Change], purpose: Purpose) {
        if let Some(life) = &mut self.nodes[owner].make_mut().life {
            life.propose(changes, purpose);
        }
    }

    fn propose(&mut self, at: usize, fate: Fate) {
        let proposal = self.nodes[at].life.as_ref().and_then(|life| life.proposal.clone());
        let Some(proposal) = proposal else { return };
        let (store, outcome) = put(&self.store, &proposal.record, proposal.expected, fate);
        self.store = store;
        self.spent.unknown += u8::from(fate == Fate::AnswerLost);
        if fate == Fate::Late {
            self.spent.late += 1;
            self.late = Some((proposal.record.clone(), proposal.expected));
        }
        self.with_release(at, |node| node.on_outcome(outcome));
    }

    /// Something by which the node may learn that its hand-over is recorded: then it says so to the new owner.
    fn with_release(&mut self, at: usize, act: impl FnOnce(&mut Node)) {
        let purpose =
            |node: &Node| node.life.as_ref().and_then(|life| life.proposal.as_ref()).map(|p| p.record.clone());
        let node = self.nodes[at].make_mut();
        let before = purpose(node);
        act(node);
        let Some(life) = &node.life else { return };
        let handed = before.filter(|record| life.known == *record && record.0.owner != Some(node_id(at)));
        if let Some(record) = handed {
            let to = (0..self.nodes.len()).find(|to| record.0.owner == Some(node_id(*to)));
            self.release = to.map(|to| Release { by: at, to, epoch: record.epoch() });
        }
    }

    fn give_release(&mut self, to: usize) {
        let Some(release) = self.release.take() else { return };
        if let Some(life) = &mut self.nodes[to].make_mut().life {
            life.leases.released(SEGMENT, node_id(release.by), release.epoch);
        }
    }

    fn open(&mut self, owner: usize, to: usize, answered: bool) -> Result<(), Violation> {
        let Some(record) = self.nodes[owner].life.as_ref().map(|life| life.known.clone()) else { return Ok(()) };
        let kept = &self.nodes[to].kept;
        if kept.epoch() == record.epoch() && *kept != record {
            return Err(Violation::new("§8", format!("two records of epoch {}: {kept:?}, {record:?}", record.epoch())));
        }
        let opened = self.nodes[to].make_mut().open(&record);
        match opened {
            Err(newer) if answered => self.with_release(owner, |node| node.see(&newer)),
            Ok(()) if answered => {
                if let Some(Life { role: Role::Owner { fenced, .. }, .. }) = &mut self.nodes[owner].make_mut().life {
                    *fenced |= 1 << to;
                }
            }
            Err(_) | Ok(()) => {}
        }
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        self.nodes[at].make_mut().life = None;
        self.spent.restarts += 1;
        for other in 0..self.nodes.len() {
            // Connections end with either side; what was under way is lost.
            for (from, to) in [(at, other), (other, at)] {
                self.beats[from][to].clear();
                self.answers[from][to].clear();
            }
        }
        self.release = self.release.take().filter(|release| release.by != at && release.to != at);
    }

    fn start(&mut self, at: usize) {
        let node = self.nodes[at].make_mut();
        node.start += 1;
        let leases = Leases::new(node_id(at), node.incarnation(), TUNING, node.clock);
        let known = node.kept.clone();
        node.life = Some(Life { leases, known, role: Role::Follower, proposal: None });
    }

    pub(crate) fn digest(&self, case: &Case) -> u128 {
        let mut digest = Digest::new(LEASE);
        for node in &self.nodes {
            digest.add(node.shape(|| rules(case)), node.clock);
        }
        let between = (&self.beats, &self.answers, &self.store, &self.late, &self.release, self.spent);
        digest.add(&Shape::of(&between, &Rules { named: vec![("number", Treat::Beat)] }), BEGIN);
        digest.finish()
    }

    pub(crate) fn show(&self) -> String {
        let mut text = format!("store {:?}", self.store);
        for node in &self.nodes {
            let Some(life) = &node.life else {
                text += &format!(" | node {}: down", node.at);
                continue;
            };
            let millis = |moment: Moment| (moment.as_nanos() as i64 - node.clock.as_nanos() as i64) / 1_000_000;
            let promised = millis(life.leases.promised_until(SEGMENT)).max(-999);
            text += &format!(" | node {}: {:?} knows {:?}, promised {promised} ms", node.at, life.role, life.known);
            for other in (0..self.nodes.len()).filter(|other| *other != node.at) {
                if let Some(until) = life.leases.held_until(SEGMENT, life.known.epoch(), node_id(other)) {
                    text += &format!(", holds {other} for {} ms", millis(until));
                }
            }
            if let Some(proposal) = &life.proposal {
                text += &format!(", proposes {:?}", proposal.record);
            }
        }
        text
    }
}

/// Adds a message in the place of one that is under way: that one is lost.
fn send<M>(link: &mut VecDeque<Arc<M>>, message: &Arc<M>) {
    link.clear();
    link.push_back(Arc::clone(message));
}
