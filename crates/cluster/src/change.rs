//! How a segment's record may change: a new record from an old one, or a refusal.

use dyad_units::{Epoch, ImageId, NodeId};

use crate::node::Incarnation;
use crate::segment::{ImageRecord, ImageState, OutReason, SegmentRecord};

/// One step of a change. Several together make one new record with one new epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// This node becomes owner, or stays it after a restart: a new epoch either way (M9, M11).
    Own {
        /// The owner to be; it must hold an in-sync image.
        node: NodeId,
    },
    /// This life of the image's node proved the image in sync (M11).
    Prove {
        /// Which image.
        image: ImageId,
        /// Which life.
        incarnation: Incarnation,
    },
    /// Take an image out of the in-sync set, or end its resync (M8).
    TakeOut {
        /// Which image.
        image: ImageId,
        /// Why.
        reason: OutReason,
    },
    /// A stale image begins to catch up (M13).
    Resync {
        /// Which image.
        image: ImageId,
    },
    /// A syncing image has everything and is in sync from now on (M16).
    Join {
        /// Which image.
        image: ImageId,
        /// The life of its node that has it all.
        incarnation: Incarnation,
    },
    /// An image that is not in sync leaves the volume and is kept as it is (M10).
    Detach {
        /// Which image.
        image: ImageId,
    },
    /// A detached image is forgotten.
    Drop {
        /// Which image.
        image: ImageId,
    },
    /// The only in-sync image was flushed since it is alone (M8).
    FlushedAlone,
}

/// The change is not legal for this record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// No such image.
    #[error("image {0} is not an image of the segment")]
    UnknownImage(ImageId),
    /// Not in the table of transitions.
    #[error("image {image} is {from:?} and cannot become {to:?}")]
    Transition {
        /// Which image.
        image: ImageId,
        /// Its state.
        from: ImageState,
        /// The state asked for.
        to: ImageState,
    },
    /// It would leave nothing that holds every acknowledged write (P15, M8).
    #[error("image {0} is the last one in sync and stays")]
    LastInSync(ImageId),
    /// Only in-sync images are promoted (M9).
    #[error("node {0} holds no in-sync image of the segment and cannot own it")]
    NotInSync(NodeId),
    /// The note is for a single in-sync image only.
    #[error("{0} images are in sync, not one alone")]
    NotAlone(usize),
    /// Only a detached image can be dropped.
    #[error("image {image} is {state:?}; detach it first")]
    NotDetached {
        /// Which image.
        image: ImageId,
        /// Its state.
        state: ImageState,
    },
    /// Four thousand million changes.
    #[error("epoch {0} is the last one")]
    EpochsUsedUp(Epoch),
}

impl SegmentRecord {
    /// The record after `changes`, in that order, with the next epoch.
    ///
    /// # Errors
    /// The first step that is not legal, or a result that is not.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        // Never NEWEST's epoch: it is above every real one (M1).
        let epoch = self.epoch.value().checked_add(1).filter(|&epoch| epoch < u32::MAX);
        next.epoch = Epoch::new(epoch.ok_or(ChangeError::EpochsUsedUp(self.epoch))?);
        let before = self.in_sync().count();
        for &change in changes {
            next.apply(change)?;
        }
        if next.in_sync().count() != before && !changes.contains(&Change::FlushedAlone) {
            next.flushed_alone = false; // what others held is not known durable here any more (M8)
        }
        match next.owner {
            Some(owner) if !next.in_sync().any(|image| image.node == owner) => Err(ChangeError::NotInSync(owner)),
            _ => Ok(next),
        }
    }

    fn apply(&mut self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::Own { node } => self.owner = Some(node),
            Change::Prove { image, incarnation } => self.image_mut(image)?.incarnation = Some(incarnation),
            Change::TakeOut { image, reason } => self.take_out(image, reason)?,
            Change::Resync { image } => self.image_mut(image)?.become_state(ImageState::Syncing)?,
            Change::Join { image, incarnation } => {
                let joined = self.image_mut(image)?;
                joined.become_state(ImageState::InSync)?;
                (joined.reason, joined.incarnation) = (None, Some(incarnation));
            }
            Change::Detach { image } => self.image_mut(image)?.become_state(ImageState::Detached)?,
            Change::Drop { image } => {
                let state = self.image_mut(image)?.state;
                if state != ImageState::Detached {
                    return Err(ChangeError::NotDetached { image, state });
                }
                self.images.retain(|other| other.id != image);
            }
            Change::FlushedAlone => {
                let count = self.in_sync().count();
                if count != 1 {
                    return Err(ChangeError::NotAlone(count));
                }
                self.flushed_alone = true;
            }
        }
        Ok(())
    }

    fn take_out(&mut self, image: ImageId, reason: OutReason) -> Result<(), ChangeError> {
        let others = self.in_sync().filter(|other| other.id != image).count();
        let out = self.image_mut(image)?;
        if out.state == ImageState::InSync && others == 0 {
            return Err(ChangeError::LastInSync(image));
        }
        out.become_state(ImageState::Stale)?;
        out.reason = Some(reason);
        Ok(())
    }

    fn image_mut(&mut self, id: ImageId) -> Result<&mut ImageRecord, ChangeError> {
        self.images.iter_mut().find(|image| image.id == id).ok_or(ChangeError::UnknownImage(id))
    }
}

