//! Damaged blocks: right data from the other image, healed, or a medium error; never wrong data (P7, P14).

mod cast;

use cast::{BLOCK, EXTENT, Stage, span};
use dyad_cluster::ImageState;
use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_mirror::{ImageIndex, Note};
use dyad_units::Period;

const B: u64 = BLOCK as u64;

#[test]
fn a_damaged_block_is_read_from_the_other_image_and_healed() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 7);
    pair.images[0].rot(3);
    assert_eq!(pair.bytes(0, EXTENT), vec![7; EXTENT as usize]);
    pair.drive();
    assert_eq!(pair.mirror.status().counters.healed, 1);
    assert!(pair.notes.contains(&Note::Healed { image: ImageIndex(0), blocks: 1 }));
    pair.assert_equal_images();
    let reads = pair.images[1].count("read");
    assert_eq!(pair.bytes(0, EXTENT), vec![7; EXTENT as usize]);
    assert_eq!(pair.images[1].count("read"), reads, "the first image serves again");
}

/// One bad block at each image costs nothing as long as they are different blocks.
#[test]
fn different_blocks_damaged_on_both_images_are_both_read_and_healed() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 7);
    pair.images[0].rot(3);
    pair.images[1].rot(60);
    assert_eq!(pair.bytes(0, EXTENT), vec![7; EXTENT as usize]);
    pair.drive();
    assert_eq!(pair.mirror.status().counters.healed, 2);
    pair.assert_equal_images();
}

#[test]
fn a_block_damaged_on_every_image_is_a_medium_error_at_its_place_and_its_neighbours_are_read() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 7);
    pair.images[0].rot(3);
    pair.images[1].rot(3);
    let read = pair.read(0, EXTENT);
    let within = pair.read(3 * B + 1024, 512);
    pair.drive();
    assert_eq!(pair.error(read), Some(VolumeError::Medium { offset: 3 * B }));
    assert_eq!(pair.error(within), Some(VolumeError::Medium { offset: 3 * B + 1024 }));
    assert_eq!(pair.bytes(0, 3 * B), vec![7; 3 * BLOCK]);
    assert_eq!(pair.mirror.status().counters.healed, 0);
    let partial = pair.write(3 * B, 512, 1);
    pair.drive();
    assert_eq!(pair.error(partial), Some(VolumeError::Medium { offset: 3 * B }), "P7: nothing to merge with");
    pair.put(3 * B, B, 9);
    assert_eq!(pair.bytes(3 * B, B), [9; BLOCK], "a whole write makes it good");
}

#[test]
fn unreadable_sectors_are_rewritten_from_the_other_image() {
    let mut pair = Stage::serving(2);
    pair.put(0, 4 * B, 7);
    pair.images[0].unreadable.insert(2);
    assert_eq!(pair.bytes(0, 4 * B), [7; 4 * BLOCK]);
    pair.drive();
    assert!(pair.images[0].unreadable.is_empty());
    pair.assert_equal_images();
}

/// A heal takes the lock (M2), so a write that comes first is not undone by it.
#[test]
fn a_heal_never_undoes_a_newer_write() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 7);
    pair.images[0].rot(0);
    let read = pair.read(0, B);
    let write = pair.write(0, B, 8);
    pair.drive();
    assert!(pair.is_done(read) && pair.is_done(write));
    assert_eq!(pair.bytes(0, B), [8; BLOCK]);
    pair.assert_equal_images();
}

#[test]
fn a_single_image_gives_the_exact_place_of_its_damage() {
    let mut single = Stage::serving(1);
    single.put(0, 2 * EXTENT, 7);
    single.images[0].rot(64 + 5);
    let read = single.read(EXTENT - B, EXTENT);
    single.drive();
    assert_eq!(single.error(read), Some(VolumeError::Medium { offset: EXTENT + 5 * B }));
}

/// A verify looks at every image: hidden damage is found and healed before it is needed.
#[test]
fn a_verify_finds_and_heals_damage_of_the_second_image() {
    let mut pair = Stage::serving(2);
    pair.put(0, 20 << 20, 7);
    pair.images[1].rot(1000);
    let verify = pair.ask(VolumeOp::Verify { span: span(0, 20 << 20) });
    pair.drive();
    assert!(pair.is_done(verify));
    assert_eq!(pair.mirror.status().counters.healed, 1);
    pair.images[0].rot(77);
    pair.images[1].rot(77);
    let verify = pair.ask(VolumeOp::Verify { span: span(0, 20 << 20) });
    pair.drive();
    assert_eq!(pair.error(verify), Some(VolumeError::Medium { offset: 77 * B }));
}

/// P15: a heal needs no slot where the block has one; where it would, a full pool only leaves the damage.
#[test]
fn a_heal_works_in_a_full_pool() {
    let mut pair = Stage::with_slots(0, 1);
    pair.put(0, EXTENT, 7);
    pair.images[0].rot(3);
    assert_eq!(pair.bytes(0, EXTENT), vec![7; EXTENT as usize]);
    pair.drive();
    pair.assert_equal_images();
}

/// Broke once: the target of a heal left the set while the heal read, the mend went to nobody, its number was
/// never settled, and no interval ever closed again.
#[test]
fn a_heal_whose_image_leaves_the_set_holds_up_no_interval() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * EXTENT, 7);
    pair.images[0].rot(3);
    let damaged = pair.read(3 * B, B);
    pair.drive_without(1);
    pair.reply(1, 0); // answers the host; the heal reads next
    assert!(pair.is_done(damaged));
    assert_eq!(pair.images[1].pending.len(), 1);
    pair.gone(0);
    assert_eq!(pair.state_of(0).0, ImageState::Stale);
    pair.pass_without(Period::from_secs(60), 0);
    assert!(pair.images[1].marks.is_empty());
}

/// Broke once: the damaged block was unmapped while the heal waited for its lock, and the heal then wrote zeros
/// to one image that the other did not have.
#[test]
fn a_heal_of_what_was_unmapped_meanwhile_does_nothing() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 7);
    pair.images[0].rot(3);
    let read = pair.read(3 * B, B);
    let unmap = pair.ask(VolumeOp::Unmap { spans: smallvec::smallvec![span(2 * B, 2 * B)], durable: false });
    pair.drive();
    assert!(pair.is_done(read) && pair.is_done(unmap));
    assert_eq!(pair.mirror.status().counters.healed, 0);
    pair.assert_equal_images();
}
