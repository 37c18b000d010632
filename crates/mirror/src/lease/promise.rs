//! Promises that this node gave.

use std::collections::BTreeMap;

use dyad_units::{Epoch, Moment, NodeId, SegmentId};
use smallvec::SmallVec;

/// A promise to one owner.
#[derive(Clone, Copy, Debug)]
struct Promise {
    to: NodeId,
    /// Start counter of the owner's life; none: not known.
    life: Option<u64>,
    /// Highest epoch for which it was given.
    epoch: Epoch,
    until: Moment,
}

/// What was promised for one segment. Owners change seldom: more than two promises that run at once are rare.
#[derive(Clone, Debug, Default)]
struct Given {
    promises: SmallVec<[Promise; 2]>,
    /// The promise to everyone of this number and those before are void for this segment (M12), for as long as no record is
    /// known that is newer than the owner's that said so: whoever owned it since may have a lease of our life before.
    void: (u64, Epoch),
    /// The newest record known, and when somebody said that it owns the segment at this or a later epoch.
    known: Epoch,
    listed: Option<(NodeId, Moment)>,
}

/// Promises that this node gave.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    /// To everyone, for every segment: of the start or the last pause (M6), and which one it is.
    everyone: (u64, Moment),
    given: BTreeMap<SegmentId, Given>,
}

impl Given {
    /// Whether this promise to everyone, and those before, are void here.
    fn is_void(&self, everyone: u64) -> bool {
        self.void.0 >= everyone && self.known <= self.void.1
    }
}

impl Promises {
    pub(crate) fn starting(until: Moment) -> Self {
        Self { everyone: (1, until), given: BTreeMap::new() }
    }

    pub(crate) fn promise_everyone(&mut self, until: Moment) {
        self.everyone = (self.everyone.0 + 1, self.everyone.1.max(until));
    }

    pub(crate) fn give(&mut self, segment: SegmentId, to: NodeId, life: Option<u64>, epoch: Epoch, until: Moment) {
        let promises = &mut self.given.entry(segment).or_default().promises;
        match promises.iter_mut().find(|promise| promise.to == to) {
            Some(promise) => {
                promise.life = life.max(promise.life);
                promise.epoch = promise.epoch.max(epoch);
                promise.until = promise.until.max(until);
            }
            None => promises.push(Promise { to, life, epoch, until }),
        }
    }

    /// A new record is known, with this epoch.
    pub(crate) fn know(&mut self, segment: SegmentId, epoch: Epoch) {
        let given = self.given.entry(segment).or_default();
        if epoch > given.known {
            (given.known, given.listed) = (epoch, None);
        }
    }

    /// A new record is known, with this epoch, which this node itself put in the place of the one before: nobody owned the
    /// segment in between, so what was void stays so (M12).
    pub(crate) fn know_own(&mut self, segment: SegmentId, epoch: Epoch) {
        let given = self.given.entry(segment).or_default();
        if given.is_void(self.everyone.0) {
            given.void.1 = given.void.1.max(epoch);
        }
        self.know(segment, epoch);
    }

    /// Somebody said that it owns the segment at this epoch. Of segments that nothing is known of here, nothing is kept.
    pub(crate) fn list(&mut self, segment: SegmentId, by: NodeId, epoch: Epoch, now: Moment) {
        if let Some(given) = self.given.get_mut(&segment).filter(|given| epoch >= given.known) {
            given.listed = Some((by, now));
        }
    }

    pub(crate) fn listed(&self, segment: SegmentId) -> Option<Moment> {
        self.given.get(&segment).and_then(|given| given.listed).map(|(_, at)| at)
    }

    /// The end of the last promise that is not void; the start of the clock if none was given.
    pub(crate) fn until(&self, segment: SegmentId) -> Moment {
        let given = self.given.get(&segment);
        let everyone = self.everyone.1;
        let everyone = if given.is_some_and(|given| given.is_void(self.everyone.0)) { Moment::START } else { everyone };
        let promises = given.into_iter().flat_map(|given| &given.promises);
        promises.map(|promise| promise.until).fold(everyone, Moment::max)
    }

    pub(crate) fn release(&mut self, segment: SegmentId, by: NodeId, epoch: Epoch) {
        let given = self.given.entry(segment).or_default();
        given.promises.retain(|promise| promise.to != by || promise.epoch > epoch);
        let before = given.void;
        given.void = (self.everyone.0, if before.0 == self.everyone.0 { before.1.max(epoch) } else { epoch });
        given.listed.take_if(|(owner, _)| *owner == by);
    }

    pub(crate) fn void_lives_before(&mut self, node: NodeId, life: u64) {
        for given in self.given.values_mut() {
            given.promises.retain(|promise| promise.to != node || promise.life.is_none_or(|known| known >= life));
            given.listed.take_if(|(by, _)| *by == node);
        }
    }
}
