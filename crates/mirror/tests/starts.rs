//! Starting after whatever happened: who may serve, and what is made equal first (M8, M9, M11, P8).

mod cast;

use cast::{BLOCK, EXTENT, Stage, StoreMood, record};
use dyad_cluster::{ImageState, OutReason, SegmentRecord};
use dyad_contract::volume::VolumeError;
use dyad_mirror::{Mirror, MirrorState, Note, Refusal, SetupError, Waiting};
use dyad_units::{Epoch, NodeId, Period, Region};

const B: u64 = BLOCK as u64;

fn is_serving(stage: &Stage) -> bool {
    stage.mirror.status().state == MirrorState::Serving
}

#[test]
fn a_start_claims_a_new_epoch_before_the_first_answer() {
    let mut pair = Stage::prepared(2);
    pair.mood = StoreMood::Thinks;
    pair.start();
    let read = pair.read(0, B);
    pair.drive();
    assert!(pair.answer(read).is_none());
    assert_eq!(pair.proposals.len(), 1);
    assert_eq!((pair.proposals[0].epoch, pair.proposals[0].owner), (Epoch::new(2), Some(cast::NODE)));
    assert!(pair.proposals[0].images.iter().all(|image| image.incarnation == Some(pair.setup.incarnation)));
    pair.store_decides(StoreMood::Accepts);
    assert!(pair.answer(read).is_none(), "M9: durable at the images first");
    pair.drive();
    assert!(pair.is_done(read));
    assert!(pair.images.iter().all(|image| image.record == pair.store.encode()));
}

#[test]
fn what_waits_for_the_start_longer_than_t_is_answered_busy() {
    let mut pair = Stage::prepared(2);
    pair.mood = StoreMood::Away;
    pair.start();
    let read = pair.read(0, B);
    pair.pass(Period::from_millis(3001));
    assert_eq!(pair.error(read), Some(VolumeError::Busy));
    pair.mood = StoreMood::Accepts;
    pair.pass(Period::from_secs(2));
    assert!(is_serving(&pair));
}

/// M3, M9: broke once (simulator, all processes crash while the owner compares): the new owner's first write said that all
/// images have everything below its own numbers, although an extent that its predecessor left unequal was still being
/// compared. The images forgot that they differ there; the next owner compared nothing, and they differed for ever.
#[test]
fn what_is_still_unequal_is_not_forgotten_for_a_write_elsewhere() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.put(3 * EXTENT, B, 1);
    let lost = pair.write(0, B, 2);
    pair.drive_without(1);
    assert!(pair.answer(lost).is_none());
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.restart();
    pair.drive_but("examine");
    assert_eq!(pair.mirror.status().suspect, 1);
    let write = pair.write(3 * EXTENT, B, 3);
    pair.drive_but("examine");
    assert!(pair.is_done(write), "another extent is served meanwhile");
    assert_eq!(pair.mirror.status().suspect, 1);
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.restart();
    pair.drive();
    assert_eq!(pair.images[0].value(0), pair.images[1].value(0));
    pair.assert_equal_images();
    assert_eq!(pair.bytes(3 * EXTENT, B), [3; BLOCK]);
}

/// P6, M9: after a crash of the process, writes that only one image has are made equal before they are read.
#[test]
fn a_write_that_only_one_image_has_is_made_equal_before_it_is_read() {
    for has_it in 0..2 {
        let mut pair = Stage::serving(2);
        pair.put(0, B, 1);
        let lost = pair.write(0, B, 2);
        pair.drive_without(1 - has_it);
        assert!(pair.answer(lost).is_none());
        pair.images.iter_mut().for_each(|image| image.crash(|_| false));
        pair.restart();
        let read = pair.bytes(0, B);
        assert!(read == [1; BLOCK] || read == [2; BLOCK], "old or new");
        assert_eq!(read[0], pair.images[0].value(0), "the first image's is as good as the other's");
        pair.assert_equal_images();
        assert!(is_serving(&pair));
    }
}

/// P6: only what L names is compared.
#[test]
fn after_a_crash_of_the_process_only_unsettled_extents_are_compared() {
    let mut pair = Stage::serving(2);
    pair.put(0, 8 * EXTENT, 1);
    pair.put(20 * EXTENT, B, 1); // tells the images that all before is settled
    let _torn = pair.write(3 * EXTENT, B, 2);
    pair.drive_without(1);
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.images.iter_mut().for_each(|image| image.heard.clear());
    pair.restart();
    pair.drive();
    let examined = pair.images[0].count("examine");
    assert!((1..=2).contains(&examined), "{examined} extents were compared");
    pair.assert_equal_images();
}

/// P8: a block that is torn on one image takes the other's; torn on both, the first one's is believed.
#[test]
fn torn_blocks_are_mended_or_adopted() {
    let mut pair = Stage::serving(2);
    pair.put(0, 4 * B, 1);
    let _torn = pair.write(0, 2 * B, 2);
    pair.images[0].crash(|block| block < 2);
    pair.images[1].crash(|block| block < 1);
    pair.restart();
    assert_eq!(pair.bytes(0, 4 * B)[BLOCK..], [1; 3 * BLOCK]);
    assert_eq!(pair.bytes(0, B), [0xEE; BLOCK], "what none can verify is believed, and stays");
    pair.assert_equal_images();
    let counters = pair.mirror.status().counters;
    assert_eq!((counters.adopted, counters.mended), (1, 2));
}

