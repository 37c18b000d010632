//! How a segment's record may change: a new record from an old one, or a refusal.

use dyad_units::{Epoch, ImageId, NodeId, PoolId, Stamp, StoreId};

use crate::node::Incarnation;
use crate::segment::{IMAGES_MAX, ImageRecord, SegmentRecord};
use crate::state::{ImageAct, ImageState, OutReason};

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
    /// An image that is not in sync is given up: its node deletes it, after which it is dropped.
    Remove {
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
    /// An administrator's forced promotion: the image becomes the only one in sync and its node the owner; a fork is
    /// noted. All others are detached, because they may have what this one lacks, until somebody drops or reattaches
    /// them (M10).
    Promote {
        /// Which image; not a detached one.
        image: ImageId,
        /// Its closed, as it shows it.
        closed: Stamp,
    },
    /// A detached image, or one that an administrator took out, may catch up; what it alone had is given up then (M10).
    Reattach {
        /// Which image.
        image: ImageId,
    },
    /// A new image, empty and so stale.
    Add {
        /// Which image.
        image: ImageId,
        /// Where it is.
        node: NodeId,
        /// In which pool there.
        pool: PoolId,
        /// The image of the segment that it takes the place of, if it does.
        replaces: Option<ImageId>,
    },
    /// The claim is made in this config store; what it says was held against what the images show (§8).
    Confirm {
        /// Which store.
        store: StoreId,
    },
}

/// The change is not legal for this record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// No such image.
    #[error("image {0} is not an image of the segment")]
    UnknownImage(ImageId),
    /// Not in the table of transitions.
    #[error("image {image} is {from:?}: {act:?} is not possible")]
    Transition {
        /// Which image.
        image: ImageId,
        /// Its state.
        from: ImageState,
        /// What was asked for.
        act: ImageAct,
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
    /// What is on it may be deleted at any moment.
    #[error("image {0} is being removed; add a new one instead")]
    BeingRemoved(ImageId),
    /// The segment has such an image, or one in that pool: a second copy there would be no second copy.
    #[error("image {0} of the segment lies there already")]
    AlreadyThere(ImageId),
    /// The segment has as many images as it can have.
    #[error("a segment has at most {IMAGES_MAX} images; drop one first")]
    TooManyImages,
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
        for &change in changes {
            next.apply(change)?;
        }
        let is_same_set = next.in_sync().map(|image| image.id).eq(self.in_sync().map(|image| image.id));
        if !is_same_set && !changes.contains(&Change::FlushedAlone) {
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
            Change::Resync { image } => self.image_mut(image)?.act(ImageAct::Resync)?,
            Change::Join { image, incarnation } => {
                let joined = self.image_mut(image)?;
                joined.act(ImageAct::Join)?;
                (joined.reason, joined.incarnation) = (None, Some(incarnation));
            }
            Change::Detach { image } => self.image_mut(image)?.act(ImageAct::Detach)?,
            Change::Promote { image, closed } => self.promote(image, closed)?,
            Change::Reattach { image } => {
                let back = self.image_mut(image)?;
                if back.reason == Some(OutReason::Removed) {
                    return Err(ChangeError::BeingRemoved(image));
                }
                let pool = back.pool;
                if let Some(other) = self.in_pool(pool).find(|other| other.id != image) {
                    return Err(ChangeError::AlreadyThere(other.id));
                }
                let back = self.image_mut(image)?;
                back.act(ImageAct::Reattach)?;
                back.reason = Some(OutReason::Returned);
            }
            Change::Remove { image } => {
                let gone = self.image_mut(image)?;
                gone.act(ImageAct::Remove)?;
                (gone.reason, gone.replaces) = (Some(OutReason::Removed), None);
            }
            Change::Add { image, node, pool, replaces } => self.add(image, node, pool, replaces)?,
            Change::Confirm { store } => self.store = Some(store),
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
        out.act(ImageAct::TakeOut)?;
        out.reason = Some(reason);
        Ok(())
    }

    fn promote(&mut self, image: ImageId, closed: Stamp) -> Result<(), ChangeError> {
        let promoted = self.image_mut(image)?;
        promoted.act(ImageAct::Promote)?;
        promoted.reason = None;
        let node = promoted.node;
        for other in self.images.iter_mut().filter(|other| other.id != image && other.state != ImageState::Detached) {
            other.act(ImageAct::Lose)?;
            (other.reason, other.incarnation) = (Some(OutReason::Lost), None);
        }
        self.owner = Some(node);
        self.fork(closed);
        Ok(())
    }

    fn add(&mut self, id: ImageId, node: NodeId, pool: PoolId, replaces: Option<ImageId>) -> Result<(), ChangeError> {
        if let Some(unknown) = replaces.filter(|old| self.image(*old).is_none()) {
            return Err(ChangeError::UnknownImage(unknown));
        }
        if let Some(other) = self.image(id).or_else(|| self.in_pool(pool).next()) {
            return Err(ChangeError::AlreadyThere(other.id));
        }
        if self.images.len() >= IMAGES_MAX {
            return Err(ChangeError::TooManyImages);
        }
        let (state, reason) = (ImageState::Stale, Some(OutReason::New));
        self.images.push(ImageRecord { id, node, pool, state, reason, incarnation: None, replaces });
        Ok(())
    }

    /// Images in a pool, which fail together. Detached ones are none of the live volume's.
    fn in_pool(&self, pool: PoolId) -> impl Iterator<Item = &ImageRecord> {
        self.images.iter().filter(move |other| other.pool == pool && other.state != ImageState::Detached)
    }

    fn image_mut(&mut self, id: ImageId) -> Result<&mut ImageRecord, ChangeError> {
        self.images.iter_mut().find(|image| image.id == id).ok_or(ChangeError::UnknownImage(id))
    }
}

impl ImageRecord {
    fn act(&mut self, act: ImageAct) -> Result<(), ChangeError> {
        let (image, from) = (self.id, self.state);
        self.state = from.after(act).ok_or(ChangeError::Transition { image, from, act })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
