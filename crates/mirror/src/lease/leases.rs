//! The node's table of leases.

use std::collections::BTreeMap;

use dyad_cluster::{Incarnation, Turns};
use dyad_units::{Epoch, Moment, NodeId, Period, SegmentId};

use crate::lease::held::Held;
use crate::lease::promise::Promises;
use crate::lease::tuning::LeaseTuning;

/// Most segments that one beat lists: what a beat of 1 MiB holds. A node that owns more lists the others in turn.
pub const OWNED_MAX: usize = 32_768;

/// Beats that are wanted sooner come at most so many times as often as others.
const BEATS_HURRIED: u64 = 10;

/// What a node tells every other one, every 100 ms (M5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beat {
    /// Rises over all lives of the sender.
    pub number: u64,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// The segments that it owns, at which epoch, whose reactors ticked lately; sorted.
    pub owned: Vec<(SegmentId, Epoch)>,
}

/// The answer to a beat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BeatAnswer {
    /// The beat's number.
    pub number: u64,
    /// The answerer's life.
    pub incarnation: Incarnation,
    /// Of what the beat listed, that for which the answerer promises not to take over; sorted.
    pub granted: Vec<(SegmentId, Epoch)>,
}

/// Another node, as far as its beats and answers tell.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    incarnation: Incarnation,
    heard: Moment,
    /// Number of its newest beat.
    beat: u64,
}

/// A segment that this node owns.
#[derive(Clone, Copy, Debug)]
struct Owned {
    epoch: Epoch,
    ticked: Moment,
}

/// Leases and promises of one node.
#[derive(Clone, Debug)]
pub struct Leases {
    me: NodeId,
    incarnation: Incarnation,
    tuning: LeaseTuning,
    /// The beat thread's last sign of life: a gap longer than L is a pause (M6).
    ran: Moment,
    pauses: u64,
    next_beat: Moment,
    /// When the last beat was sent.
    beaten: Moment,
    /// Number of the last beat.
    number: u64,
    /// Where the next beat's list begins, when not all fit.
    owned_from: Option<SegmentId>,
    owned: BTreeMap<SegmentId, Owned>,
    /// Epochs that our images adopted, of segments for which we grant.
    grants: BTreeMap<SegmentId, Epoch>,
    promises: Promises,
    held: Held,
    neighbours: BTreeMap<NodeId, Neighbour>,
    turns: Turns,
}

impl Leases {
    /// The table of a node that starts now: what an earlier life promised is unknown, so it has promised everything to
    /// everyone (M6).
    pub fn new(me: NodeId, incarnation: Incarnation, tuning: LeaseTuning, now: Moment) -> Self {
        Self {
            me,
            incarnation,
            tuning,
            ran: now,
            pauses: 0,
            next_beat: now,
            beaten: Moment::START,
            // Of another life's beats no answer is taken for one to ours.
            number: incarnation.start << 32,
            owned_from: None,
            owned: BTreeMap::new(),
            grants: BTreeMap::new(),
            promises: Promises::starting(now + tuning.promise()),
            held: Held::default(),
            neighbours: BTreeMap::new(),
            turns: Turns::default(),
        }
    }

    /// Times of leases.
    pub const fn tuning(&self) -> &LeaseTuning {
        &self.tuning
    }

    /// The node.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// This life of it.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    // --- asked by the parts ------------------------------------------------------------------------------------

    /// The reactor that owns the segment ticked: beats list it while this is younger than L/2, so that a reactor that
    /// hangs loses its leases although the node beats (M5).
    pub fn own(&mut self, segment: SegmentId, epoch: Epoch, now: Moment) {
        let owned = self.owned.entry(segment).or_insert(Owned { epoch, ticked: now });
        if owned.epoch != epoch {
            self.held.forget(segment);
        }
        *owned = Owned { epoch, ticked: now };
    }

