//! What the check of one block allows, and what it does not.

use super::{Block, Rotted};
use crate::pattern::Value;

const BOTH: u8 = 0b11;

fn value(version: u32) -> Value {
    Value::of(version)
}

/// Write 1 from 10 to 20, write 2 from 30 to 40.
fn two_writes() -> Block {
    let mut block = Block::default();
    for (version, at) in [(1, 10), (2, 30)] {
        block.begin(value(version), at);
        block.acked(value(version), at + 10, BOTH, false).unwrap();
    }
    block
}

#[test]
fn a_read_shows_the_last_write_or_one_under_way() {
    let mut block = two_writes();
    block.read(value(2), 50, 51, BOTH, false).unwrap();
    assert!(block.clone().read(value(1), 50, 52, BOTH, false).is_err(), "a stale read");
    assert!(block.clone().read(Value::ZERO, 50, 52, BOTH, false).is_err());
    assert!(block.clone().read(value(9), 50, 52, BOTH, false).is_err(), "never written");
    block.begin(value(3), 60);
    block.read(value(2), 61, 62, BOTH, false).unwrap();
    block.read(value(3), 63, 64, BOTH, false).unwrap();
    assert!(block.read(value(2), 65, 66, BOTH, false).is_err(), "once new, never old again");
}

/// Seed 3002617: three sectors were written while an old image was promoted (M10). They were merged into what that image
/// had, and the host, which did not know it, was blamed for an image that does not compare.
#[test]
fn what_a_write_of_some_sectors_left_over_a_fork_is_not_known() {
    let mut block = two_writes();
    let merged = value(2).with_sectors(3, 5, 3);
    block.begin(merged, 50);
    block.forked(55);
    block.acked(merged, 60, BOTH, false).unwrap();
    assert!(!block.holds(merged));
    assert_eq!(block.certain(), None);
}

/// Seed 20012726: some sectors were asked to be written, an old image was promoted (M10), a host read what that image had,
/// and then came the write. What it left was blamed for having been there, by the checker's dates, since the promotion.
#[test]
fn a_write_of_some_sectors_over_a_fork_changes_what_was_seen_after_it() {
    let mut block = two_writes();
    let written = value(2).with_sectors(3, 5, 3);
    let merged = value(1).with_sectors(3, 5, 3);
    block.begin(written, 50);
    block.forked(55);
    let mut unseen = block.clone();
    block.read(value(1), 60, 61, BOTH, false).unwrap();
    block.acked(written, 70, BOTH, false).unwrap();
    assert!(block.clone().read(written, 72, 73, BOTH, true).is_err(), "of write 2 nothing was left");
    block.read(merged, 72, 73, BOTH, false).unwrap();
    assert_eq!(block.certain(), Some(merged));
    assert!(block.read(value(1), 74, 75, BOTH, false).is_err(), "once new, never old again");

    unseen.acked(written, 70, BOTH, false).unwrap();
    unseen.read(merged, 72, 73, BOTH, false).unwrap();
    assert!(unseen.holds(merged));
    assert!(unseen.read(value(1), 74, 75, BOTH, false).is_err());
}

/// The same after a loss of all memory; what the sectors are merged into is then one of what may have been left.
#[test]
fn a_write_of_some_sectors_over_a_loss_is_merged_into_what_was_left() {
    let mut block = two_writes();
    block.flushed(25);
    let written = value(2).with_sectors(3, 5, 3);
    block.begin(written, 50);
    block.forgot(BOTH, 55);
    block.joined(BOTH);
    block.acked(written, 70, BOTH, false).unwrap();
    assert!(!block.holds(written));
    assert!(block.clone().read(Value::ZERO.with_sectors(3, 5, 3), 72, 73, BOTH, false).is_err(), "flushed");
    assert!(
        block.clone().read(value(1).with_sectors(3, 4, 3), 72, 73, BOTH, false).is_err(),
        "a part of what was written"
    );
    block.read(value(1).with_sectors(3, 5, 3), 72, 73, BOTH, false).unwrap();
    assert!(block.read(value(1), 74, 75, BOTH, false).is_err());
}

/// Seed 30014741: write 3 was asked for first and acknowledged last, amid it came write 4 and was seen; write 3, then the
/// last, was torn by the next one. Only the write that was seen last was taken for what the parts may be of.
#[test]
fn either_of_two_overlapping_writes_may_be_torn_by_the_next() {
    let mut block = two_writes();
    block.begin(value(3), 50);
    block.begin(value(4), 51);
    block.acked(value(4), 55, BOTH, false).unwrap();
    block.read(value(4), 56, 57, BOTH, false).unwrap();
    block.acked(value(3), 60, BOTH, false).unwrap();
    block.flushed(61);
    block.begin(value(5), 70);
    block.forgot(BOTH, 75);
    block.closed(value(5), 80);
    assert!(block.clone().read(value(2).with_sectors(2, 3, 5), 90, 91, BOTH, true).is_err(), "overwritten before");
    block.clone().read(value(4).with_sectors(2, 3, 5), 90, 91, BOTH, true).unwrap();
    block.read(value(3).with_sectors(2, 3, 5), 90, 91, BOTH, true).unwrap();
    assert!(block.read(value(4), 92, 93, BOTH, true).is_err());
}

