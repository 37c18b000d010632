//! An image that was out catches up while hosts go on (M13 to M16).

mod cast;

use cast::{BLOCK, EXTENT, Stage, image_id};
use dyad_cluster::{AckPolicy, ImageState, OnFew, OutReason};
use dyad_contract::image::ImageError;
use dyad_contract::volume::VolumeOp;
use dyad_mirror::{Event, ImageIndex, Note};
use dyad_units::{Period, Span};

const B: u64 = BLOCK as u64;

/// Image 1 is out; what was written since is on image 0 alone.
fn behind() -> Stage {
    let mut pair = Stage::serving(2);
    pair.put(0, 4 * EXTENT, 1);
    pair.pass(Period::from_secs(60));
    pair.images[1].poisoned = true;
    pair.put(EXTENT, B, 2);
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    pair.images[1].poisoned = false;
    for extent in 5..12 {
        pair.put(extent * EXTENT, 2 * B, 3);
    }
    pair
}

fn begin(pair: &mut Stage) {
    let mut out = Vec::new();
    assert!(pair.mirror.begin_resync(pair.now, ImageIndex(1), &mut out));
    pair.act_on(out);
}

/// M13, M16: only what changed is copied, then the image is in sync and equal.
#[test]
fn an_image_that_was_out_copies_what_changed_and_joins() {
    let mut pair = behind();
    begin(&mut pair);
    pair.drive();
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.state_of(1), (ImageState::InSync, None), "{:?}", pair.mirror.status());
    pair.assert_equal_images();
    assert_eq!(pair.mirror.status().counters.copied, 8, "one that was overwritten, seven that are new");
    assert_eq!(pair.images[0].closed, pair.images[1].closed);
    assert_eq!(pair.images[1].progress, None);
    assert!(pair.notes.contains(&Note::Joined { image: ImageIndex(1) }));
}

/// A4: broke once (simulator): a write that waited for a second image went on waiting when that had joined, until its host gave
/// it up, and whatever came to its range with it.
#[test]
fn a_write_that_waits_for_images_goes_on_when_one_has_joined() {
    let mut pair = behind();
    pair.event(Event::Policy(AckPolicy { min_in_sync: 2, on_few: OnFew::Wait }));
    let waits = pair.write(0, B, 7);
    begin(&mut pair);
    assert!(pair.answer(waits).is_none());
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.state_of(1).0, ImageState::InSync);
    assert!(pair.is_done(waits));
    assert_eq!(pair.bytes(0, B), [7; BLOCK]);
    pair.assert_equal_images();
}

/// M10, M15: broke once (review): an image whose run was cut off before its first close said nothing of it. It could be
/// detached and exported as the moment that it left the set, though some of its extents were newer; and whoever promoted it was
/// not told that it is half copied.
#[test]
fn an_image_says_that_it_is_half_copied_before_anything_of_it_changes() {
    let mut pair = behind();
    let closed = pair.images[1].closed;
    begin(&mut pair);
    while pair.images[1].count("mend") == 0 {
        assert_eq!(pair.mirror.status().counters.copied, 0);
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).expect("it goes on");
        pair.reply(busy, 0);
    }
    let (cursor, complete) = pair.images[1].progress.expect("it says so");
    assert_eq!(complete, closed, "and that nothing is lost that it had");
    pair.images[1].failures.push(("mend", ImageError::Poisoned));
    pair.drive();
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    assert_eq!(pair.images[1].progress, Some((cursor, closed)), "and still when the run is over");
    begin(&mut pair);
    pair.pass(Period::from_secs(30));
    assert_eq!((pair.state_of(1).0, pair.images[1].progress), (ImageState::InSync, None));
    pair.assert_equal_images();
}

/// M14: a write to an extent that is copied already needs the image too; one to an extent still to be copied does not.
#[test]
fn writes_below_the_cursor_need_the_image_that_catches_up() {
    let mut pair = behind();
    begin(&mut pair);
    while pair.mirror.status().counters.copied < 3 {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).expect("it goes on");
        pair.reply(busy, 0);
    }
    pair.drive_without(1);
    let below = pair.write(0, B, 9);
    let above = pair.write(100 * EXTENT, B, 9);
    pair.drive_without(1);
    assert!(pair.answer(below).is_none(), "it waits for image 1");
    pair.drive();
    assert!(pair.is_done(below) && pair.is_done(above));
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.store.in_sync().count(), 2);
    pair.assert_equal_images();
}

/// M14: a copy that the image fails ends the run; hosts go on, and the next run ends.
#[test]
fn a_failing_image_ends_the_run_and_the_next_run_succeeds() {
    let mut pair = behind();
    begin(&mut pair);
    pair.images[1].failures.push(("mend", ImageError::Poisoned));
    pair.drive();
    assert_eq!(pair.store.image(image_id(1)).unwrap().state, ImageState::Stale);
    pair.put(0, B, 7);
    begin(&mut pair);
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.store.in_sync().count(), 2);
    pair.assert_equal_images();
}

