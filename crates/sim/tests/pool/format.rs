//! Disks that are not what they should be: a clear refusal, nothing changed (P13).

use crate::common::{must, scene};
use dyad_payload::Slab;
use dyad_pool::{FormatConfig, FormatError, OpenConfig, OpenError, Pool};
use dyad_sim::disk::{SimDisk, Survival};
use dyad_sim::log::SimLog;
use dyad_sim::model::Crash;
use dyad_sim::player::Player;
use dyad_sim::rig::{self, DISK, POOL};
use dyad_sim::rng::Rng;
use dyad_units::{Extent, NodeId, Piece, PoolId};

const SUPERBLOCKS: [u64; 2] = [0, 64 << 10];
const SIZE: u64 = 12 << 20;

fn formatted() -> SimDisk {
    let mut disk = SimDisk::new(SIZE, 4096, 1);
    rig::format(&mut disk).unwrap();
    disk
}

fn refusal(disk: &mut SimDisk) -> OpenError {
    let config = OpenConfig { pool: Some(POOL), slab: Slab::new(32 << 20) };
    let before = disk.counts().changes();
    let error = Pool::open(disk, Box::new(SimLog::new(64 << 10)), &config).map(|_| ()).unwrap_err();
    assert!(disk.counts().changes() <= before + 1, "a refused disk is synced at most, not changed");
    error
}

#[test]
fn a_fresh_pool_opens() {
    assert!(rig::Rig::open(formatted(), SimLog::new(64 << 10)).is_ok());
}

#[test]
fn zeros_and_noise_are_foreign() {
    assert_eq!(refusal(&mut SimDisk::new(SIZE, 4096, 1)), OpenError::Foreign);
    let mut noise = SimDisk::new(SIZE, 512, 1);
    let mut rng = Rng::new(1);
    for at in 0..(256 << 10) {
        noise.flip(at, rng.bits() as u8);
    }
    assert_eq!(refusal(&mut noise), OpenError::Foreign);
}

#[test]
fn one_damaged_superblock_does_no_harm_and_two_are_told() {
    for home in SUPERBLOCKS {
        let mut disk = formatted();
        disk.flip(home + 100, 4);
        assert!(rig::Rig::open(disk, SimLog::new(64 << 10)).is_ok());
    }
    let mut disk = formatted();
    SUPERBLOCKS.into_iter().for_each(|home| disk.flip(home + 100, 4));
    assert_eq!(refusal(&mut disk), OpenError::SuperblocksDamaged);
}

#[test]
fn a_disk_of_another_pool_is_refused() {
    let mut disk = SimDisk::new(SIZE, 4096, 1);
    let pool = PoolId::from_bytes([9; 16]);
    let node = NodeId::from_bytes([8; 16]);
    Pool::format(&mut disk, &FormatConfig { pool, disk: DISK, node, overwrite: false }).unwrap();
    assert_eq!(refusal(&mut disk), OpenError::OtherPool { found: pool, wanted: POOL });
}

#[test]
fn a_truncated_disk_is_refused_and_opens_again_when_it_is_whole() {
    let mut disk = formatted();
    disk.resize(SIZE - (1 << 20));
    assert!(matches!(refusal(&mut disk), OpenError::Truncated { .. }));
    let mut tiny = formatted();
    tiny.resize(32 << 10);
    assert!(matches!(refusal(&mut tiny), OpenError::Truncated { .. } | OpenError::Disk(_)));
    disk.resize(SIZE);
    assert!(rig::Rig::open(disk, SimLog::new(64 << 10)).is_ok());
}

#[test]
fn a_disk_in_use_is_formatted_only_when_told_to() {
    let mut disk = formatted();
    assert_eq!(rig::format(&mut disk), Err(FormatError::InUse { pool: POOL, disk: DISK }));
    let node = NodeId::from_bytes([8; 16]);
    Pool::format(&mut disk, &FormatConfig { pool: POOL, disk: DISK, node, overwrite: true }).unwrap();
    assert!(matches!(rig::format(&mut SimDisk::new(1 << 20, 4096, 1)), Err(FormatError::TooSmall { .. })));
}

/// Formatting that is cut at any change leaves no pool, or a whole one.
#[test]
fn a_format_cut_at_any_change_leaves_no_half_pool() {
    let mut rng = Rng::new(3);
    let mut cuts = 0;
    for change in 1.. {
        let mut disk = SimDisk::new(SIZE, 512, change);
        disk.cut_after(change);
        if rig::format(&mut disk).is_ok() {
            break;
        }
        cuts += 1;
        for survival in Survival::ALL {
            let mut after = disk.after_power_cut(survival, &mut rng);
            match rig::Rig::open(after.copy(), SimLog::new(64 << 10)) {
                Ok((rig, _)) => assert_eq!(rig.pool.images().count(), 0),
                Err((_, OpenError::Foreign | OpenError::SuperblocksDamaged)) => rig::format(&mut after).unwrap(),
                Err((_, error)) => panic!("cut at change {change}: {error:?}"),
            }
        }
    }
    assert!(cuts > 3, "only {cuts} cuts");
}

/// Reformatting over an old pool brings nothing of it back, whenever it is cut.
#[test]
fn an_overwritten_pool_stays_gone() {
    let mut player = must(Player::new(scene(4096), 61), "set up");
    must(player.write(0, Piece::whole(Extent(1))), "write");
    must(player.flush(0), "flush");
    player.rig.stop().unwrap();
    let old = player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1));
    let node = NodeId::from_bytes([8; 16]);
    let config = FormatConfig { pool: POOL, disk: DISK, node, overwrite: true };
    let mut rng = Rng::new(2);
    for change in 1.. {
        let mut disk = old.disk.copy();
        disk.cut_after(change);
        let done = Pool::format(&mut disk, &config).is_ok();
        let after = disk.after_power_cut(Survival::EachUnit, &mut rng);
        if let Ok((mut rig, _)) = rig::Rig::open(after, SimLog::new(64 << 10)) {
            let has_old = rig.find(0).is_some();
            assert!(!(done && has_old), "the old image came back");
            if !has_old {
                // A new pool with the same ids: slots, tables and journal of the old one mean nothing in it.
                rig.create(0, scene(4096).size()).unwrap();
            }
        }
        if done {
            break;
        }
    }
}
