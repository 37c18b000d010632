//! One record of newer software, in the config store beside records that this software reads.
//!
//! Broke once (review): a list of records failed as a whole where one of them could not be read, so that a node served no volume
//! at all, or did not start.

mod cast;
#[path = "../../store/tests/conformance/raw.rs"]
mod raw;

use std::path::Path;

use cast::pair::{Arbiter, Pair, host, wait_until};
use cast::{Stage, pair, start_again};
use dyad_node::StartError;
use dyad_node::control::{CreatePoolError, CreateVolumeError, DeletePoolError, NodeChangeError};
use raw::{NEWER, RECORDS, rewrite};
use redb::{Database, ReadableTable};

const VOLUME: u8 = 1;
const SEGMENT: u8 = 2;
const POOL: u8 = 3;
const NODE: u8 = 4;

/// The keys of a kind whose records hold these bytes.
fn keys(store: &Path, kind: u8, with: &[u8]) -> Vec<Vec<u8>> {
    let database = Database::create(store).unwrap();
    let view = database.begin_write().unwrap();
    let records = view.open_table(RECORDS).unwrap();
    let found = records.range([kind].as_slice()..[kind + 1].as_slice()).unwrap().map(|found| found.unwrap());
    let is_it = |record: &[u8]| with.is_empty() || record.windows(with.len()).any(|part| part == with);
    found.filter(|(_, row)| is_it(row.value())).map(|(key, _)| key.value().to_vec()).collect()
}

fn key(store: &Path, kind: u8, with: &str) -> Vec<u8> {
    // A name stands with its length before it.
    let found = keys(store, kind, &[&[with.len() as u8], with.as_bytes()].concat());
    assert_eq!(found.len(), 1, "{with}");
    found[0].clone()
}

fn unreadable(stage: &Stage) -> Vec<String> {
    let told = stage.handle().node().unwrap().unreadable;
    assert!(told.iter().all(|record| record.newer == Some(NEWER)), "{told:?}");
    told.into_iter().map(|record| record.object).collect()
}

/// A node with a volume `served` and a volume `newer` that has data, stopped.
fn two_volumes() -> (Stage, std::path::PathBuf) {
    let mut stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("served", &["a"]);
    stage.add_volume("newer", &["a"]);
    stage.host("newer").write(0, vec![7; 4096]).unwrap();
    stage.host("served").write(0, vec![8; 4096]).unwrap();
    stage.stop();
    let store = stage.settings.data_dir.join("config.redb");
    (stage, store)
}

#[test]
fn a_volume_is_served_although_the_record_of_another_one_is_newer() {
    let (mut stage, store) = two_volumes();
    let newer = key(&store, VOLUME, "newer");
    let before = rewrite(&store, &newer, NEWER);
    stage.start();
    assert_eq!(stage.host("served").read(0, 8).unwrap(), vec![8; 4096]);
    assert_eq!(unreadable(&stage).len(), 1);
    assert!(unreadable(&stage)[0].starts_with("volume "), "{:?}", unreadable(&stage));
    // It may have this name.
    let refused = stage.handle().create_volume(stage.volume("newer", &["a"]));
    assert!(matches!(refused, Err(CreateVolumeError::Store(_))), "{refused:?}");
    stage.handle().delete_volume("served", true).unwrap();
    assert!(stage.handle().pool("a").unwrap().orphans.is_empty(), "nobody knows");
    assert_eq!(stage.handle().pool("a").unwrap().images, 1, "the image of the other one");
    for force in [false, true] {
        let refused = stage.handle().delete_pool("a", force);
        assert!(matches!(refused, Err(DeletePoolError::Store(_))), "{refused:?}");
    }
    stage.stop();
    rewrite(&store, &newer, before);
    stage.start();
    assert!(unreadable(&stage).is_empty());
    assert_eq!(stage.host("newer").read(0, 8).unwrap(), vec![7; 4096]);
}

