//! What hosts learn of a volume's blocks, and of its ways, at two nodes: GET LBA STATUS says "deallocated" only of what was
//! never written (M5), whichever node is asked, and SET TARGET PORT GROUPS moves the owner (M12, M18).

mod cast;

use std::sync::atomic::{AtomicBool, Ordering};

use cast::Ends;
use cast::pair::{OTHER_OWNER, Pair, host, patiently, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Cdb, Transfer};

const BUSY: u8 = 0x08;
const MAPPED: u8 = 0;
const DEALLOCATED: u8 = 1;
/// Of the volume of every test: 64 MiB of 512 bytes.
const BLOCKS: u64 = 64 << 11;

/// As a host does where it is told to come again (M18), or something beside it.
#[track_caller]
fn done<T>(command: impl FnMut() -> Result<T, DiskError>) -> T {
    patiently(command, |sense| sense == OTHER_OWNER).unwrap()
}

/// GET LBA STATUS: LBA, count, status.
fn status(disk: &mut Disk, lba: u64) -> Vec<(u64, u64, u8)> {
    let mut cdb: Cdb = [0; 16];
    (cdb[0], cdb[1], cdb[12]) = (0x9e, 0x12, 0x40);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    let data = done(|| disk.run("GET LBA STATUS", cdb, Transfer::In(vec![0; 0x4000]))).into_bytes();
    let len = u32::from_be_bytes(*data.first_chunk().unwrap()) as usize + 4;
    let be = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    data[8..len].chunks(16).map(|bytes| (be(&bytes[..8]), be(&bytes[8..12]), bytes[12])).collect()
}

fn own_group(disk: &mut Disk) -> u16 {
    done(|| disk.own_group())
}

/// The group that is active/optimized, as a session is told.
fn short_way(disk: &mut Disk) -> Option<u16> {
    done(|| disk.port_groups()).into_iter().find(|group| group.state == 0).map(|group| group.number)
}

#[test]
fn both_nodes_say_the_same_of_every_block_whichever_is_owner() {
    let pair = Pair::new();
    let mut hosts = [host(&pair.one, 1), host(&pair.other, 2)];
    let groups = hosts.each_mut().map(own_group);
    for disk in &mut hosts {
        assert_eq!(status(disk, 0), [(0, BLOCKS, DEALLOCATED)]);
    }
    // A block of 4 KiB, and the last one of an extent with the first one of the next.
    done(|| hosts[0].write(16, vec![1; 512]));
    done(|| hosts[1].write(1016, vec![2; 8192]));
    let expected = [
        (0, 16, DEALLOCATED),
        (16, 8, MAPPED),
        (24, 992, DEALLOCATED),
        (1016, 16, MAPPED),
        (1032, BLOCKS - 1032, DEALLOCATED),
    ];
    for group in [groups[0], groups[1], groups[0]] {
        let [one, other] = &mut hosts;
        done(|| one.make_optimized(group));
        for disk in [one, other] {
            assert_eq!(status(disk, 0), expected);
            assert_eq!(status(disk, 20), [&[(20, 4, MAPPED)], &expected[2..]].concat());
            wait_until("the short way is told", || short_way(disk) == Some(group));
        }
    }
    done(|| hosts[1].unmap(0, 2048));
    for disk in &mut hosts {
        assert_eq!(status(disk, 0), [(0, BLOCKS, DEALLOCATED)]);
        assert_eq!(done(|| disk.read(1016, 16)), vec![0; 8192]);
    }
}

/// What a backup relies on: as soon as a write is acknowledged, no node says that its blocks were never written, though the
/// owner moves all the time.
#[test]
fn what_was_acknowledged_is_never_called_deallocated() {
    let pair = Pair::new();
    let mut hosts = [host(&pair.one, 1), host(&pair.other, 2)];
    let groups = hosts.each_mut().map(own_group);
    let mut mover = host(&pair.one, 3);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let moves = scope.spawn(|| {
            let mut moves = 0;
            while !is_over.load(Ordering::Relaxed) {
                done(|| mover.make_optimized(groups[moves % 2]));
                moves += 1;
            }
            moves
        });
        for round in 0..120_u64 {
            let (writer, reader) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
            let lba = round * 8 * 37 % BLOCKS;
            done(|| hosts[writer].write(lba, vec![7; 4096]));
            for disk in [reader, writer] {
                let (first, _, status) = status(&mut hosts[disk], lba)[0];
                assert_eq!((first, status), (lba, MAPPED), "round {round}");
            }
        }
        drop(ends);
        assert!(moves.join().unwrap() > 2, "the owner moved");
    });
}

/// A node that cannot be made owner leaves all as it is.
#[test]
fn the_owner_stays_where_the_other_node_is_gone() {
    let mut pair = Pair::new();
    let mut other = host(&pair.other, 2);
    let groups = [own_group(&mut host(&pair.one, 1)), own_group(&mut other)];
    done(|| other.make_optimized(groups[1]));
    pair.one.stop();
    wait_until("the other one is alone", || cast::pair::in_sync(&pair.other) == 1);
    let mut other = host(&pair.other, 2);
    let refused = (0..1000)
        .find_map(|_| match other.make_optimized(groups[0]) {
            Err(DiskError::Status { status: BUSY, .. } | DiskError::Status { sense: Some(OTHER_OWNER), .. }) => None,
            ended => Some(ended),
        })
        .expect("an answer");
    assert!(matches!(refused, Err(DiskError::Status { sense: Some((4, 0x67, 0x0a)), .. })), "{refused:?}");
    done(|| other.write(0, vec![1; 512]));
    assert_eq!(short_way(&mut other), Some(groups[1]));
}
