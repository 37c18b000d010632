//! Images that are added, taken out and kept while hosts go on.

mod cast;

use cast::Stage;
use cast::pair::wait_until;
use dyad_node::control::{CreateVolume, DeletePoolError};

/// A4: with `--min-in-sync 2` an image was detached, or removed before the one added for it had caught up; from then on every
/// write failed.
#[test]
fn what_writes_want_is_kept_when_an_image_goes() {
    let stage = Stage::new();
    ["a", "b", "c"].into_iter().for_each(|pool| stage.add_pool(pool));
    let handle = stage.handle();
    handle.create_volume(CreateVolume { min_in_sync: 2, ..stage.volume("v", &["a", "b"]) }).unwrap();
    let mut host = stage.host("v");
    host.write(0, vec![1; 4096]).unwrap();
    let wanted = "wants 2 images in sync to take writes, and would have 1";
    let refused = handle.detach_image("v", "b").unwrap_err().to_string();
    assert!(refused.contains(wanted), "{refused}");
    let refused = handle.remove_image("v", "b", true, false).unwrap_err().to_string();
    assert!(refused.contains(wanted), "{refused}");
    host.write(8, vec![2; 4096]).unwrap();

    handle.add_image("v", None, Some("c"), None).unwrap();
    let in_sync = || handle.volume("v").unwrap().images.iter().filter(|image| image.state == "in-sync").count();
    wait_until("three in sync", || in_sync() == 3);
    assert_eq!(handle.detach_image("v", "b").unwrap().state, "detached");
    host.write(16, vec![3; 4096]).unwrap();
    assert_eq!(host.read(0, 24).unwrap(), [vec![1; 4096], vec![2; 4096], vec![3; 4096]].concat());
}

/// Only the records were asked what a pool holds: one that could not be read, or that no longer named an image, cost the image.
#[test]
fn a_pool_is_not_deleted_with_images_that_no_record_names() {
    let mut stage = Stage::mirrored();
    stage.host("v").write(0, vec![1; 4096]).unwrap();
    stage.stop();
    let hidden = stage.pool_path("hidden");
    std::fs::rename(stage.pool_path("b"), &hidden).unwrap();
    stage.start();
    stage.host("v").write(8, vec![2; 4096]).unwrap(); // the image in b is out from now on
    wait_until("forgotten", || stage.handle().remove_image("v", "b", true, true).is_ok());
    std::fs::rename(&hidden, stage.pool_path("b")).unwrap();
    stage.handle().open_pool("b").unwrap();
    assert_eq!(stage.handle().volume("v").unwrap().images.len(), 1);
    let refused = stage.handle().delete_pool("b", false).unwrap_err();
    assert!(matches!(refused, DeletePoolError::Leftovers { images: 1, .. }), "{refused}");
    stage.handle().delete_pool("b", true).unwrap();
    assert!(stage.handle().pool("b").is_err());
}

/// Broke once (review): an image that was still being filled was detached as "a copy of this moment", and a backup of it was a
/// mix of before and now, or nothing but zeros.
#[test]
fn a_detached_image_is_never_one_that_was_being_filled() {
    let stage = Stage::new();
    ["a", "b"].into_iter().for_each(|pool| stage.add_pool(pool));
    let handle = stage.handle();
    handle.create_volume(stage.volume("v", &["a"])).unwrap();
    let mut host = stage.host("v");
    (0..32).for_each(|at| host.write(at * 2048, vec![at as u8 + 1; 1 << 20]).unwrap());
    let mut refused = None;
    wait_until("one met while it is filled", || {
        let added = handle.add_image("v", None, Some("b"), None).unwrap();
        match handle.detach_image("v", "b") {
            Ok(_) => {
                assert!(handle.read_detached(added.id, 0).unwrap() == vec![1; 1 << 20], "not the moment of detaching")
            }
            Err(error) => refused = Some(error.to_string()),
        }
        wait_until("gone", || {
            let _ = handle.remove_image("v", "b", true, false);
            handle.volume("v").unwrap().images.len() == 1
        });
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert!(refused.contains("still being filled"), "{refused}");
}
