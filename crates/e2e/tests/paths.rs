//! Two paths to a volume, one at each node: hosts see that they lead to the same volume, which one is the short one, and
//! learn when that changes (SPC-4 §5.11, M18).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Options, Transfer, cdb};
use dyad_bench::load::{self, Kind, Order, Spec};
use dyad_e2e::cluster::Cluster;

const MIB: u64 = 64;
/// ASYMMETRIC ACCESS STATE (SPC-4 table 300).
const OPTIMIZED: u8 = 0x0;
const NON_OPTIMIZED: u8 = 0x1;
const UNAVAILABLE: u8 = 0x3;
/// ASYMMETRIC ACCESS STATE CHANGED.
const CHANGED: (u8, u8, u8) = (0x06, 0x2a, 0x06);

fn open(cluster: &Cluster, node: usize, session: u32) -> Result<Disk, DiskError> {
    let path = cluster.paths().expect("the volume is known")[node].clone();
    Disk::open(&Options { session, ..path })
}

/// Those of the volume itself.
fn names(disk: &mut Disk) -> Vec<(u8, Vec<u8>)> {
    disk.designators().unwrap().into_iter().filter(|(kind, _)| kind & 0x30 == 0).collect()
}

fn own_group(disk: &mut Disk) -> u16 {
    disk.own_group().unwrap()
}

/// Target port groups and their states.
fn states(disk: &mut Disk) -> Result<Vec<(u16, u8)>, DiskError> {
    Ok(disk.port_groups()?.into_iter().map(|group| (group.number, group.state)).collect())
}

/// Target port groups with PREF.
fn preferred(disk: &mut Disk) -> Result<Vec<u16>, DiskError> {
    Ok(disk.port_groups()?.into_iter().filter(|group| group.is_preferred).map(|group| group.number).collect())
}

/// The next unit attention of a session, if one waits.
fn attention(disk: &mut Disk) -> Option<(u8, u8, u8)> {
    let ready = disk.session().call(cdb::test_unit_ready(), Transfer::None).unwrap();
    if ready.status == 0 { None } else { ready.sense_codes() }
}

fn sorted(mut states: [(u16, u8); 2]) -> Vec<(u16, u8)> {
    states.sort_unstable();
    states.to_vec()
}

#[test]
fn both_paths_name_one_volume_and_agree_on_the_short_one() {
    let cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let mut disks = [0, 1].map(|node| open(&cluster, node, 1).unwrap());
    let [one, other] = disks.each_mut().map(names);
    assert_eq!(one, other);
    assert!(one.iter().any(|(kind, name)| *kind == 0x03 && name.len() == 16 && name[0] >> 4 == 6), "NAA 6: {one:02x?}");
    let groups = disks.each_mut().map(own_group);
    assert_ne!(groups[0], groups[1]);
    let expected = sorted([(groups[owner], OPTIMIZED), (groups[1 - owner], NON_OPTIMIZED)]);
    for disk in &mut disks {
        cluster.until("both nodes say the same", || states(disk).is_ok_and(|states| states == expected)).unwrap();
    }
}

/// M12: the data moves along; both hosts are told, and the short path is the other one.
#[test]
fn a_move_of_the_owner_is_told_at_both_nodes() {
    let cluster = Cluster::start(MIB).unwrap();
    let mut disks = [0, 1].map(|node| open(&cluster, node, 1).unwrap());
    let groups = disks.each_mut().map(own_group);
    for _ in 0..2 {
        let owner = cluster.owner().unwrap();
        let before = sorted([(groups[owner], OPTIMIZED), (groups[1 - owner], NON_OPTIMIZED)]);
        for disk in &mut disks {
            // What was still to be told of before is told.
            cluster.until("all is quiet", || states(disk).is_ok_and(|states| states == before)).unwrap();
        }
        cluster.move_owner().unwrap();
        let after = sorted([(groups[owner], NON_OPTIMIZED), (groups[1 - owner], OPTIMIZED)]);
        for disk in &mut disks {
            let mut told = None;
            cluster
                .until("the change is told", || {
                    told = attention(disk);
                    told.is_some()
                })
                .unwrap();
            assert_eq!(told, Some(CHANGED));
            cluster
                .until("the other path is the short one", || states(disk).is_ok_and(|states| states == after))
                .unwrap();
        }
    }
}

/// The administrator's wish is the PREF bit at both nodes, whoever is asked for it (SPC-4 §6.36).
#[test]
fn the_preferred_owner_is_shown_as_the_preferred_path() {
    let cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let mut disks = [0, 1].map(|node| open(&cluster, node, 1).unwrap());
    let groups = disks.each_mut().map(own_group);
    let path = format!("/v1/volumes/{}/preferred-owner", dyad_e2e::cluster::VOLUME);
    for (node, name) in [(1 - owner, ["one", "other"][1 - owner]), (owner, ["one", "other"][owner])] {
        // By hand: the owner stays where it is.
        cluster.nodes[0].admin().put(&path, &serde_json::json!({ "node": name })).unwrap();
        for disk in &mut disks {
            let is_shown = |disk: &mut Disk| preferred(disk).is_ok_and(|shown| shown == [groups[node]]);
            cluster.until("the wish is shown", || is_shown(disk)).unwrap();
        }
    }
    assert_eq!(cluster.owner().unwrap(), owner);
}

/// M9: the path that is left becomes the short one; the other comes back as the longer one.
#[test]
fn a_node_that_is_killed_is_an_unavailable_path_until_it_is_back() {
    let mut cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let groups = [0, 1].map(|node| own_group(&mut open(&cluster, node, 1).unwrap()));
    let mut disk = open(&cluster, 1 - owner, 2).unwrap();
    cluster.nodes[owner].kill().unwrap();
    let mut told = Vec::new();
    let alone = sorted([(groups[owner], UNAVAILABLE), (groups[1 - owner], OPTIMIZED)]);
    cluster
        .until("the path that is left is the short one", || {
            told.extend(attention(&mut disk));
            states(&mut disk).is_ok_and(|states| states == alone)
        })
        .unwrap();
    assert!(told.contains(&CHANGED), "{told:02x?}");
    cluster.nodes[owner].start().unwrap();
    let both = sorted([(groups[owner], NON_OPTIMIZED), (groups[1 - owner], OPTIMIZED)]);
    cluster
        .until("the other path is there again", || {
            attention(&mut disk);
            states(&mut disk).is_ok_and(|states| states == both)
        })
        .unwrap();
}

/// Broke once: a load took the news of a path that came back for a failure, and a measurement ended with it. Hosts send such a
/// command again.
#[test]
fn a_load_goes_on_while_the_other_path_goes_and_comes_back() {
    let mut cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let path = cluster.paths().unwrap()[owner].clone();
    let spec = Spec {
        kind: Kind::WriteFlush,
        order: Order::Random,
        size: 4096,
        depth: 4,
        sessions: 1,
        area: 0,
        duration: Duration::from_secs(2),
        count: 0,
        seed: 1,
    };
    let is_over = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                count += load::run(&path, &spec)?.count;
            }
            Ok::<_, DiskError>(count)
        });
        let went_and_came = cluster.nodes[1 - owner].kill().and_then(|()| {
            cluster.until("the set is smaller", || cluster.in_sync().is_ok_and(|images| images.len() == 1))?;
            cluster.nodes[1 - owner].start()?;
            cluster.until_redundant(owner)
        });
        is_over.store(true, Ordering::Relaxed);
        went_and_came.unwrap();
        host.join().unwrap()
    });
    assert!(count.unwrap() > 0);
}
