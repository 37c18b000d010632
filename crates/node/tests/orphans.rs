//! Images that no record names: shown, and deleted by word only.

mod cast;

use std::time::{Duration, Instant};

use cast::Stage;
use cast::pair::{Pair, in_sync, wait_until};
use dyad_node::control::{DeleteOrphanError, OrphanInfo};

fn orphans(stage: &Stage, pool: &str) -> Vec<OrphanInfo> {
    stage.handle().pool(pool).unwrap().orphans
}

/// Broke once (review): nobody saw what a node still held of images that it had been told to forget, and nothing but the
/// deletion of the whole pool gave their space back.
#[test]
fn an_image_that_was_forgotten_is_shown_and_can_be_deleted_and_no_other_one() {
    let mut pair = Pair::new();
    wait_until("both in sync", || in_sync(&pair.one) == 2);
    pair.one.host("v").write(0, vec![5; 1 << 20]).unwrap();
    let images = pair.one.handle().volume("v").unwrap().images;
    let of = |pool: &str| images.iter().find(|image| image.pool_name.ends_with(pool)).unwrap().id;
    let (kept, forgotten) = (of("a"), of("b"));
    pair.other.stop();
    wait_until("it is forgotten", || pair.one.handle().remove_image("v", &forgotten.to_string(), true, true).is_ok());
    pair.other.start();
    wait_until("it is shown", || !orphans(&pair.other, "b").is_empty());
    let shown = orphans(&pair.other, "b");
    assert_eq!(shown.iter().map(|orphan| orphan.id).collect::<Vec<_>>(), [forgotten]);
    assert!(shown[0].allocated.value() >= 1 << 20, "{shown:?}");
    assert!(orphans(&pair.one, "a").is_empty());
    let refused = pair.one.handle().delete_orphan("a", kept);
    assert!(matches!(&refused, Err(DeleteOrphanError::Named { volume, .. }) if volume == "v"), "{refused:?}");
    assert!(matches!(pair.one.handle().delete_orphan("a", forgotten), Err(DeleteOrphanError::Node(_))), "not there");
    // A record that cannot be asked for may name it.
    let arbiter = pair.arbiter.take().unwrap();
    let addresses = arbiter.addresses();
    let dir = arbiter.end();
    let refused = pair.other.handle().delete_orphan("b", forgotten);
    assert!(matches!(refused, Err(DeleteOrphanError::Store(_))), "{refused:?}");
    pair.arbiter = Some(cast::pair::Arbiter::again(dir, addresses));
    wait_until("it is deleted", || pair.other.handle().delete_orphan("b", forgotten).is_ok());
    let pool = pair.other.handle().pool("b").unwrap();
    assert_eq!((pool.images, pool.orphans.len()), (0, 0));
    assert_eq!(pair.one.host("v").read(0, 8).unwrap(), vec![5; 4096]);
}

/// Broke once (review): an administrator who removed an image of a dead node waited ten seconds, for nothing: it goes when its
/// node is back.
#[test]
fn an_image_of_a_node_that_is_away_is_removed_at_once_and_deleted_later() {
    let mut pair = Pair::new();
    wait_until("both in sync", || in_sync(&pair.one) == 2);
    let images = pair.one.handle().volume("v").unwrap().images;
    let away = images.iter().find(|image| image.pool_name.ends_with('b')).unwrap().id;
    pair.other.stop();
    wait_until("it is out", || in_sync(&pair.one) == 1);
    let begun = Instant::now();
    let volume = pair.one.handle().remove_image("v", &away.to_string(), true, false).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "waited for the node: {:?}", begun.elapsed());
    assert_eq!(volume.images.iter().find(|image| image.id == away).unwrap().state, "detached");
    pair.other.start();
    wait_until("it is gone", || {
        let volume = pair.one.handle().volume("v").unwrap();
        let pool = pair.other.handle().pool("b").unwrap();
        volume.images.len() == 1 && pool.images == 0 && pool.orphans.is_empty()
    });
}