/// P8, M11: all machines lost their memory, so every marked region is compared, and nothing else.
#[test]
fn after_a_loss_of_power_the_marked_regions_are_made_equal() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 1);
    let flush = pair.flush();
    pair.drive();
    assert!(pair.is_done(flush));
    pair.put(0, EXTENT, 2);
    pair.put(40 * EXTENT, EXTENT, 2);
    pair.images[0].lose_power(|block| block % 2 == 0);
    pair.images[1].lose_power(|block| block % 3 == 0);
    assert_eq!(pair.images[0].marks.keys().copied().collect::<Vec<_>>(), [Region(0), Region(2)]);
    pair.images.iter_mut().for_each(|image| image.heard.clear());
    pair.restart();
    let bytes = pair.bytes(0, EXTENT);
    assert!(bytes.iter().all(|byte| [1, 2].contains(byte)), "flushed data is there, old or new");
    pair.drive();
    pair.assert_equal_images();
    assert_eq!(pair.images[0].count("examine"), 32);
    assert_eq!(pair.store.in_sync().count(), 2);
    assert_eq!(pair.mirror.status().suspect, 0);
}

/// P8: hosts need not wait for the whole comparison; what they touch comes first.
#[test]
fn what_a_host_touches_is_compared_first_and_clean_extents_are_served_meanwhile() {
    let mut pair = Stage::serving(2);
    pair.put(0, 128 * EXTENT, 1);
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| true));
    pair.restart();
    while !is_serving(&pair) {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).unwrap();
        pair.reply(busy, 0);
    }
    let clean = pair.read(200 * EXTENT, B);
    let suspect = pair.read(100 * EXTENT, B);
    let mut steps = 0;
    while !(pair.is_done(clean) && pair.is_done(suspect)) {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).unwrap();
        pair.reply(busy, 0);
        steps += 1;
    }
    assert!(steps < 60, "{steps} replies");
    assert!(pair.mirror.status().suspect > 100);
    pair.drive();
    assert_eq!(pair.mirror.status().suspect, 0);
    assert!(pair.notes.iter().any(|note| matches!(note, Note::Equalised { .. })));
}

/// M4, P5: closing would clear the marks that say what is suspect.
#[test]
fn no_interval_closes_while_extents_are_suspect() {
    let mut pair = Stage::serving(2);
    pair.put(0, 4 * EXTENT, 1);
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| true));
    pair.restart();
    pair.pass_without(Period::from_secs(15), 1);
    while pair.mirror.status().suspect > 0 {
        assert_eq!(pair.images[0].count("close"), 0);
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).unwrap();
        pair.reply(busy, 0);
    }
    pair.pass(Period::from_secs(60));
    assert!(pair.images[0].count("closed") >= 2);
    assert!(pair.images.iter().all(|image| image.marks.is_empty()));
}

/// M11: an image that forgot may neither serve nor acknowledge while another lived through.
#[test]
fn an_image_that_forgot_is_taken_out_by_one_that_lived_through() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.images[0].lose_power(|_| false);
    pair.images[1].crash(|_| false);
    pair.restart();
    assert_eq!(pair.bytes(0, B), [1; BLOCK], "what was acknowledged is there");
    assert_eq!(pair.state_of(0), (ImageState::Stale, Some(OutReason::Forgot)));
}

/// Broke once: power went between "closed" on one image and on the other. The first had no marks left, so the
/// second was taken for one that forgot, and the volume lost its redundancy.
#[test]
fn when_no_image_lived_through_all_are_alike_whatever_is_marked() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.images[0].marks.clear();
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| true));
    pair.restart();
    pair.drive();
    assert_eq!(pair.store.in_sync().count(), 2);
    pair.assert_equal_images();
}

/// After an orderly stop nothing is missing on an image whose machine restarted: no region is marked.
#[test]
fn an_image_without_marks_forgot_nothing() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.stop();
    pair.drive();
    assert!(pair.is_stopped);
    pair.images[0].lose_power(|_| false);
    pair.images[1].crash(|_| false);
    pair.restart();
    pair.drive();
    assert_eq!(pair.store.in_sync().count(), 2);
    assert_eq!(pair.bytes(0, B), [1; BLOCK]);
}

#[test]
fn an_image_whose_pool_is_missing_is_taken_out_and_the_other_serves() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.mirror = Mirror::new(pair.store.clone(), pair.setup, pair.slab.clone()).unwrap();
    pair.gone(0);
    pair.start();
    pair.drive();
    assert_eq!(pair.state_of(0), (ImageState::Stale, Some(OutReason::Absent)));
    assert_eq!(pair.bytes(0, B), [1; BLOCK]);
}