impl ImageRecord {
    fn become_state(&mut self, to: ImageState) -> Result<(), ChangeError> {
        let (image, from) = (self.id, self.state);
        if !from.may_become(to) {
            return Err(ChangeError::Transition { image, from, to });
        }
        self.state = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{BootId, Epoch, ImageId, NodeId};

    use super::{Change, ChangeError};
    use crate::node::Incarnation;
    use crate::segment::ImageState::{Detached, InSync, Stale, Syncing};
    use crate::segment::{ImageState, OutReason};
    use crate::testing::{HERE, THERE, image, segment};

    const LIFE: Incarnation = Incarnation { boot: BootId::from_bytes([9; 16]), start: 4 };

    fn taken_out(image: ImageId) -> Change {
        Change::TakeOut { image, reason: OutReason::WriteFailed }
    }

    /// §8: equal epochs mean equal content.
    #[test]
    fn every_change_raises_the_epoch_by_one() {
        let record = segment(2);
        let claimed = record.changed(&[Change::Own { node: HERE }, taken_out(image(1))]).unwrap();
        assert_eq!(claimed.epoch, Epoch::new(2));
        assert_eq!(claimed.owner, Some(HERE));
        assert_eq!(claimed.changed(&[Change::Own { node: HERE }]).unwrap().epoch, Epoch::new(3));
    }

    #[test]
    fn the_last_image_in_sync_is_never_taken_out() {
        let record = segment(2).changed(&[taken_out(image(0))]).unwrap();
        assert_eq!(record.image(image(0)).unwrap().reason, Some(OutReason::WriteFailed));
        assert_eq!(record.changed(&[taken_out(image(1))]), Err(ChangeError::LastInSync(image(1))));
        let both = segment(2).changed(&[taken_out(image(0)), taken_out(image(1))]);
        assert_eq!(both, Err(ChangeError::LastInSync(image(1))));
    }

    /// M9: only in-sync images are promoted, and an owner whose image leaves is owner no longer.
    #[test]
    fn only_a_node_with_an_image_in_sync_owns() {
        let mut record = segment(2);
        record.images[1].node = THERE;
        let stale = record.changed(&[taken_out(image(1))]).unwrap();
        assert_eq!(stale.changed(&[Change::Own { node: THERE }]), Err(ChangeError::NotInSync(THERE)));
        let stranger = NodeId::from_bytes([66; 16]);
        assert_eq!(record.changed(&[Change::Own { node: stranger }]), Err(ChangeError::NotInSync(stranger)));
        let owned = record.changed(&[Change::Own { node: HERE }]).unwrap();
        assert_eq!(owned.changed(&[taken_out(image(0))]), Err(ChangeError::NotInSync(HERE)));
        let moved = owned.changed(&[taken_out(image(0)), Change::Own { node: THERE }]).unwrap();
        assert_eq!(moved.owner, Some(THERE), "M8: the same step makes another node owner");
    }

    /// What leaves in-sync comes back only through syncing (M16), with its node's life (M11).
    #[test]
    fn the_table_of_transitions() {
        let states = [InSync, Syncing, Stale, Detached];
        let legal: Vec<_> = states
            .iter()
            .flat_map(|from| states.iter().map(move |to| (*from, *to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        let table: [(ImageState, ImageState); 6] = [
            (InSync, Stale),
            (Syncing, InSync),
            (Syncing, Stale),
            (Syncing, Detached),
            (Stale, Syncing),
            (Stale, Detached),
        ];
        assert_eq!(legal, table);
    }

    #[test]
    fn an_image_goes_round_and_comes_back() {
        let out = segment(2).changed(&[taken_out(image(1))]).unwrap();
        let join = Change::Join { image: image(1), incarnation: LIFE };
        assert!(matches!(out.changed(&[join]), Err(ChangeError::Transition { .. })));
        let syncing = out.changed(&[Change::Resync { image: image(1) }]).unwrap();
        let back = syncing.changed(&[join]).unwrap();
        let image = back.image(image(1)).unwrap();
        assert_eq!((image.state, image.reason, image.incarnation), (InSync, None, Some(LIFE)));
    }

    #[test]
    fn only_what_was_detached_is_dropped() {
        let drop = Change::Drop { image: image(1) };
        let out = segment(2).changed(&[taken_out(image(1))]).unwrap();
        assert!(matches!(out.changed(&[drop]), Err(ChangeError::NotDetached { .. })));
        let gone = out.changed(&[Change::Detach { image: image(1) }, drop]).unwrap();
        assert_eq!(gone.images.len(), 1);
        assert_eq!(gone.changed(&[drop]), Err(ChangeError::UnknownImage(image(1))));
    }

    /// M8: the note belongs to one image alone, and is void when the set changes.
    #[test]
    fn flushed_alone_is_noted_for_one_image_and_void_when_the_set_changes() {
        assert!(segment(1).flushed_alone, "nobody ever had more");
        let pair = segment(2);
        assert_eq!(pair.changed(&[Change::FlushedAlone]), Err(ChangeError::NotAlone(2)));
        let alone = pair.changed(&[taken_out(image(1))]).unwrap();
        assert!(!alone.flushed_alone);
        let noted = alone.changed(&[Change::FlushedAlone]).unwrap();
        assert!(noted.flushed_alone);
        let claimed = noted.changed(&[Change::Own { node: HERE }]).unwrap();
        assert!(claimed.flushed_alone, "a restart changes nothing about it");
        let syncing = claimed.changed(&[Change::Resync { image: image(1) }]).unwrap();
        let joined = syncing.changed(&[Change::Join { image: image(1), incarnation: LIFE }]).unwrap();
        assert!(!joined.flushed_alone);
    }

    #[test]
    fn epochs_stop_before_the_one_that_means_newest() {
        let mut record = segment(1);
        record.epoch = Epoch::new(u32::MAX - 1);
        assert_eq!(record.changed(&[]), Err(ChangeError::EpochsUsedUp(record.epoch)));
    }
}