#[test]
fn overlapping_writes_may_end_in_either_order_but_only_in_one() {
    let mut block = two_writes();
    block.begin(value(3), 50);
    block.begin(value(4), 51);
    block.acked(value(3), 60, BOTH, false).unwrap();
    block.acked(value(4), 61, BOTH, false).unwrap();
    assert_eq!(block.certain(), None);
    let mut other = block.clone();
    other.read(value(3), 70, 71, BOTH, false).unwrap();
    assert_eq!(other.certain(), Some(value(3)));
    assert!(other.read(value(4), 72, 73, BOTH, false).is_err());
    block.read(value(4), 70, 71, BOTH, false).unwrap();
    assert!(block.read(value(3), 72, 73, BOTH, false).is_err());
}

/// M19: what was given up has happened by then, or never will.
#[test]
fn a_ghost_write_is_found() {
    let mut block = two_writes();
    block.begin(value(3), 50);
    block.closed(value(3), 60);
    assert_eq!(block.certain(), None);
    block.begin(value(4), 61);
    block.acked(value(4), 65, BOTH, false).unwrap();
    assert_eq!(block.certain(), Some(value(4)));
    assert!(block.read(value(3), 70, 71, BOTH, false).is_err());
}

/// A1, A5.
#[test]
fn only_a_loss_of_all_memory_takes_what_was_not_flushed() {
    let mut block = two_writes();
    block.forgot(0b01, 50);
    assert!(block.clone().read(value(1), 60, 61, BOTH, false).is_err(), "the other node has it");
    let mut flushed = block.clone();
    flushed.flushed(45);
    flushed.forgot(0b10, 55);
    assert!(flushed.read(value(1), 60, 61, BOTH, false).is_err(), "A2");
    block.forgot(0b10, 55);
    block.read(value(1), 60, 61, BOTH, false).unwrap();
    assert!(block.read(value(2), 62, 63, BOTH, false).is_err(), "what was seen stays so");
}

/// M16: an image that lost its power, caught up and joined keeps what the other one loses.
#[test]
fn an_image_that_caught_up_keeps_from_loss() {
    let mut block = two_writes();
    block.forgot(0b01, 50);
    block.left(0b01);
    block.joined(0b01);
    block.forgot(0b10, 55);
    assert!(block.read(value(1), 60, 61, BOTH, false).is_err());
}

/// A5: broke once (seed 20399): the node whose disk tore the write had caught up and joined when the block was read.
#[test]
fn a_write_that_was_cut_short_may_be_there_in_parts_for_ever() {
    let mut block = two_writes();
    block.begin(value(3), 45);
    block.forgot(0b01, 50);
    block.closed(value(3), 60);
    block.joined(0b01);
    let torn = value(2).with_sectors(2, 3, 3);
    block.clone().read(torn, 70, 71, BOTH, true).unwrap();
    block.begin(value(4), 80);
    block.acked(value(4), 85, BOTH, false).unwrap();
    assert!(block.read(torn, 90, 91, BOTH, true).is_err(), "overwritten since");
}

#[test]
fn a_block_in_parts_is_made_of_what_was_lost() {
    let mut block = two_writes();
    block.forgot(BOTH, 50);
    let torn = value(1).with_sectors(2, 3, 2);
    assert!(block.clone().read(torn, 60, 61, BOTH, false).is_err(), "where a block is written whole");
    block.read(torn, 60, 61, BOTH, true).unwrap();
    block.read(torn, 62, 63, BOTH, true).unwrap();
    assert!(block.read(value(1), 64, 65, BOTH, true).is_err());
}

#[test]
fn what_nobody_can_see_any_more_is_forgotten() {
    let mut block = two_writes();
    block.flushed(45);
    block.begin(value(3), 50);
    block.prune(45);
    block.read(value(2), 51, 52, BOTH, false).unwrap();
    assert!(block.read(value(1), 53, 54, BOTH, false).is_err());
}

#[test]
fn an_unmap_begins_only_where_no_older_zeros_can_be_read() {
    let mut block = Block::default();
    assert!(!block.zeros_are_gone());
    block.begin(value(1), 5);
    assert!(!block.zeros_are_gone());
    block.acked(value(1), 6, BOTH, false).unwrap();
    assert!(block.zeros_are_gone());
}