/// The redundancy that is gone is not claimed back by a restart: resync comes first.
#[test]
fn a_stale_image_is_left_alone_after_a_restart() {
    let mut pair = Stage::serving(2);
    pair.images[1].poisoned = true;
    pair.put(0, B, 1);
    pair.images[1].poisoned = false;
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.images[1].heard.clear();
    pair.restart();
    pair.put(0, B, 2);
    assert!(pair.images[1].heard.is_empty());
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    assert_eq!(pair.mirror.status().good_images(), 1);
}

#[test]
fn without_any_image_nothing_is_served_and_nothing_hangs() {
    let mut pair = Stage::prepared(2);
    pair.gone(0);
    pair.gone(1);
    pair.start();
    let read = pair.read(0, B);
    assert_eq!(pair.error(read), Some(VolumeError::Busy));
    assert_eq!(pair.mirror.status().state, MirrorState::Waiting(Waiting::ForAny));
    assert_eq!(pair.store, record(2), "nobody was taken out");
}

/// §8: a store that was restored from an old copy permits nothing.
#[test]
fn a_store_that_knows_less_than_an_image_is_refused() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    let newest = std::mem::replace(&mut pair.store, record(2));
    pair.restart();
    pair.drive();
    let state = pair.mirror.status().state;
    let refused = MirrorState::Refused(Refusal::StoreBehind {
        image: cast::image_id(0),
        seen: newest.epoch,
        known: Epoch::new(1),
    });
    assert_eq!(state, refused);
    assert_eq!(pair.store, record(2), "and nothing is proposed");
}

#[test]
fn an_image_that_adopted_a_newer_epoch_without_its_record_is_enough_to_refuse() {
    let mut pair = Stage::prepared(2);
    pair.images[1].epoch = Epoch::new(9);
    pair.start();
    pair.drive();
    let (image, known) = (cast::image_id(1), Epoch::new(1));
    let refusal = Refusal::StoreBehind { image, seen: Epoch::new(9), known };
    assert_eq!(pair.mirror.status().state, MirrorState::Refused(refusal));
}

/// P12: an image with lost extents is out before the next acknowledgement; where all have some, all stay.
#[test]
fn an_image_with_lost_extents_does_not_start_in_sync_beside_one_without() {
    let mut pair = Stage::serving(2);
    pair.put(0, EXTENT, 1);
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.images[0].lost.insert(0);
    pair.restart();
    assert_eq!(pair.bytes(0, B), [1; BLOCK]);
    assert_eq!(pair.state_of(0), (ImageState::Stale, Some(OutReason::LostExtents)));

    let mut both = Stage::serving(2);
    both.images.iter_mut().for_each(|image| image.crash(|_| false));
    for image in &mut both.images {
        image.lost.insert(5);
    }
    both.restart();
    both.drive();
    assert_eq!(both.store.in_sync().count(), 2);
}

/// §8: equal epochs with different content are refused.
#[test]
fn another_history_of_the_same_epoch_is_refused() {
    let mut pair = Stage::serving(2);
    let mut other: SegmentRecord = pair.store.clone();
    other.owner = Some(NodeId::from_bytes([77; 16]));
    pair.images[1].record = other.encode();
    pair.images.iter_mut().for_each(|image| image.crash(|_| false));
    pair.restart();
    pair.drive();
    let (image, epoch) = (cast::image_id(1), pair.store.epoch);
    assert_eq!(pair.mirror.status().state, MirrorState::Refused(Refusal::Contradiction { image, epoch }));
}

#[test]
fn a_record_of_newer_software_is_refused_by_name() {
    let mut pair = Stage::prepared(2);
    pair.images[0].record = vec![200, 1, 2, 3];
    pair.start();
    pair.drive();
    let refusal = Refusal::UnreadableRecord { image: cast::image_id(0) };
    assert_eq!(pair.mirror.status().state, MirrorState::Refused(refusal));
}

/// M8: before it was flushed alone, a sole image that lost its memory does not serve while an image on another
/// node may have what it forgot.
#[test]
fn a_sole_image_that_forgot_waits_for_an_image_elsewhere() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    pair.store.images[1].node = NodeId::from_bytes([99; 16]);
    pair.store.images[1].state = ImageState::Stale;
    pair.images[0].record = pair.store.encode();
    pair.images[0].lose_power(|_| false);
    pair.restart();
    pair.drive();
    let refusal = Refusal::NotFlushedAlone { image: cast::image_id(0) };
    assert_eq!(pair.mirror.status().state, MirrorState::Refused(refusal));
    pair.store.flushed_alone = true;
    pair.images[0].record = pair.store.encode();
    pair.restart();
    pair.drive();
    assert!(is_serving(&pair));
}

#[test]
fn a_segment_without_an_image_in_sync_here_is_not_set_up() {
    let pair = Stage::prepared(2);
    let mut other = pair.setup;
    other.node = NodeId::from_bytes([99; 16]);
    assert_eq!(Mirror::new(record(2), other, pair.slab.clone()).err(), Some(SetupError::NothingInSync));
}