/// P15: what frees slots may come after what needs them. Found with real processes: an image in a full pool, which hosts had
/// given up as much of as they had written elsewhere, never came back.
#[test]
fn an_image_in_a_full_pool_gives_up_what_the_set_gave_up_before_it_takes_more() {
    let mut pair = Stage::serving(2);
    pair.put(8 * EXTENT, 4 * EXTENT, 1);
    pair.pass(Period::from_secs(60));
    pair.images[1].poisoned = true;
    pair.put(0, 4 * EXTENT, 2);
    pair.images[1].poisoned = false;
    let spans = smallvec::smallvec![Span::new(8 * EXTENT, 4 * EXTENT).unwrap()];
    pair.ask(VolumeOp::Unmap { spans, durable: false });
    pair.drive();
    pair.images[1].slots = Some(4);
    begin(&mut pair);
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.state_of(1), (ImageState::InSync, None), "{:?}", pair.mirror.status());
    pair.assert_equal_images();
}

/// P15: an image with fewer free slots than an extent has runs of blocks reserved one for each run, and never came back.
#[test]
fn an_image_with_one_slot_left_takes_an_extent_whose_blocks_are_scattered() {
    for granted in [false, true] {
        let mut pair = Stage::serving(2);
        pair.put(8 * EXTENT, EXTENT, 1);
        pair.pass(Period::from_secs(60));
        pair.images[1].poisoned = true;
        (0..8).for_each(|run| pair.put(run * 4 * B, B, 2));
        pair.images[1].poisoned = false;
        pair.images[1].slots = Some(2);
        begin(&mut pair);
        if granted {
            pair.put(8 * EXTENT, B, 3); // hosts come first: the image grants them what is left
        }
        pair.pass(Period::from_secs(30));
        assert_eq!(pair.state_of(1), (ImageState::InSync, None), "{:?}", pair.mirror.status());
        pair.assert_equal_images();
    }
}

/// P15: it does not try for ever.
#[test]
fn an_image_without_space_parks() {
    let mut pair = behind();
    pair.images[1].slots = Some(4);
    begin(&mut pair);
    pair.pass(Period::from_secs(30));
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    assert!(pair.notes.contains(&Note::ResyncEnded { image: ImageIndex(1), reason: OutReason::NoSpace }));
}

/// M3: what a broken connection swallowed is asked again; nothing is answered before.
#[test]
fn a_link_that_breaks_and_comes_back_loses_nothing() {
    let mut pair = Stage::serving(2);
    let write = pair.write(0, B, 1);
    pair.event(Event::Lost { image: ImageIndex(1) });
    pair.images[1].pending.clear();
    pair.drive();
    assert!(pair.answer(write).is_none());
    pair.event(Event::Back { image: ImageIndex(1) });
    pair.drive();
    assert!(pair.is_done(write));
    pair.assert_equal_images();
}

/// M8: an image that is given up after its connection broke leaves the set before the write is answered.
#[test]
fn a_link_that_stays_away_costs_the_image_its_place() {
    let mut pair = Stage::serving(2);
    let write = pair.write(0, B, 1);
    pair.event(Event::Lost { image: ImageIndex(1) });
    pair.images[1].pending.clear();
    pair.gone(1);
    pair.drive();
    assert!(pair.is_done(write));
    assert_eq!(pair.state_of(1), (ImageState::Stale, Some(OutReason::Absent)));
}

/// M5: a read waits for the lease, a write does not; a lease that stays out costs the image its place.
#[test]
fn what_reveals_waits_for_leases() {
    use dyad_mirror::Lease::{Missing, NotNeeded, Until};
    let mut pair = Stage::serving(2);
    let lease = |pair: &mut Stage, lease| {
        let mut out = Vec::new();
        pair.mirror.set_leases(pair.now, &[NotNeeded, lease, NotNeeded, NotNeeded], &mut out);
        pair.act_on(out);
    };
    lease(&mut pair, Missing);
    pair.put(0, B, 1);
    let read = pair.read(0, B);
    pair.drive();
    assert!(pair.answer(read).is_none());
    let end = pair.now + Period::from_millis(600);
    lease(&mut pair, Until(end));
    assert!(pair.is_done(read));
    pair.pass(Period::from_secs(1));
    assert_eq!(pair.state_of(1), (ImageState::Stale, Some(OutReason::Silent)));
}

/// M5, M16: broke once (random play): while nobody knew whether the image had joined, its lease ran out; it could not be
/// taken out before that was known, and the moment to look at it again stayed in the past.
#[test]
fn a_lease_that_ends_while_a_join_is_not_known_lets_time_pass() {
    let mut pair = behind();
    pair.leases = Some([pair.now + Period::from_secs(1_000_000); 4]);
    begin(&mut pair);
    while pair.mirror.status().counters.copied < 8 {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).expect("it goes on");
        pair.reply(busy, 0);
    }
    pair.mood = cast::StoreMood::Away;
    pair.pass(Period::from_secs(30));
    let joins = |record: &dyad_cluster::SegmentRecord| record.in_sync().count() == 2;
    assert!(joins(pair.proposals.last().unwrap()) && !joins(&pair.store), "its outcome is not known");
    pair.leases.as_mut().unwrap()[1] = pair.now;
    pair.tick_at(pair.now);
    pair.pass(Period::from_secs(10));
    pair.mood = cast::StoreMood::Accepts;
    pair.pass(Period::from_secs(10));
    assert_eq!(pair.state_of(1), (ImageState::Stale, Some(OutReason::Silent)), "in, and out again");
}