/// Broke once (review): what could not be read counted as not there. Of a volume that was being deleted the record went, and its
/// image stayed for ever.
#[test]
fn a_volume_whose_segment_cannot_be_read_is_not_taken_for_one_without() {
    let (mut stage, store) = two_volumes();
    let volume = key(&store, VOLUME, "newer");
    let id = keys(&store, VOLUME, b"newer");
    assert_eq!(id, [volume]);
    let segments = keys(&store, SEGMENT, &[]);
    assert_eq!(segments.len(), 2);
    for segment in &segments {
        let before = rewrite(&store, segment, NEWER);
        stage.start();
        let faults = ["served", "newer"].map(|volume| stage.handle().volume(volume).unwrap().phase);
        let waits = |phase: &&dyad_node::control::VolumePhase| format!("{phase:?}").contains("version 99");
        assert_eq!(faults.iter().filter(waits).count(), 1, "{faults:?}");
        let stuck = if waits(&&faults[0]) { "served" } else { "newer" };
        assert_eq!(unreadable(&stage), [format!("segment of volume {stuck}")]);
        let refused = stage.handle().delete_volume(stuck, true);
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(stage.handle().pool("a").unwrap().images, 2);
        stage.stop();
        rewrite(&store, segment, before);
        stage.start();
        // Its deletion goes on now.
        wait_until("deleted", || stage.handle().volume(stuck).is_err());
        stage.add_volume(stuck, &["a"]);
        stage.stop();
        if stuck == "served" {
            break;
        }
    }
}

#[test]
fn a_pool_of_newer_software_holds_up_no_other_one() {
    let (mut stage, store) = two_volumes();
    stage.start();
    stage.add_pool("b");
    stage.stop();
    let pool = key(&store, POOL, "b");
    rewrite(&store, &pool, NEWER);
    stage.start();
    assert_eq!(stage.host("served").read(0, 8).unwrap(), vec![8; 4096]);
    let refused = stage.handle().create_pool(stage.pool("b"));
    assert!(matches!(refused, Err(CreatePoolError::Store(_))), "{refused:?}");
}

/// Ends the arbiter, gives records other versions, and starts it again.
fn rewritten(pair: &mut Pair, change: impl FnOnce(&Path)) {
    let arbiter = pair.arbiter.take().unwrap();
    let addresses = arbiter.addresses();
    let dir = arbiter.end();
    change(&dir.path().join("config.redb"));
    pair.arbiter = Some(Arbiter::again(dir, addresses));
}

#[test]
fn a_volume_that_becomes_unreadable_while_it_is_served_goes_on_being_served() {
    let mut pair = Pair::new();
    let mut user = host(&pair.one, 1);
    user.write(0, vec![1; 4096]).unwrap();
    let (mut volume, mut before) = (Vec::new(), 0);
    rewritten(&mut pair, |store| {
        volume = key(store, VOLUME, "v");
        before = rewrite(store, &volume, NEWER);
    });
    for stage in [&pair.one, &pair.other] {
        wait_until("it is noticed", || unreadable(stage) == ["volume v"]);
        assert!(stage.handle().volume("v").is_ok());
        assert_eq!(stage.handle().images().unwrap().len(), 2);
    }
    user.write(0, vec![2; 4096]).unwrap();
    // A node that starts now does not serve it, and deletes nothing.
    pair.other.restart();
    assert_eq!(unreadable(&pair.other).len(), 1);
    assert_eq!(pair.other.handle().pool("b").unwrap().images, 1);
    user.write(8, vec![3; 4096]).unwrap();
    rewritten(&mut pair, |store| assert_eq!(rewrite(store, &volume, before), NEWER));
    wait_until("served at the other node", || {
        pair.other.handle().volume("v").is_ok_and(|volume| pair::is_served(&volume.phase))
    });
    wait_until("in sync", || pair::in_sync(&pair.one) == 2);
    assert_eq!(host(&pair.other, 2).read(0, 16).unwrap(), [[2; 4096], [3; 4096]].concat());
}

#[test]
fn a_node_of_newer_software_keeps_no_other_one_from_starting() {
    let mut pair = Pair::new();
    pair.other.stop();
    let (mut node, mut own) = (Vec::new(), Vec::new());
    rewritten(&mut pair, |store| {
        node = key(store, NODE, "other");
        own = key(store, NODE, "one");
        rewrite(store, &node, NEWER);
    });
    pair.one.restart();
    wait_until("served", || pair.one.handle().volume("v").is_ok_and(|volume| pair::is_served(&volume.phase)));
    assert_eq!(unreadable(&pair.one).len(), 1);
    let refused = pair.one.handle().remove_node("other");
    assert!(matches!(refused, Err(NodeChangeError::ReadStore(_))), "{refused:?}");
    let refused = pair.one.handle().delete_volume("v", true);
    assert!(refused.is_err() || pair.one.handle().volume("v").is_ok(), "hosts may use it there");
    // Its own record tells which of its lives is the newest.
    pair.one.stop();
    rewritten(&mut pair, |store| assert_ne!(rewrite(store, &own, NEWER), NEWER));
    let refused = start_again(&pair.one.settings);
    assert!(matches!(refused, Err(StartError::ReadStore(_))), "{refused:?}");
}
