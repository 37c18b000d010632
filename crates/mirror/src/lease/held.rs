//! Leases that this node holds.

use std::collections::{BTreeMap, VecDeque};

use dyad_cluster::IMAGES_MAX;
use dyad_units::{Epoch, Moment, NodeId, SegmentId};
use smallvec::SmallVec;

/// Beats whose moment of sending is kept: 6.4 s of them, longer than a lease and than T (M19).
const SENT_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Lease {
    from: NodeId,
    epoch: Epoch,
    until: Moment,
}

/// Leases that this node holds, and when it asked for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    sent: VecDeque<(u64, Moment)>,
    leases: BTreeMap<SegmentId, SmallVec<[Lease; IMAGES_MAX]>>,
}

impl Held {
    pub(crate) fn sent_now(&mut self, number: u64, now: Moment) {
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
    }

    pub(crate) fn sent(&self, number: u64) -> Option<Moment> {
        self.sent.iter().rev().find(|(known, _)| *known == number).map(|(_, sent)| *sent)
    }

    /// Answers come in any order: a later end is never shortened.
    pub(crate) fn hold(&mut self, segment: SegmentId, epoch: Epoch, from: NodeId, until: Moment) {
        let leases = self.leases.entry(segment).or_default();
        leases.retain(|lease| lease.epoch == epoch);
        if let Some(lease) = leases.iter_mut().find(|lease| lease.from == from) {
            lease.until = lease.until.max(until);
        } else if leases.len() < IMAGES_MAX * 2 {
            // Only nodes of images grant, and a segment has few; a stranger's grant is of no use.
            leases.push(Lease { from, epoch, until });
        }
    }

    pub(crate) fn until(&self, segment: SegmentId, epoch: Epoch, from: NodeId) -> Option<Moment> {
        let leases = self.leases.get(&segment)?;
        leases.iter().find(|lease| lease.from == from && lease.epoch == epoch).map(|lease| lease.until)
    }

    pub(crate) fn forget(&mut self, segment: SegmentId) {
        self.leases.remove(&segment);
    }
}