    /// The next beat goes out at once: a lease of a new epoch can be had now, and answers wait for it.
    pub fn hurry(&mut self, now: Moment) {
        let soonest = self.beaten + Period::from_nanos(self.tuning.beat.as_nanos() / BEATS_HURRIED);
        self.next_beat = self.next_beat.min(soonest.max(now));
    }

    /// The segment is not owned here any more.
    pub fn disown(&mut self, segment: SegmentId) {
        self.unlist(segment);
        self.turns.end(segment);
    }

    /// Nobody else has to grant leases for the segment, or is asked to.
    pub fn unlist(&mut self, segment: SegmentId) {
        if self.owned.remove(&segment).is_some() {
            self.held.forget(segment);
        }
    }

    /// Which of the segments that this node owns let an image catch up: what they share besides leases.
    pub const fn turns(&mut self) -> &mut Turns {
        &mut self.turns
    }

    /// Our image is in sync, or joins (M16), and adopted exactly this epoch; none: nothing is granted, because we have
    /// no such image or are about to take over ourselves (M6).
    pub fn grant_for(&mut self, segment: SegmentId, epoch: Option<Epoch>) {
        match epoch {
            Some(epoch) => drop(self.grants.insert(segment, epoch)),
            None => drop(self.grants.remove(&segment)),
        }
    }

    /// A record of the segment with this epoch is known to be stored.
    pub fn know(&mut self, segment: SegmentId, epoch: Epoch) {
        self.promises.know(segment, epoch);
    }

    /// As [`Self::know`], of a record that this node itself put in the place of the newest that it knew.
    pub fn know_own(&mut self, segment: SegmentId, epoch: Epoch) {
        self.promises.know_own(segment, epoch);
    }

    /// Before this moment this node neither claims the segment nor answers as its owner (M5, M6).
    pub fn promised_until(&self, segment: SegmentId) -> Moment {
        self.promises.until(segment)
    }

    /// A new owner is recorded: it has the same grace as if we had answered a beat of it now (M5).
    pub fn grace(&mut self, segment: SegmentId, to: NodeId, epoch: Epoch, now: Moment) {
        if to != self.me {
            let life = self.neighbours.get(&to).map(|node| node.incarnation.start);
            self.promises.give(segment, to, life, epoch, now + self.tuning.promise());
        }
    }

    /// `by`, owner of the segment up to `epoch`, will never answer in these epochs again (M12): what was promised for
    /// them is void.
    pub fn released(&mut self, segment: SegmentId, by: NodeId, epoch: Epoch) {
        self.promises.release(segment, by, epoch);
    }

    /// When a beat last listed the segment as owned by somebody, at an epoch that concerns us or not: that owner lives,
    /// and knows itself which images it can do without.
    pub fn listed(&self, segment: SegmentId) -> Option<Moment> {
        self.promises.listed(segment)
    }

    /// Until when the node promised not to be owner, if our epoch is this one.
    pub fn held_until(&self, segment: SegmentId, epoch: Epoch, from: NodeId) -> Option<Moment> {
        self.held.until(segment, epoch, from)
    }

    /// When the node was heard of last: a beat or an answer of it.
    pub fn heard(&self, node: NodeId) -> Option<Moment> {
        self.neighbours.get(&node).map(|node| node.heard)
    }

    /// Number of the newest beat of the node that was received, zero if none: shows the node how old at most what we
    /// send it can be (M19).
    pub fn beat_heard(&self, node: NodeId) -> u64 {
        self.neighbours.get(&node).map_or(0, |node| node.beat)
    }

    /// When our beat of this number was sent, unless that is long ago or never was.
    pub fn beat_sent(&self, number: u64) -> Option<Moment> {
        self.held.sent(number)
    }

    /// A node proved its life in a hello. What was promised to its earlier lives is void: they hold no memory of it (M6).
    pub fn hello(&mut self, node: NodeId, incarnation: Incarnation, now: Moment) {
        let known = self.neighbours.entry(node).or_insert(Neighbour { incarnation, heard: now, beat: 0 });
        known.heard = known.heard.max(now);
        if incarnation.start > known.incarnation.start {
            (known.incarnation, known.beat) = (incarnation, 0);
            self.promises.void_lives_before(node, incarnation.start);
        }
    }

