//! The node's other correspondents: beats, and the config store.

use dyad_cluster::{Outcome, SegmentRecord};
use dyad_mirror::PartEvent;

use super::happening::{BeatMessage, Happening, Local, StoreAnswer, StoreQuestion};
use super::machine::node_id;
use super::net::NodeNo;
use super::queue::{MILLIS, Time};
use super::world::World;

/// How long a node waits for an answer of the store.
const STORE_TIMEOUT: Time = 500 * MILLIS;

impl World {
    /// The thread that beats wakes up.
    pub(super) fn on_beat_due(&mut self, node: NodeNo) {
        let now = self.queue.now();
        let machine = &mut self.machines[node];
        let local = machine.clock.read(now);
        let Some(process) = &mut machine.process else { return };
        let beat = process.leases.beat(local);
        let next = machine.clock.reaches(process.leases.next_beat()).max(now + MILLIS);
        let next = next + machine.rng.below(MILLIS / 2);
        self.later(next, node, Local::Beat);
        let Some(beat) = beat else { return };
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            let life = self.machines[peer].life;
            self.send_beat(node, peer, life, BeatMessage::Beat(beat.clone()));
        }
        self.connect_soon(node);
    }

    fn send_beat(&mut self, from: NodeNo, to: NodeNo, life: u32, message: BeatMessage) {
        let now = self.queue.now();
        let is_cut = self.net.is_cut(from, to);
        let jitter = self.jitter();
        let way = &mut self.beats[from][to];
        let at = match *way {
            way if way.late > 0 => way.until.max(now),
            way if (is_cut && !(way.open.0..way.open.1).contains(&now)) || way.lost > 0 => {
                return self.coverage.count("beat lost");
            }
            _ => now,
        };
        if at > now {
            self.coverage.count("beat late");
        }
        let at = (at + 50_000 + jitter).max(way.last);
        way.last = at;
        let from_life = self.machines[from].life;
        let what = Local::Beats { from, life: from_life, message: Box::new(message) };
        self.queue.push(at, Happening::Node { node: to, life, what });
    }

    /// Something on a beat connection reaches a node.
    pub(super) fn on_beats(&mut self, node: NodeNo, from: NodeNo, life: u32, message: BeatMessage) {
        let machine = &mut self.machines[node];
        let now = machine.clock.read(self.queue.now());
        let Some(process) = &mut machine.process else { return };
        match message {
            BeatMessage::Beat(beat) => {
                let answer = process.leases.on_beat(now, node_id(from), &beat);
                if self.story.is_long {
                    self.tell(|| {
                        format!("node {node} <- {from}: beat {} {}", beat.number, super::story::leases(&beat, &answer))
                    });
                }
                self.coverage.count_by("lease granted", answer.granted.len() as u64);
                self.coverage.count_by("lease refused", (beat.owned.len() - answer.granted.len()) as u64);
                self.send_beat(node, from, life, BeatMessage::Answer(answer));
            }
            BeatMessage::Answer(answer) => process.leases.on_answer(now, node_id(from), &answer),
        }
    }

    /// A node asks the store; returns the question's number.
    pub(super) fn ask_store(&mut self, node: NodeNo, segment: usize, what: StoreQuestion) -> u64 {
        self.questions += 1;
        let (question, now) = (self.questions, self.queue.now());
        let life = self.machines[node].life;
        let is_flaky = self.reach.flaky > 0;
        self.later(now + STORE_TIMEOUT, node, Local::Store { segment, question, answer: StoreAnswer::Silence });
        if is_flaky && self.rng.chance(1, 4) {
            self.coverage.count("store lost a question");
            return question;
        }
        let is_late = is_flaky && self.rng.chance(1, 4);
        if is_late {
            self.coverage.count("store was asked late");
        }
        let delay = if is_late { self.rng.below(2000 * MILLIS) } else { 100_000 + self.rng.below(500_000) };
        let delay = delay + if matches!(what, StoreQuestion::Propose(..)) { self.amid_claim(node) } else { 0 };
        self.queue.push(now + delay, Happening::Asked { node, life, segment, question, what });
        question
    }

    /// A question reaches the store.
    pub(super) fn on_asked(&mut self, node: NodeNo, life: u32, segment: usize, question: u64, what: StoreQuestion) {
        if !self.reaches_store(node) {
            return self.coverage.count("store could not be asked");
        }
        let id = self.segments[segment].id;
        let answer = match what {
            StoreQuestion::Read => StoreAnswer::Record(self.store.segment(id).map(Box::new)),
            StoreQuestion::Propose(record, expected) => {
                let outcome = self.store.propose(&record, expected);
                self.coverage.count(match outcome {
                    Outcome::Accepted => "proposal accepted",
                    Outcome::Rejected { .. } => "proposal rejected",
                    Outcome::Unknown => "proposal unknown",
                });
                let before = self.segments[segment].stored.epoch;
                self.note_record(segment);
                if self.segments[segment].stored.epoch != before {
                    self.spread_record(segment);
                }
                StoreAnswer::Outcome(outcome)
            }
        };
        if self.reach.flaky > 0 && self.rng.chance(1, 4) {
            return self.coverage.count("store's answer lost");
        }
        let at = self.queue.now() + 100_000 + self.rng.below(500_000);
        let what = Local::Store { segment, question, answer };
        self.queue.push(at, Happening::Node { node, life, what });
    }

    /// Whether anything gets from one to the other: what is under way when the store is cut off does not arrive.
    pub(super) fn reaches_store(&self, node: NodeNo) -> bool {
        self.reach.away == 0 && self.reach.cut[node] == 0
    }

    /// The store's watch.
    fn spread_record(&mut self, segment: usize) {
        let record: SegmentRecord = self.segments[segment].stored.clone();
        for node in 0..self.plan.nodes {
            if self.reach.away > 0 || self.reach.cut[node] > 0 {
                self.reach.missed[node] = true;
                continue;
            }
            let slow = if self.reach.flaky > 0 { self.rng.below(1000 * MILLIS) } else { self.rng.below(20 * MILLIS) };
            self.watch_tells(node, segment, record.clone(), 200_000 + slow);
        }
    }

    fn watch_tells(&mut self, node: NodeNo, segment: usize, record: SegmentRecord, after: Time) {
        let at = (self.queue.now() + after).max(self.reach.watched[node]);
        self.reach.watched[node] = at;
        self.later(at, node, Local::Watched { segment, record: Box::new(record) });
    }

    /// Nodes that reach the store again see what they missed.
    pub(super) fn catch_up_watches(&mut self) {
        for node in 0..self.plan.nodes {
            if self.reach.missed[node] && self.reach.away == 0 && self.reach.cut[node] == 0 {
                self.reach.missed[node] = false;
                for segment in 0..self.segments.len() {
                    let record = self.segments[segment].stored.clone();
                    let after = 5 * MILLIS + self.rng.below(100 * MILLIS);
                    self.watch_tells(node, segment, record, after);
                }
            }
        }
    }

    /// The store answered, or was silent for too long.
    pub(super) fn on_store_answer(&mut self, node: NodeNo, segment: usize, question: u64, answer: StoreAnswer) {
        if !matches!(answer, StoreAnswer::Silence) && !self.reaches_store(node) {
            return self.coverage.count("store's answer lost");
        }
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(slot) = &mut process.parts[segment] else { return };
        let event = if slot.proposing == Some(question) {
            slot.proposing = None;
            match answer {
                StoreAnswer::Outcome(outcome) => PartEvent::Outcome(outcome),
                StoreAnswer::Silence | StoreAnswer::Record(_) => PartEvent::Outcome(Outcome::Unknown),
            }
        } else if slot.reading == Some(question) {
            slot.reading = None;
            match answer {
                StoreAnswer::Record(record) => PartEvent::Seen(record),
                StoreAnswer::Silence | StoreAnswer::Outcome(_) => PartEvent::Unseen,
            }
        } else {
            return; // Too late.
        };
        if matches!(event, PartEvent::Outcome(Outcome::Unknown)) {
            self.coverage.count("outcome unknown (M7)");
        }
        self.tell_part(node, segment, event);
    }
}
