//! Moves of images: one that came in the place of another one, which is given up step by step.

use dyad_cluster::{AckPolicy, ImageState, OutReason, SegmentRecord};
use dyad_units::{ImageId, NodeId};

use crate::talk::Order;

const KEPT: &str = "it is detached, and stays until somebody removes it";
const OTHERS_OUT: &str = "it stays until all other images are in sync";
const TOO_FEW: &str = "it stays, because without it writes would have fewer images than they want";

/// What comes next of a move whose image has come.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The owner has this to do.
    Do(Order),
    /// The old image stays for now.
    Wait {
        /// The old image.
        old: ImageId,
        /// Why: half a sentence.
        why: &'static str,
    },
}

/// What the owner has to do next for an image that another one, in sync by now, was added to replace.
///
/// A move never costs redundancy: as long as another image is out, or the volume would have fewer than it wants to take writes
/// (A4), the old one stays. One that is detached is let alone: somebody keeps it, as a copy or for what a forced promotion left
/// on it (M10); only what was given up here is removed.
pub(crate) fn step_of_move(segment: &SegmentRecord, policy: AckPolicy, here: NodeId) -> Option<Step> {
    let moves = || segment.in_sync().filter_map(|next| Some((next, segment.image(next.replaces?)?)));
    let Some((next, old)) = moves().find(|(_, old)| old.state != ImageState::Detached) else {
        let (_, kept) = moves().find(|(_, old)| old.reason != Some(OutReason::Removed))?;
        return Some(Step::Wait { old: kept.id, why: KEPT });
    };
    let others = || segment.images.iter().filter(|image| image.id != old.id && image.state != ImageState::Detached);
    let stays = |why| Some(Step::Wait { old: old.id, why });
    if others().any(|image| image.state != ImageState::InSync) {
        return stays(OTHERS_OUT);
    }
    if others().count() < usize::from(policy.min_in_sync) {
        return stays(TOO_FEW);
    }
    Some(Step::Do(match old.state {
        ImageState::InSync if old.node == here && others().all(|image| image.node != here) => {
            Order::HandOver { to: next.node }
        }
        ImageState::InSync | ImageState::Syncing => Order::TakeOut { image: old.id },
        ImageState::Stale | ImageState::Detached => Order::Remove { image: old.id },
    }))
}

#[cfg(test)]
mod tests {
    use dyad_cluster::NewSegment;
    use dyad_units::{Bytes, LayerId, PoolId, SegmentId, VolumeId};

    use super::*;

    const HERE: NodeId = NodeId::from_bytes([0; 16]);

    fn image(no: u8) -> ImageId {
        ImageId::from_bytes([no; 16])
    }

    fn node(no: u8) -> NodeId {
        NodeId::from_bytes([no; 16])
    }

    /// Images 0 (here, of the owner), 1 and 2, each on the node of its number; 2 was added to replace 1.
    fn moving() -> SegmentRecord {
        let place = |no: u8| (image(no), node(no), PoolId::from_bytes([no; 16]));
        let mut segment = SegmentRecord::new(NewSegment {
            id: SegmentId::from_bytes([9; 16]),
            volume: VolumeId::from_bytes([9; 16]),
            layer: LayerId::from_bytes([9; 16]),
            size: Bytes::new(1 << 30),
            images: vec![place(0), place(1), place(2)],
        });
        segment.owner = Some(HERE);
        segment.images[2].replaces = Some(image(1));
        segment
    }

    fn put(segment: &mut SegmentRecord, no: usize, state: ImageState, reason: OutReason) {
        (segment.images[no].state, segment.images[no].reason) = (state, Some(reason));
    }

    fn next(segment: &SegmentRecord, min_in_sync: u8) -> Option<String> {
        let policy = AckPolicy { min_in_sync, ..AckPolicy::default() };
        step_of_move(segment, policy, HERE).map(|step| match step {
            Step::Do(order) => format!("{order:?}"),
            Step::Wait { why, .. } => why.to_owned(),
        })
    }

    #[test]
    fn a_move_takes_the_old_image_out_and_then_removes_it() {
        let mut segment = moving();
        assert_eq!(next(&segment, 2), Some(format!("{:?}", Order::TakeOut { image: image(1) })));
        put(&mut segment, 1, ImageState::Stale, OutReason::Asked);
        assert_eq!(next(&segment, 2), Some(format!("{:?}", Order::Remove { image: image(1) })));
        put(&mut segment, 1, ImageState::Detached, OutReason::Removed);
        assert_eq!(next(&segment, 2), None, "its node deletes it");
        put(&mut segment, 2, ImageState::Syncing, OutReason::New);
        put(&mut segment, 1, ImageState::Stale, OutReason::Silent);
        assert_eq!(next(&segment, 2), None, "it has not come yet");
    }

    #[test]
    fn the_only_image_of_a_volume_moves_with_its_owner() {
        let mut segment = moving();
        segment.images.remove(0);
        segment.images[0].node = HERE;
        assert_eq!(next(&segment, 1), Some(format!("{:?}", Order::HandOver { to: node(2) })));
    }

    /// An administrator detached the image that was being moved, to keep it as a copy; or a forced promotion left writes on it
    /// that nothing else has (M10). When the new one had come, the node deleted it.
    #[test]
    fn an_image_that_somebody_detached_is_never_deleted_by_a_move() {
        for reason in [OutReason::Asked, OutReason::Lost] {
            let mut segment = moving();
            put(&mut segment, 1, ImageState::Detached, reason);
            assert_eq!(next(&segment, 1).as_deref(), Some(KEPT));
        }
    }

    /// The owner's node died during a move; the image that came and the one that it replaced had everything, and the latter
    /// was taken out and deleted: one copy left.
    #[test]
    fn a_move_waits_until_the_other_images_are_in_sync() {
        let mut segment = moving();
        for (state, reason) in [(ImageState::Stale, OutReason::Absent), (ImageState::Syncing, OutReason::Absent)] {
            put(&mut segment, 0, state, reason);
            assert_eq!(next(&segment, 1).as_deref(), Some(OTHERS_OUT));
        }
        put(&mut segment, 0, ImageState::Detached, OutReason::Asked);
        assert_eq!(next(&segment, 2).as_deref(), Some(TOO_FEW), "two are wanted for writes, and one would be left");
        assert_eq!(next(&segment, 1), Some(format!("{:?}", Order::TakeOut { image: image(1) })));
    }
}
