//! One node: its clock, what its image keeps, and its present life.

use dyad_cluster::takeover::{Kept, OwnerSign, Shown, Verdict, View, Witness, decide};
use dyad_cluster::{Change, IMAGES_MAX, ImageState, Incarnation, Outcome};
use dyad_mirror::Leases;
use dyad_units::{BootId, Epoch, Moment, NodeId, SegmentId};

use crate::leases::store::{Known, STORE};
use crate::search::Violation;

/// The segment.
pub(crate) const SEGMENT: SegmentId = SegmentId::from_bytes([0x77; 16]);
/// Between the first start counters of two nodes: a life's counter names its node, and its beats.
pub(crate) const LIVES: u64 = 64;

/// The node at this place.
pub(crate) fn node_id(at: usize) -> NodeId {
    NodeId::from_bytes([at as u8 + 1; 16])
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) clock: Moment,
    /// Start counter of the present or last life.
    pub(crate) start: u64,
    /// The record that its image keeps durably, of the epoch that it adopted (M3).
    pub(crate) kept: Known,
    /// None while the process is down.
    pub(crate) life: Option<Life>,
}

/// What a process has in memory.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) leases: Leases,
    /// The newest record known.
    pub(crate) known: Known,
    pub(crate) role: Role,
    pub(crate) proposal: Option<Proposal>,
}

/// What the node is to the segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Follower,
    /// The record names it, by a claim of this life.
    Owner {
        /// Images that adopted the record's epoch, one bit each.
        fenced: u8,
        /// It has begun to answer.
        serves: bool,
    },
}

/// A compare-and-set whose outcome is not known (M7).
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) record: Known,
    pub(crate) expected: Epoch,
    pub(crate) purpose: Purpose,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Claim,
    Members,
    HandOver,
}

impl Node {
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation { boot: BootId::from_bytes([self.at as u8 + 1; 16]), start: self.start }
    }

    fn id(&self) -> NodeId {
        node_id(self.at)
    }

    /// What its image shows, with the record in question (M11).
    pub(crate) fn shown(&self, record: &Known) -> Shown {
        match &self.life {
            None => Shown::Unknown,
            Some(_) => Shown::Here(Witness {
                incarnation: self.incarnation(),
                has_everything: true,
                has_lost: false,
                epoch: self.kept.epoch(),
                kept: Kept::of(&self.kept.0.encode(), &record.0),
            }),
        }
    }

    /// Claims the segment if it is its turn (M6, M9).
    pub(crate) fn claim(&mut self, shown: [Shown; IMAGES_MAX]) -> Result<(), Violation> {
        let (me, now) = (self.id(), self.clock);
        let Some(life) = &mut self.life else { return Ok(()) };
        life.leases.look(now);
        let view = View {
            record: &life.known.0,
            store: STORE,
            me,
            now,
            promised_until: life.leases.promised_until(SEGMENT),
            owner: OwnerSign::Nothing,
            shown,
        };
        if let Verdict::Claim { changes } = decide(&view) {
            if life.leases.promised_until(SEGMENT) > now {
                return Err(Violation::new("M6", format!("node {} claims although it promised not to", self.at)));
            }
            life.leases.grant_for(SEGMENT, None); // M6: none until the first answer
            life.propose(&changes, Purpose::Claim);
        }
        Ok(())
    }

    /// What became of the proposal.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome) {
        let Some(life) = &mut self.life else { return };
        match outcome {
            Outcome::Unknown => {}
            Outcome::Accepted => self.on_accepted(),
            Outcome::Rejected { current } => {
                life.proposal = None;
                if let Some(current) = current {
                    self.see(&Known::new(*current));
                }
                self.grant_again();
            }
        }
    }

    fn on_accepted(&mut self) {
        let (me, now, own) = (self.id(), self.clock, 1 << self.at);
        let Some(life) = &mut self.life else { return };
        let Some(proposal) = life.proposal.take() else { return };
        life.known = proposal.record;
        match proposal.purpose {
            Purpose::Claim => life.role = Role::Owner { fenced: own, serves: false },
            Purpose::Members => {
                let serves = matches!(life.role, Role::Owner { serves: true, .. });
                life.role = Role::Owner { fenced: own, serves };
            }
            Purpose::HandOver => {
                let to = life.known.0.owner.filter(|to| *to != me).expect("to another one");
                life.role = Role::Follower;
                life.leases.disown(SEGMENT);
                life.leases.grace(SEGMENT, to, life.known.epoch(), now);
            }
        }
        self.kept = life.known.clone();
    }

    /// A record was seen, in the store or shown by an image.
    pub(crate) fn see(&mut self, record: &Known) {
        let (me, now) = (self.id(), self.clock);
        let Some(life) = &mut self.life else { return };
        if record.epoch() <= life.known.epoch() {
            return;
        }
        if life.proposal.as_ref().is_some_and(|proposal| proposal.record == *record) {
            return self.on_accepted();
        }
        // Whatever was proposed is for an epoch that is over.
        (life.proposal, life.role, life.known) = (None, Role::Follower, record.clone());
        life.leases.disown(SEGMENT);
        life.leases.grant_for(SEGMENT, None); // until our image adopted the epoch
        if let Some(owner) = record.0.owner.filter(|owner| *owner != me) {
            life.leases.grace(SEGMENT, owner, record.epoch(), now);
        }
    }

    /// A claim came to nothing: grants go on if the image still obeys the newest epoch.
    fn grant_again(&mut self) {
        let me = self.id();
        let Some(life) = &mut self.life else { return };
        let is_settled = life.proposal.is_none() && life.role == Role::Follower && life.known == self.kept;
        let owner = life.known.0.owner.filter(|owner| *owner != me);
        life.leases.grant_for(SEGMENT, owner.filter(|_| is_settled).map(|_| life.known.epoch()));
    }

    /// The owner opens a stream to this node's image at its record's epoch; the record that refuses it (M3).
    pub(crate) fn open(&mut self, record: &Known) -> Result<(), Known> {
        if self.kept.epoch() > record.epoch() {
            return Err(self.kept.clone());
        }
        self.see(record);
        self.kept = record.clone();
        self.grant_again();
        Ok(())
    }
}

