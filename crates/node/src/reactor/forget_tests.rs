//! Reservations that nobody can read, and an administrator's order to forget them (M20): the disk rots under real nodes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dyad_bench::disk::{Disk, DiskError};

use super::tests::cast::Stage;
use super::tests::cast::pair::{Pair, Sense, host, in_sync, wait_until};

const BLOCK: usize = 4096;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;

const BUSY: u8 = 0x08;
const CONFLICT: u8 = 0x18;
/// HARDWARE ERROR, INTERNAL TARGET FAILURE.
const DEAD: Sense = (4, 0x44, 0);
const RESERVATIONS_PREEMPTED: Sense = (6, 0x2a, 3);
const MODE_CHANGED: Sense = (6, 0x2a, 1);
const OTHER_OWNER: Sense = (6, 0x2a, 6);

/// Rots both homes of the SCSI state in a pool's file, whichever slot they are in.
fn rot(pool: &Path) {
    let bytes = std::fs::read(pool).unwrap();
    // As `home` writes them: "DyadStat", as a little-endian word.
    let magic = 0x4479_6164_5374_6174_u64.to_le_bytes();
    let homes: Vec<_> = (0..bytes.len()).step_by(BLOCK).filter(|&at| bytes[at..at + 8] == magic).collect();
    assert_eq!(homes.len(), 2, "of one image");
    let file = OpenOptions::new().write(true).open(pool).unwrap();
    for at in homes {
        file.write_all_at(&[bytes[at + 99] ^ 1], at as u64 + 99).unwrap();
    }
    file.sync_all().unwrap();
}

fn write(disk: &mut Disk) -> Result<(), DiskError> {
    disk.write(0, vec![7; BLOCK])
}

/// How a command ends that is sent again while its host is told BUSY, or that there is another owner.
#[track_caller]
fn told(mut command: impl FnMut() -> Result<(), DiskError>) -> Result<(), (u8, Option<Sense>)> {
    let mut last = Ok(());
    wait_until("an answer", || {
        last = match command() {
            Ok(()) => Ok(()),
            Err(DiskError::Status { status, sense, .. }) => Err((status, sense)),
            Err(error) => panic!("{error}"),
        };
        !matches!(last, Err((BUSY, _)) | Err((_, Some(OTHER_OWNER))))
    });
    last
}

#[track_caller]
fn assert_dead(disk: &mut Disk) {
    assert_eq!(told(|| write(disk)), Err((2, Some(DEAD))));
}

/// It is told, once, and can write; others may be told nothing else.
#[track_caller]
fn assert_told(disk: &mut Disk) {
    assert_eq!(told(|| write(disk)), Err((2, Some(RESERVATIONS_PREEMPTED))));
    assert_eq!(told(|| write(disk)), Err((2, Some(MODE_CHANGED))));
    assert_eq!(told(|| write(disk)), Ok(()));
    assert_eq!(disk.keys().unwrap(), Vec::<u64>::new());
}

/// Registers and reserves as the first of all, and keeps others out.
#[track_caller]
fn reserve(disk: &mut Disk, other: &mut Disk, key: u64) {
    assert_eq!(told(|| disk.reserve(REGISTER, 0, 0, key)), Ok(()));
    assert_eq!(told(|| disk.reserve(RESERVE, EXCLUSIVE_ACCESS, key, 0)), Ok(()));
    assert_eq!(told(|| write(disk)), Ok(()));
    assert_eq!(told(|| write(other)), Err((CONFLICT, None)));
}

fn trouble(stage: &Stage) -> String {
    stage.handle().volume("v").unwrap().unread.unwrap_or_default()
}

/// A node with a sole image, whose homes rotted before this life of the node.
fn rotted() -> Stage {
    let mut stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let (mut one, mut other) = (host(&stage, 1), host(&stage, 2));
    reserve(&mut one, &mut other, 0x11);
    drop((one, other));
    stage.stop();
    rot(&stage.pool_path("a"));
    stage.start();
    stage
}

