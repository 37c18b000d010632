//! A volume is deleted on purpose only.

mod cast;

use std::time::{Duration, Instant};

use cast::Stage;
use cast::pair::{Pair, host, wait_until};
use dyad_node::control::DeleteVolumeError;

/// What broke: only the sessions of the node that was asked counted. Asked at the other one, it deleted a volume with all its
/// data under the hosts that used it.
#[test]
fn a_volume_that_hosts_use_through_another_node_is_not_deleted() {
    let mut pair = Pair::new();
    let mut user = host(&pair.one, 1);
    user.write(0, vec![1; 4096]).unwrap();
    for stage in [&pair.other, &pair.one] {
        let refused = stage.handle().delete_volume("v", false);
        assert!(matches!(refused, Err(DeleteVolumeError::InUse { sessions: 1, .. })), "{refused:?}");
    }
    assert_eq!(user.read(0, 8).unwrap(), vec![1; 4096]);
    drop(user);
    // A node that cannot be asked may have hosts.
    pair.one.stop();
    wait_until("nobody knows", || {
        let refused = pair.other.handle().delete_volume("v", false);
        matches!(refused, Err(DeleteVolumeError::Silent { ref node, .. }) if node == "one")
    });
    pair.one.start();
    wait_until("it is deleted", || pair.other.handle().delete_volume("v", false).is_ok());
    wait_until("the other node heard", || pair.one.handle().volume("v").is_err());
}

/// What broke: the volume was taken out of service first. Where its deletion could not be recorded it stayed so at this node
/// until the next start.
#[test]
fn a_volume_whose_deletion_cannot_be_recorded_goes_on_being_served() {
    let mut pair = Pair::new();
    let mut user = host(&pair.one, 1);
    user.write(0, vec![1; 4096]).unwrap();
    pair.arbiter = None;
    let refused = pair.one.handle().delete_volume("v", true);
    assert!(matches!(refused, Err(DeleteVolumeError::Store(_))), "{refused:?}");
    user.write(0, vec![2; 4096]).unwrap();
    assert_eq!(host(&pair.one, 2).read(0, 8).unwrap(), vec![2; 4096]);
}

/// What broke: it stayed for ever, as nobody could say that its image was gone, and with it its name and its pool, which held
/// an image of it.
#[test]
fn a_volume_whose_disk_is_dead_goes_with_its_pool() {
    let mut stage = Stage::new();
    stage.add_pool("a");
    stage.add_pool("b");
    stage.add_volume("v", &["a"]);
    stage.stop();
    std::fs::rename(stage.pool_path("a"), stage.dir.path().join("dead")).unwrap();
    stage.start();
    let refused = stage.handle().delete_volume("v", true);
    assert!(matches!(&refused, Err(DeleteVolumeError::Pool { pool, .. }) if pool == "a"), "{refused:?}");
    assert!(stage.handle().volume("v").is_ok(), "its image may be there");
    stage.handle().delete_pool("a", false).unwrap();
    assert!(stage.handle().volume("v").is_err());
    stage.add_volume("v", &["b"]);
}

/// The same with a node that does not come back.
///
/// Broke once (review): a node that was known to be dead was waited for 15 s, in which this one did nothing else for its
/// administrators.
#[test]
fn a_volume_that_waits_for_a_dead_node_goes_with_it() {
    let mut pair = Pair::new();
    pair.other.stop();
    let begun = Instant::now();
    let refused = pair.one.handle().delete_volume("v", true);
    assert!(matches!(&refused, Err(DeleteVolumeError::Waits { node }) if node == "other"), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(pair.one.handle().volume("v").is_ok(), "its image may be there");
    pair.one.handle().remove_node("other").unwrap();
    assert!(pair.one.handle().volume("v").is_err());
    pair.one.add_volume("v", &["a"]);
}
