//! The part and the config store: what is proposed, what is read, and what new records mean.

use dyad_cluster::{Outcome, SegmentRecord};
use dyad_units::{Epoch, Moment, NodeId, Period};

use crate::lease::Leases;
use crate::owner::Event;
use crate::part::event::PartAction;
use crate::part::part::{Life, Part};

/// Pause before a read that found nothing out is repeated: the store is away, and nothing is gained by hurry.
const READ_AGAIN: Period = Period::from_millis(300);

/// A read that is not answered for so long is asked again: whoever carried it forgot it.
const READ_MAX: Period = Period::from_secs(5);

/// Whose proposal is under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Proposer {
    #[default]
    Nobody,
    Mirror,
    /// A forced promotion (M10).
    Command,
    /// Somebody who gave up meanwhile; the outcome has to come first.
    Stray,
}

/// What is under way with the store.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreWork {
    pub(super) proposer: Proposer,
    /// What the mirror proposes next: the answer to an earlier proposal, whose outcome it learned otherwise, comes first.
    next: Option<(Box<SegmentRecord>, Epoch)>,
    /// A read is under way, since then.
    reading: Option<Moment>,
    /// A read is wanted.
    wanted: bool,
    pub(super) retry_at: Option<Moment>,
    /// When the store's record was last seen.
    pub(super) seen_at: Option<Moment>,
    /// The store showed an older record than is known, or another one of the same epoch (§8).
    pub(super) is_behind: bool,
}

impl Part {
    /// Asks the store for the record, unless that is under way.
    pub(super) fn read(&mut self, out: &mut Vec<PartAction>) {
        self.store.wanted = true;
        let is_early = self.store.retry_at.is_some_and(|at| at > self.now);
        let is_reading = self.store.reading.is_some_and(|since| self.now.since(since) < READ_MAX);
        if !is_reading && !is_early {
            (self.store.reading, self.store.wanted, self.store.retry_at) = (Some(self.now), false, None);
            out.push(PartAction::Read);
        }
    }

    /// Time has passed.
    pub(super) fn read_again(&mut self, out: &mut Vec<PartAction>) {
        if self.store.retry_at.take_if(|at| *at <= self.now).is_some() && self.store.wanted {
            self.read(out);
        }
    }

    pub(super) fn on_unseen(&mut self) {
        self.store.reading = None;
        self.store.wanted = true;
        self.store.retry_at = Some(self.now + READ_AGAIN);
    }

    pub(super) fn on_seen(
        &mut self,
        record: Option<Box<SegmentRecord>>,
        leases: &mut Leases,
        out: &mut Vec<PartAction>,
    ) {
        self.store.reading = None;
        match record {
            Some(record) if record.id == self.record.id => {
                self.store.seen_at = Some(self.now);
                self.store.is_behind =
                    record.epoch < self.record.epoch || (record.epoch == self.record.epoch && *record != self.record);
                self.learn(record, leases, out);
                self.go_on_claiming();
            }
            Some(_) => {}
            None => self.on_deleted(leases, out),
        }
    }

    fn on_deleted(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.drop_reign(leases, out);
        self.claim = None;
        self.answer_all_busy(out);
        self.commands.fail_all(&crate::part::event::CommandError::Deleted, out);
        self.losses.fail(&crate::part::event::CommandError::Deleted, out);
        leases.grant_for(self.record.id, None);
        self.life = Life::Deleted;
    }

    /// A record that is known to be stored. A newer one than the mirror's own means that it is owner no longer (M7).
    pub(super) fn learn(&mut self, record: Box<SegmentRecord>, leases: &mut Leases, out: &mut Vec<PartAction>) {
        if record.id != self.record.id || record.epoch <= self.record.epoch {
            return;
        }
        if record.owner == Some(self.me()) && record.forks != self.record.forks {
            // Promoted, whoever tells of it first. The word that the old owner is off may be wrong (M10): it hears of the record
            // now, and answers nothing more when its leases have run out.
            self.commands.overruled_until = self.now + leases.tuning().promise();
        }
        self.tell_mirror(Event::Seen(record.clone()));
        self.take_record(*record, leases, out);
    }

    /// The newest record.
    pub(super) fn take_record(&mut self, record: SegmentRecord, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let before = std::mem::replace(&mut self.record, record);
        let (id, epoch, owner) = (self.record.id, self.record.epoch, self.record.owner);
        self.store.is_behind = false;
        leases.know(id, epoch);
        if let Some(owner) = owner.filter(|&owner| owner != self.me()) {
            leases.grace(id, owner, epoch, self.now);
        }
        self.know_images();
        self.release_those_that_left(None);
        if self.reign.is_none() {
            self.claim = None; // whoever thought of taking over thinks again
        }
        if before.owner != owner {
            self.owner_changed(owner, out);
        }
        self.again = true;
    }

    /// A command that went to another owner takes no effect any more once this one serves: it fences first (M3, M9, M18). One
    /// that another node sent here, and that waits, was sent to an owner that this node is not: were it kept, and this node
    /// owner again within T, it would overtake what the host was answered elsewhere since.
    fn owner_changed(&mut self, owner: Option<NodeId>, out: &mut Vec<PartAction>) {
        self.busy_forwarded(|to| Some(to) != owner, out);
        if owner != Some(self.me()) {
            self.busy_for_others(out);
        }
    }

    /// The mirror proposes. An answer that is still out belongs to an earlier proposal, of which a watch or an image told
    /// before: it must not be taken for the outcome of this one (M7).
    pub(super) fn propose_for_mirror(
        &mut self,
        record: Box<SegmentRecord>,
        expected: Epoch,
        out: &mut Vec<PartAction>,
    ) {
        match self.store.proposer {
            Proposer::Nobody => {
                self.store.proposer = Proposer::Mirror;
                out.push(PartAction::Propose { record, expected });
            }
            Proposer::Mirror | Proposer::Stray => {
                self.store.proposer = Proposer::Stray;
                self.store.next = Some((record, expected));
            }
            Proposer::Command => self.store.next = Some((record, expected)),
        }
    }

    /// The reign is over, and with it its proposals: what becomes of the one under way is read from the record.
    pub(super) fn forget_proposals(&mut self) {
        self.store.next = None;
        if self.store.proposer == Proposer::Mirror {
            self.store.proposer = Proposer::Stray;
        }
    }

    pub(super) fn on_outcome(&mut self, outcome: Outcome, out: &mut Vec<PartAction>) {
        match std::mem::take(&mut self.store.proposer) {
            Proposer::Mirror => self.tell_mirror(Event::Outcome(outcome)),
            Proposer::Command => self.on_promoted(outcome),
            // What became of it is read from the record.
            Proposer::Stray => self.store.wanted = true,
            Proposer::Nobody => {}
        }
        if let Some((record, expected)) = self.store.next.take() {
            self.store.proposer = Proposer::Mirror;
            out.push(PartAction::Propose { record, expected });
        }
        self.go_on_claiming();
        self.again = true;
    }
}
