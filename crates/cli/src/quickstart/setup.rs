//! What a new quickstart gets: two pools in files and one volume with an image in each.

use std::fs;

use dyad_api::model::{CreateAccess, CreateDisk, CreatePool, CreateVolume, WhenFew};
use dyad_api::{Control, ControlError};
use dyad_units::{BLOCK_BYTES, Bytes, REGION_BYTES};

use super::place::Place;
use crate::failure::Failure;

/// Most nodes to try on one machine.
pub const NODES_MAX: usize = 5;
/// A pool of each node; a node alone has the first two.
pub const POOLS: [&str; NODES_MAX] = ["a", "b", "c", "d", "e"];
pub const VOLUME: &str = "demo";
/// What a pool needs besides the data: journal, map, checksums; rounded up generously.
const OVERHEAD: Bytes = Bytes::mib(128);
/// What the directory needs besides the pools: the config store and the log.
const BESIDES: Bytes = Bytes::mib(64);

/// Size of each pool's file: the whole volume fits, and an eighth more.
fn pool_size(volume: Bytes) -> Bytes {
    let wanted = volume.value().saturating_add(volume.value() / 8).saturating_add(OVERHEAD.value());
    let grain = u64::from(REGION_BYTES);
    Bytes::new(wanted.checked_next_multiple_of(grain).unwrap_or(wanted))
}

/// Whether a volume can have this size: nodes would be started for one that no node makes.
pub fn check_size(volume: Bytes) -> Result<(), Failure> {
    let block = u64::from(BLOCK_BYTES);
    if volume.value() > 0 && volume.value().is_multiple_of(block) {
        return Ok(());
    }
    Err(Failure::Usage(format!("--size {volume} cannot be: the size of a volume is a multiple of 4 KiB, and not zero")))
}

/// Whether the pools will fit. Their space is reserved at once, so that no write of a host meets a full file system.
pub fn check_space(place: &Place, volume: Bytes, pools: usize) -> Result<(), Failure> {
    let found = rustix::fs::statvfs(place.dir()).map_err(|error| {
        Failure::failed(format!("cannot see how much space is free in {}: {error}", place.shown()), "")
    })?;
    let free = Bytes::new(found.f_bavail.saturating_mul(found.f_frsize));
    let there = POOLS
        .iter()
        .take(pools)
        .filter_map(|name| fs::metadata(place.pool(name)).ok())
        .map(|file| file.len())
        .sum::<u64>();
    let wanted =
        pool_size(volume).value().saturating_mul(pools as u64).saturating_add(BESIDES.value()).saturating_sub(there);
    if free.value() < wanted {
        let wanted = Bytes::new(wanted);
        let pools = if pools == 2 { "two".to_owned() } else { pools.to_string() };
        return Err(Failure::failed(
            format!("{} has {free} free, but {pools} pools for a volume of {volume} need {wanted}", place.shown()),
            "make room, choose a smaller volume with --size, or another directory with --dir",
        ));
    }
    Ok(())
}

/// Makes what is not there yet. A quickstart that was killed meanwhile goes on here. Once complete, nothing is made
/// again: what its user deleted stays so.
pub fn complete(node: &dyn Control, place: &Place, size: Bytes) -> Result<(), Failure> {
    if !place.is_new() {
        return Ok(());
    }
    let failed = |error: ControlError| Failure::failed(error.to_string(), error.advice());
    let pools = node.pools().map_err(failed)?;
    for name in POOLS[..2].iter().filter(|name| !pools.iter().any(|pool| pool.name == **name)) {
        // Left by a creation that was cut off before the pool was recorded: nothing is in it.
        let _ = fs::remove_file(place.pool(name));
        node.create_pool(pool(place, name, size)?).map_err(failed)?;
    }
    if !node.volumes().map_err(failed)?.iter().any(|volume| volume.name == VOLUME) {
        node.create_volume(volume(size, POOLS[..2].iter().map(|&name| name.to_owned()).collect())).map_err(failed)?;
    }
    place.set_ready()
}

/// A pool in a file of the directory.
pub fn pool(place: &Place, name: &str, size: Bytes) -> Result<CreatePool, Failure> {
    let path = place.pool(name).into_os_string().into_string();
    let path = path.map_err(|_| Failure::failed("the directory's path is not UTF-8", "name another with --dir"))?;
    let disk = CreateDisk { path, size_bytes: Some(pool_size(size).value()), atomic_4k: false };
    Ok(CreatePool { name: name.into(), disks: vec![disk] })
}

/// The volume, with an image in each of these pools.
pub fn volume(size: Bytes, pools: Vec<String>) -> CreateVolume {
    CreateVolume {
        name: VOLUME.into(),
        size_bytes: size.value(),
        pools,
        block_bytes: 512,
        write_cache: true,
        min_in_sync: 1,
        when_few: WhenFew::Error,
        access: CreateAccess::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_holds_the_whole_volume_and_its_own_books() {
        assert_eq!(pool_size(Bytes::gib(1)), Bytes::mib(1024 + 128 + 128));
        assert!(pool_size(Bytes::new(u64::MAX)).value() >= u64::MAX - u64::from(REGION_BYTES));
    }

    #[test]
    fn too_little_space_is_said_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path()).unwrap();
        let failure = check_space(&place, Bytes::new(1 << 60), 2).unwrap_err();
        assert!(format!("{failure:?}").contains("need"), "{failure:?}");
        assert!(check_space(&place, Bytes::mib(1), 2).is_ok());
    }
}
