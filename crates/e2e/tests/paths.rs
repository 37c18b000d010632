//! Two paths to a volume, one at each node: hosts see that they lead to the same volume, which one is the short one, and
//! learn when that changes (SPC-4 §5.11, M18).

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Cdb, Options, Transfer, cdb};
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

fn answer(disk: &mut Disk, what: &'static str, cdb: Cdb) -> Result<Vec<u8>, DiskError> {
    disk.run(what, cdb, Transfer::In(vec![0; 1024])).map(Transfer::into_bytes)
}

/// Designators of the Device Identification page: association and type, and the name.
fn designators(disk: &mut Disk) -> Vec<(u8, Vec<u8>)> {
    let page = answer(disk, "INQUIRY", cdb::inquiry(Some(0x83), 1024)).unwrap();
    let end = 4 + usize::from(u16::from_be_bytes([page[2], page[3]]));
    let (mut all, mut at) = (Vec::new(), 4);
    while at < end {
        let len = usize::from(page[at + 3]);
        all.push((page[at + 1] & 0x3f, page[at + 4..at + 4 + len].to_vec()));
        at += 4 + len;
    }
    all
}

/// Those of the volume itself.
fn names(disk: &mut Disk) -> Vec<(u8, Vec<u8>)> {
    designators(disk).into_iter().filter(|(kind, _)| kind & 0x30 == 0).collect()
}

/// The target port group that a session goes through.
fn own_group(disk: &mut Disk) -> u16 {
    let all = designators(disk);
    let (_, group) = all.iter().find(|(kind, _)| *kind == 0x15).expect("a target port group designator");
    u16::from_be_bytes([group[2], group[3]])
}

/// Target port groups in their order, each with the first byte of its descriptor.
fn groups(disk: &mut Disk) -> Result<Vec<(u16, u8)>, DiskError> {
    let mut report = [0; 16];
    (report[0], report[1], report[8]) = (0xa3, 0x0a, 4);
    let data = answer(disk, "REPORT TARGET PORT GROUPS", report)?;
    let end = 4 + u32::from_be_bytes([data[0], data[1], data[2], data[3]]) as usize;
    // One port each: eight bytes and four.
    Ok(data[4..end].chunks(12).map(|group| (u16::from_be_bytes([group[2], group[3]]), group[0])).collect())
}

/// Target port groups and their states, in the order of groups.
fn states(disk: &mut Disk) -> Result<Vec<(u16, u8)>, DiskError> {
    Ok(groups(disk)?.into_iter().map(|(group, first)| (group, first & 0x0f)).collect())
}

/// Target port groups with PREF.
fn preferred(disk: &mut Disk) -> Result<Vec<u16>, DiskError> {
    Ok(groups(disk)?.into_iter().filter(|(_, first)| first & 0x80 != 0).map(|(group, _)| group).collect())
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