/// P8: bits of write 1 had changed on one disk before all memory was lost, the other one had write 2 without its checksum:
/// nobody could tell (seeds 20000553 and 30010864).
#[test]
fn changed_bits_are_seen_only_where_no_checksum_could_tell() {
    let mut bytes = vec![0; 4096];
    crate::pattern::fill(&mut bytes, 0, 7, value(1));
    bytes[600] ^= 4;
    let once = |at| {
        let mut rotted = Rotted::default();
        rotted.add(0b01, at);
        rotted.add(0b01, at + 1);
        rotted
    };
    let seen = |block: &Block, asked, at| block.rotten(&bytes, (0, 7), asked, once(at));
    let mut block = two_writes();
    assert_eq!(seen(&block, 45, 35), None, "nothing was forgotten");
    let mut flushed = block.clone();
    flushed.flushed(45);
    flushed.forgot(BOTH, 50);
    assert_eq!(seen(&flushed, 60, 35), None, "the other one has its checksum");
    let mut twice = once(35);
    twice.add(0b10, 40);
    let mut last = vec![0; 4096];
    crate::pattern::fill(&mut last, 0, 7, value(2));
    last[600] ^= 4;
    assert!(flushed.rotten(&last, (0, 7), 60, twice).is_some(), "the other one had changed as well");
    assert!(flushed.rotten(&bytes, (0, 7), 60, twice).is_none(), "but older it is not");
    // A host that wrote a part of it, or compared it, would take the rest for write 2 (seed 1500008606).
    assert!(flushed.is_doubtful(twice) && !flushed.is_doubtful(once(35)));
    let mut read = flushed.clone();
    read.read(value(2), 60, 61, BOTH, false).unwrap();
    assert!(!read.is_doubtful(twice), "it was read, and is whole");
    flushed.begin(value(3), 62);
    flushed.acked(value(3), 63, BOTH, false).unwrap();
    assert!(!flushed.is_doubtful(twice), "overwritten as a whole");
    let mut one = block.clone();
    one.forgot(0b01, 50);
    assert_eq!(seen(&one, 60, 35), None, "the other one has it in memory");
    block.forgot(BOTH, 50);
    assert_eq!(seen(&block, 60, 55), None, "later, checksums are right");
    let found = seen(&block, 60, 35).expect("nobody can tell");
    block.read(found, 60, 61, BOTH, false).unwrap();
    assert_eq!((block.certain(), block.holds(found)), (None, false), "hosts do not know what it says");
    assert_eq!(seen(&block, 62, 35), Some(found));
    block.read(found, 62, 63, BOTH, false).unwrap();
    assert!(block.clone().read(value(2), 64, 65, BOTH, false).is_err(), "what was seen stays so");
    bytes[700] ^= 1;
    assert_eq!(block.rotten(&bytes, (0, 7), 66, once(35)), None, "nor does it go on changing");
    block.begin(value(3), 70);
    block.acked(value(3), 75, BOTH, false).unwrap();
    assert_eq!(block.certain(), Some(value(3)), "overwritten as a whole, it is known again");
}

/// P8, M10: bits had changed on the only image in sync, all memory was lost, and that image was promoted by force. What it had
/// nobody knows then, so its changed bits were taken for bits that no loss of memory had let in (seed 7100007181).
#[test]
fn changed_bits_of_an_image_that_was_promoted_by_force_are_what_it_had() {
    let mut bytes = vec![0; 4096];
    crate::pattern::fill(&mut bytes, 0, 7, value(1));
    bytes[600] ^= 4;
    let mut rotted = Rotted::default();
    rotted.add(0b01, 20);
    rotted.left_with(0b01, 30);
    let mut block = two_writes();
    block.forgot(BOTH, 50);
    block.forked(55);
    let found = block.rotten(&bytes, (0, 7), 60, rotted).expect("nobody can tell");
    block.read(found, 60, 61, BOTH, false).unwrap();
    assert_eq!(block.rotten(&bytes, (0, 7), 62, rotted), Some(found), "what was seen stays so");
    let mut whole = two_writes();
    whole.forked(55);
    assert_eq!(whole.rotten(&bytes, (0, 7), 60, rotted), None, "nothing was forgotten");
    let mut other = two_writes();
    other.forgot(BOTH, 50);
    other.forked(55);
    assert_eq!(other.rotten(&bytes, (0, 8), 60, rotted), None, "of another block");
    let mut foreign = bytes.clone();
    foreign[1024..1536].fill(7);
    assert_eq!(other.rotten(&foreign, (0, 7), 60, rotted), None, "more than a few bits");
}

/// M20, P8: the only home that was ever written had rotted on every image, and all memory was lost amid a write of the next state:
/// what was adopted counted as torn, and the state as never written (seed 7300011438).
#[test]
fn a_state_that_may_have_rotted_everywhere_is_what_is_read_first() {
    let mut rotted = Rotted::default();
    rotted.add(0b01, 20);
    rotted.add(0b10, 25);
    let mut state = two_writes();
    state.flushed(45);
    let mut kept = state.clone();
    kept.forget_if_doubtful(rotted, 48);
    assert!(kept.read(Value::ZERO, 49, 50, BOTH, false).is_err(), "nothing was forgotten");
    state.forgot(BOTH, 50);
    state.forget_if_doubtful(rotted, 60);
    state.read(Value::ZERO, 61, 62, BOTH, false).unwrap();
    state.forget_if_doubtful(rotted, 63);
    assert!(state.read(value(2), 64, 65, BOTH, false).is_err(), "what was seen stays so");
}