#[test]
fn a_volume_whose_reservations_nobody_can_read_is_brought_back_by_order() {
    let mut stage = rotted();
    wait_until("said before a host asks", || !trouble(&stage).is_empty());
    assert_eq!(
        trouble(&stage),
        "no image in sync can read its reservations, so hosts get errors; `dyad volume forget-reservations v` lets them begin \
         anew"
    );
    let (mut one, mut other) = (host(&stage, 1), host(&stage, 2));
    assert_dead(&mut one);
    assert_dead(&mut other);
    assert_eq!(told(|| one.reserve(REGISTER, 0, 0, 9)), Err((2, Some(DEAD))), "no host can write it anew");
    stage.handle().forget_reservations("v", false).unwrap();
    assert_told(&mut one);
    assert_told(&mut other);
    wait_until("well", || trouble(&stage).is_empty());
    reserve(&mut other, &mut one, 0x22);
    drop((one, other));
    stage.restart();
    let mut stranger = host(&stage, 1);
    assert_eq!(told(|| write(&mut stranger)), Err((CONFLICT, None)));
    assert_eq!(stranger.keys().unwrap(), [0x22]);
    assert_eq!(told(|| write(&mut host(&stage, 2))), Ok(()));
    assert_eq!(trouble(&stage), "");
}

/// They are somebody's.
#[test]
fn reservations_that_can_be_read_are_forgotten_only_by_force() {
    let stage = Stage::mirrored();
    let (mut one, mut other) = (host(&stage, 1), host(&stage, 2));
    reserve(&mut one, &mut other, 0x11);
    let refused = stage.handle().forget_reservations("v", false).unwrap_err();
    let dyad_node::control::ImageError::Refused { why, advice } = refused else { panic!("{refused}") };
    assert_eq!(
        why,
        "the volume's reservations can be read: registered are iqn.2026-11.example:host1, iqn.2026-11.example:host1 holds a \
         persistent reservation"
    );
    assert!(advice.contains("--force"), "{advice}");
    assert_eq!(told(|| write(&mut other)), Err((CONFLICT, None)));
    stage.handle().forget_reservations("v", true).unwrap();
    assert_told(&mut other);
    assert_told(&mut one);
    reserve(&mut other, &mut one, 0x22);
    assert!(stage.handle().forget_reservations("none", true).is_err());
}

/// The order is given at either node, and hosts of both are told.
#[test]
fn it_is_ordered_at_any_node_and_told_at_every_one() {
    for is_at_owner in [true, false] {
        let mut pair = Pair::new();
        let (mut one, mut other) = (host(&pair.one, 1), host(&pair.other, 2));
        reserve(&mut one, &mut other, 0x11);
        drop((one, other));
        wait_until("in sync", || in_sync(&pair.one) == 2);
        pair.other.stop();
        pair.one.stop();
        rot(&pair.one.pool_path("a"));
        rot(&pair.other.pool_path("b"));
        pair.one.start();
        pair.other.start();
        wait_until("in sync again", || in_sync(&pair.one) == 2 && in_sync(&pair.other) == 2);
        let (mut one, mut other) = (host(&pair.one, 1), host(&pair.other, 2));
        assert_dead(&mut one);
        assert_dead(&mut other);
        for stage in [&pair.one, &pair.other] {
            wait_until("said", || trouble(stage).contains("forget-reservations v"));
        }
        let volume = pair.one.handle().volume("v").unwrap();
        let is_one = volume.owner_name.as_deref() == Some("one");
        let asked = if is_one == is_at_owner { &pair.one } else { &pair.other };
        asked.handle().forget_reservations("v", false).unwrap();
        assert_told(&mut one);
        assert_told(&mut other);
        reserve(&mut one, &mut other, 0x33);
        for stage in [&pair.one, &pair.other] {
            wait_until("well", || trouble(stage).is_empty());
        }
    }
}

/// Nobody is there who could know or write them.
#[test]
fn a_volume_that_is_not_served_keeps_its_reservations() {
    let mut stage = rotted();
    stage.stop();
    let hidden = stage.dir.path().join("hidden");
    std::fs::rename(stage.pool_path("a"), &hidden).unwrap();
    stage.start();
    let refused = stage.handle().forget_reservations("v", true).unwrap_err().to_string();
    assert!(refused.contains("no node owns") || refused.contains("not in service"), "{refused}");
    std::fs::rename(&hidden, stage.pool_path("a")).unwrap();
}