impl Life {
    /// Proposes the known record with these changes.
    pub(crate) fn propose(&mut self, changes: &[Change], purpose: Purpose) {
        if let Ok(record) = self.known.0.changed(changes) {
            self.proposal = Some(Proposal { record: Known::new(record), expected: self.known.epoch(), purpose });
        }
    }

    /// The first answer as owner may be given (M3, M6).
    pub(crate) fn may_begin(&mut self, now: Moment) -> bool {
        self.leases.look(now);
        let in_sync = in_sync(&self.known);
        matches!(self.role, Role::Owner { fenced, serves: false } if fenced & in_sync == in_sync)
            && self.leases.promised_until(SEGMENT) <= now
    }

    /// Whether an answer that reveals state could go out now: it serves, has promised nobody to be silent, and holds the
    /// lease of every other image of the set, and of the proposed set while that is unknown (M5, M6, M7).
    pub(crate) fn may_answer(&self, me: usize, now: Moment) -> bool {
        let Role::Owner { serves: true, .. } = self.role else { return false };
        let handing = self.proposal.as_ref().is_some_and(|proposal| proposal.purpose == Purpose::HandOver);
        let mut leases = self.leases.clone();
        leases.look(now); // whoever is about to act looks there first
        let needed = in_sync(&self.known) | self.proposal.as_ref().map_or(0, |proposal| in_sync(&proposal.record));
        let held = |at: usize| {
            let until = leases.held_until(SEGMENT, self.known.epoch(), node_id(at));
            at == me || until.is_some_and(|until| until > now)
        };
        !handing && leases.promised_until(SEGMENT) <= now && bits(needed).all(held)
    }
}

/// The record's in-sync images, one bit each.
pub(crate) fn in_sync(record: &Known) -> u8 {
    let images = record.0.images.iter().enumerate();
    images.filter(|(_, image)| image.state == ImageState::InSync).fold(0, |set, (at, _)| set | 1 << at)
}

/// Places of the bits that are set.
pub(crate) fn bits(set: u8) -> impl Iterator<Item = usize> + Clone {
    (0..IMAGES_MAX).filter(move |at| set >> at & 1 == 1)
}
