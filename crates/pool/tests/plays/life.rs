//! The ordinary life of a pool on an honest disk: made, written, flushed, stopped, opened again.

use dyad_contract::image::Reply;
use dyad_pool::{AdminReply, AdminToken};
use dyad_units::{Extent, Piece};

use crate::cast::{Bench, IMAGE, stamp};

#[test]
fn what_was_flushed_is_there_after_opening_again() {
    let mut bench = Bench::new();
    assert!(matches!(bench.write(3, 5, &[0xaa; 8192]), Reply::Written(written) if written.used_slot));
    assert_eq!(bench.read(3, 5, 2), [0xaa; 8192]);
    assert_eq!(bench.read(3, 4, 1), [0; 4096], "never written (P1)");
    bench.flush();
    bench.open().unwrap();
    assert_eq!(bench.read(3, 5, 2), [0xaa; 8192]);
    assert_eq!(bench.read(3, 4, 4), [&[0; 4096][..], &[0xaa; 8192], &[0; 4096]].concat());
}

#[test]
fn an_unmapped_extent_reads_zeros_and_gives_its_slot_back() {
    let mut bench = Bench::new();
    let free = bench.pool().usage().slots_free;
    bench.write(9, 0, &[1; 4096 * 4]);
    assert_eq!(bench.pool().usage().slots_free, free - 1);
    assert!(matches!(bench.unmap(Piece::whole(Extent(9))), Reply::Written(_)));
    assert_eq!(bench.read(9, 0, 4), [0; 4096 * 4]);
    assert_eq!(bench.pool().usage().slots_free, free - 1, "not before the commit (P3)");
    bench.flush();
    assert_eq!(bench.pool().usage().slots_free, free);
}

#[test]
fn a_stopped_pool_is_clean() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[5; 4096]);
    bench.close();
    bench.close();
    assert_eq!(bench.pool().usage().regions_marked, 0, "quiet regions lose their marks (P5)");
    bench.stop();
    bench.open().unwrap();
    assert_eq!(bench.read(1, 0, 1), [5; 4096]);
    let survey = bench.survey();
    assert_eq!((survey.closed, survey.marked), (stamp(2), Vec::new()));
}

#[test]
fn a_deleted_image_gives_everything_back() {
    let mut bench = Bench::new();
    let before = bench.pool().usage();
    for extent in 0..20 {
        bench.write(extent * 200, 0, &[9; 4096]);
    }
    bench.flush();
    let image = bench.image.unwrap();
    bench.pool().delete_image(AdminToken(3), image, IMAGE);
    assert_eq!(bench.administered(), AdminReply::Deleted);
    let after = bench.pool().usage();
    assert_eq!(after.slots_free, before.slots_free);
    bench.open().unwrap();
    assert!(bench.image.is_none());
    assert_eq!(bench.pool().usage().slots_free, before.slots_free);
}

/// A page that was assigned, but held nothing yet when the power went, was left out of the next checkpoint; the journal was
/// cut behind its assignment and the pool could not be opened again.
#[test]
fn a_page_that_was_assigned_before_a_power_cut_is_there_after_the_next_checkpoint() {
    let mut bench = Bench::new();
    bench.open().unwrap();
    bench.stop();
    bench.open().unwrap();
    assert!(bench.image.is_some());
}