    /// How often this process was paused longer than L: each time it promised everything to everyone (M6), and its
    /// hosts' sessions close (M19).
    pub const fn pauses(&self) -> u64 {
        self.pauses
    }

    /// Whoever is about to act looks here first: finds out whether the process was paused (M6).
    pub fn look(&mut self, now: Moment) {
        if now.since(self.ran) > self.tuning.length {
            self.pauses += 1;
            self.ran = now;
            self.promises.promise_everyone(now + self.tuning.promise());
        }
    }

    // --- driven by the thread that beats -----------------------------------------------------------------------

    /// The beat to be sent to every other node, if it is time.
    pub fn beat(&mut self, now: Moment) -> Option<Beat> {
        self.run(now);
        if now < self.next_beat {
            return None;
        }
        (self.next_beat, self.beaten) = (now + self.tuning.beat, now);
        self.number += 1;
        let owned = self.list(now);
        self.held.sent_now(self.number, now);
        Some(Beat { number: self.number, incarnation: self.incarnation, owned })
    }

    /// When [`Self::beat`] is wanted.
    pub const fn next_beat(&self) -> Moment {
        self.next_beat
    }

    /// A beat of another node was received: promises what can be promised.
    pub fn on_beat(&mut self, now: Moment, from: NodeId, beat: &Beat) -> BeatAnswer {
        self.run(now);
        self.hello(from, beat.incarnation, now);
        let mut granted = Vec::new();
        if let Some(node) = self.neighbours.get_mut(&from).filter(|node| node.incarnation == beat.incarnation) {
            node.beat = node.beat.max(beat.number);
            let until = now + self.tuning.promise();
            for &(segment, epoch) in beat.owned.iter().take(OWNED_MAX) {
                self.promises.list(segment, from, epoch, now);
                if self.grants.get(&segment) == Some(&epoch) {
                    self.promises.give(segment, from, Some(beat.incarnation.start), epoch, until);
                    granted.push((segment, epoch));
                }
            }
        }
        BeatAnswer { number: beat.number, incarnation: self.incarnation, granted }
    }

    /// The answer to a beat of ours was received: what it grants holds from the moment that beat was sent.
    pub fn on_answer(&mut self, now: Moment, from: NodeId, answer: &BeatAnswer) {
        self.run(now);
        self.hello(from, answer.incarnation, now);
        let Some(sent) = self.held.sent(answer.number) else { return };
        for &(segment, epoch) in answer.granted.iter().take(OWNED_MAX) {
            if self.owned.get(&segment).is_some_and(|owned| owned.epoch == epoch) {
                self.held.hold(segment, epoch, from, sent + self.tuning.length);
            }
        }
    }

    /// The beat thread runs.
    fn run(&mut self, now: Moment) {
        self.look(now);
        self.ran = now;
    }

    /// What the next beat lists.
    fn list(&mut self, now: Moment) -> Vec<(SegmentId, Epoch)> {
        let fresh = Period::from_nanos(self.tuning.length.as_nanos() / 2);
        let is_fresh = |owned: &Owned| now.since(owned.ticked) < fresh;
        let from = self.owned_from.take();
        let after = self.owned.range(from.unwrap_or(SegmentId::from_bytes([0; 16]))..);
        let before = from.into_iter().flat_map(|from| self.owned.range(..from));
        let mut listed: Vec<(SegmentId, Epoch)> = Vec::new();
        for (&segment, owned) in after.chain(before).filter(|(_, owned)| is_fresh(owned)) {
            if listed.len() == OWNED_MAX {
                self.owned_from = Some(segment);
                break;
            }
            listed.push((segment, owned.epoch));
        }
        listed.sort_unstable();
        listed
    }
}
