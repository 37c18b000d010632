use dyad_units::{BootId, Epoch, ImageId, Interval, NodeId, PoolId, Stamp, StoreId};

use super::{Change, ChangeError};
use crate::forks::Fork;
use crate::node::Incarnation;
use crate::segment::IMAGES_MAX;
use crate::state::ImageState::{Detached, InSync, Stale};
use crate::state::OutReason;
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

/// M10: the promoted image is the only one in sync, the others are kept as they are, and the fork is in the record.
#[test]
fn a_forced_promotion_forks_and_detaches_all_others() {
    let mut record = segment(4);
    record.images[1].node = THERE;
    let owned = record.changed(&[Change::Own { node: HERE }, taken_out(image(1)), taken_out(image(2))]).unwrap();
    let owned = owned.changed(&[Change::Resync { image: image(2) }, Change::FlushedAlone]);
    assert_eq!(owned, Err(ChangeError::NotAlone(2)));
    let owned = record.changed(&[Change::Own { node: HERE }, taken_out(image(1)), taken_out(image(2))]).unwrap();
    let owned = owned.changed(&[Change::Resync { image: image(2) }]).unwrap();
    let closed = Stamp::new(Epoch::new(1), Interval::new(7));
    let forked = owned.changed(&[Change::Promote { image: image(1), closed }]).unwrap();
    assert_eq!((forked.owner, forked.epoch, forked.flushed_alone), (Some(THERE), Epoch::new(4), false));
    assert_eq!(forked.forks, [Fork { epoch: Epoch::new(4), closed }]);
    let states: Vec<_> = forked.images.iter().map(|image| (image.state, image.reason)).collect();
    let lost = (Detached, Some(OutReason::Lost));
    assert_eq!(states, [lost, (InSync, None), lost, lost]);
    let alone = segment(2).changed(&[taken_out(image(1))]).unwrap().changed(&[Change::FlushedAlone]).unwrap();
    let other = alone.changed(&[Change::Promote { image: image(1), closed }]).unwrap();
    assert!(!other.flushed_alone, "that was said of the image before");
    let back = forked.changed(&[Change::Reattach { image: image(0) }]).unwrap();
    let returned = back.image(image(0)).unwrap();
    assert_eq!((returned.state, returned.reason), (Stale, Some(OutReason::Returned)));
    let again = back.changed(&[Change::Promote { image: image(3), closed }]);
    assert!(matches!(again, Err(ChangeError::Transition { from: Detached, .. })), "reattach it first: {again:?}");
}

/// M11: an image in sync that may not serve by itself can be promoted too.
#[test]
fn an_image_in_sync_can_be_promoted() {
    let mut record = segment(2);
    record.images[1].node = THERE;
    let forked = record.changed(&[Change::Promote { image: image(1), closed: Stamp::NEVER }]).unwrap();
    assert_eq!(forked.in_sync().map(|image| image.id).collect::<Vec<_>>(), [image(1)]);
}

#[test]
fn a_new_image_is_stale_and_lies_where_none_is_yet() {
    let place = |at: u8, pool: u8, replaces| {
        let pool = PoolId::from_bytes([pool; 16]);
        Change::Add { image: image(at), node: THERE, pool, replaces }
    };
    let add = |at: u8, pool: u8| place(at, pool, None);
    let record = segment(1);
    let added = record.changed(&[add(1, 77)]).unwrap();
    let new = added.image(image(1)).unwrap();
    assert_eq!((new.state, new.reason, new.node, new.incarnation), (Stale, Some(OutReason::New), THERE, None));
    assert!(added.flushed_alone, "the set is the same");
    assert_eq!(record.changed(&[add(0, 77)]), Err(ChangeError::AlreadyThere(image(0))));
    assert_eq!(record.changed(&[add(1, 20)]), Err(ChangeError::AlreadyThere(image(0))), "the pool has one");
    assert_eq!(segment(IMAGES_MAX as u8).changed(&[add(9, 77)]), Err(ChangeError::TooManyImages));
    let moving = record.changed(&[place(1, 77, Some(image(0)))]).unwrap();
    assert_eq!(moving.image(image(1)).unwrap().replaces, Some(image(0)));
    assert_eq!(record.changed(&[place(1, 77, Some(image(5)))]), Err(ChangeError::UnknownImage(image(5))));
}

/// P15: what is in sync is never deleted; what is being deleted never comes back, for it may be half gone.
#[test]
fn what_is_removed_was_out_of_sync_and_stays_out() {
    let remove = Change::Remove { image: image(1) };
    assert!(matches!(segment(2).changed(&[remove]), Err(ChangeError::Transition { from: InSync, .. })));
    let gone = segment(2).changed(&[taken_out(image(1)), remove]).unwrap();
    let removed = gone.image(image(1)).unwrap();
    assert_eq!((removed.state, removed.reason), (Detached, Some(OutReason::Removed)));
    let back = Change::Reattach { image: image(1) };
    assert_eq!(gone.changed(&[back]), Err(ChangeError::BeingRemoved(image(1))));
    assert_eq!(gone.changed(&[Change::Drop { image: image(1) }]).unwrap().images.len(), 1);
}

#[test]
fn a_claim_notes_its_store() {
    let store = StoreId::from_bytes([7; 16]);
    assert_eq!(segment(1).changed(&[Change::Confirm { store }]).unwrap().store, Some(store));
}
