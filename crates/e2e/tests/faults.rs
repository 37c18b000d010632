//! Disks that lie, fill, vanish or belong to somebody else: right data, or a clear error.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::Options;
use dyad_bench::random::Random;
use dyad_bench::verify::{Mix, SECTOR, Writer, value_of};
use dyad_e2e::{Lab, Target as _, Volume, wait};
use serde_json::Value;

const POOLS: [&str; 2] = ["a", "b"];
const MIB: u64 = 1 << 20;
const SEED: u64 = 21;
/// Sense keys (SPC-4 §4.5.6) with additional codes.
const MEDIUM_ERROR: u8 = 3;
const SPACE_ALLOCATION_FAILED: (u8, u8, u8) = (7, 0x27, 7);

/// Two pools, a mirrored volume whose every block was written once and flushed, and the writer that knows it.
struct Mirrored {
    lab: Lab,
    writer: Writer,
}

impl Mirrored {
    fn filled(mib: u64) -> Self {
        let lab = Lab::with_pools(&POOLS, 2 * mib + 192).unwrap();
        let unit = lab.create_volume(&Volume::new("v", mib, &POOLS)).unwrap();
        let mut writer = Writer::new(SEED, mib * MIB / SECTOR as u64, 512, 16, Mix::default());
        let mut session = Disk::open(&unit.options()).unwrap().into_session();
        writer.prefill(&mut session).unwrap();
        writer.run(&mut session, Instant::now() + Duration::from_millis(500)).unwrap();
        session.logout().unwrap();
        Self { lab, writer }
    }

    fn options(&self) -> Options {
        self.lab.unit("v").unwrap().options()
    }

    fn assert_reads_right(&mut self) {
        let mut session = Disk::open(&self.options()).unwrap().into_session();
        let report = self.writer.check(&mut session).unwrap();
        assert!(report.is_clean(), "{report:?}");
        session.logout().unwrap();
    }
}

/// Offsets in a pool's file of sectors that hold data of ours: (offset, sector of the volume).
fn data_sectors(file: &Path, sectors: u64) -> Vec<(u64, u64)> {
    let bytes = fs::read(file).unwrap();
    let mut found = Vec::new();
    for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
        let lba = u64::from_le_bytes(*sector.first_chunk().unwrap());
        if lba < sectors && value_of(SEED, lba, sector).is_some_and(|value| value != 0) {
            found.push((index as u64 * SECTOR as u64, lba));
        }
    }
    found
}

fn flip(file: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, offset).unwrap();
}

/// Where a pool's superblocks, journal and first metadata are.
fn head(file: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 8 * MIB as usize];
    let len = File::open(file).unwrap().read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

fn troubles(lab: &Lab) -> String {
    lab.admin().get("/v1/status").unwrap()["troubles"].to_string()
}

fn state(lab: &Lab) -> Value {
    lab.volume_field("v", "/redundancy/state").unwrap()
}

#[test]
fn flipped_bytes_in_the_data_of_one_image_are_answered_from_the_other_counted_and_healed() {
    let mut scene = Mirrored::filled(32);
    scene.lab.stop().unwrap();
    let file = scene.lab.pool_file("a");
    let places = data_sectors(&file, 32 * MIB / SECTOR as u64);
    assert!(places.len() > 10_000, "only {} sectors of ours found in the pool", places.len());
    let mut random = Random::new(1);
    for _ in 0..64 {
        let (offset, _) = places[random.below(places.len() as u64) as usize];
        flip(&file, offset + 16 + random.below(SECTOR as u64 - 16));
    }
    scene.lab.start().unwrap();
    scene.assert_reads_right();
    // Reads are answered at once, and healing follows (P14).
    let counted = |counter| scene.lab.pool_counter("a", counter).unwrap();
    let is_healed =
        || (counted("damaged_blocks") > 0 && counted("healed_blocks") == counted("damaged_blocks")).then_some(());
    wait::until("all damaged blocks are healed", Duration::from_secs(20), is_healed).unwrap();

    // Healed on disk, not only answered: after a restart nothing is damaged any more.
    scene.lab.stop().unwrap();
    scene.lab.start().unwrap();
    scene.assert_reads_right();
    assert_eq!(scene.lab.pool_counter("a", "damaged_blocks").unwrap(), 0);
}

#[test]
fn a_block_that_is_bad_on_both_images_is_a_medium_error_and_nothing_else_is() {
    let mut scene = Mirrored::filled(16);
    scene.lab.stop().unwrap();
    let sectors = 16 * MIB / SECTOR as u64;
    let (_, lba) = data_sectors(&scene.lab.pool_file("a"), sectors)[500];
    for pool in POOLS {
        let file = scene.lab.pool_file(pool);
        // Older copies of the sector may lie in slots that were given back; all are spoilt.
        for (offset, _) in data_sectors(&file, sectors).iter().filter(|(_, found)| *found == lba) {
            flip(&file, offset + 40);
        }
    }
    scene.lab.start().unwrap();
    let mut disk = Disk::open(&scene.options()).unwrap();
    let block = lba / 8 * 8;
    match disk.read(block, 8) {
        Err(DiskError::Status { sense: Some((key, ..)), .. }) => assert_eq!(key, MEDIUM_ERROR),
        other => panic!("a block bad on both images gave {other:?}"),
    }
    for neighbour in [block.wrapping_sub(8), block + 8].into_iter().filter(|at| *at < sectors) {
        disk.read(neighbour, 8).unwrap();
    }
    // Overwriting is the way out (M15).
    disk.write(block, vec![5; 4096]).unwrap();
    assert_eq!(disk.read(block, 8).unwrap(), vec![5; 4096]);
}

#[test]
fn a_flipped_byte_anywhere_in_a_pool_gives_right_data_or_a_clear_refusal() {
    let mut scene = Mirrored::filled(8);
    scene.lab.stop().unwrap();
    let saved = scene.lab.save().unwrap();
    let file = scene.lab.pool_file("a");
    let len = fs::metadata(&file).unwrap().len();
    let bytes = fs::read(&file).unwrap();
    let used: Vec<u64> =
        (0..len / 4096).filter(|at| bytes[*at as usize * 4096..][..4096].iter().any(|b| *b != 0)).collect();
    let mut random = Random::new(77);
    for round in 0..12 {
        // The first pages hold what describes the pool; the rest is drawn from all that is not zero.
        let page = if round < 4 { used[round] } else { used[random.below(used.len() as u64) as usize] };
        let offset = page * 4096 + random.below(4096);
        flip(&file, offset);
        scene.lab.start().unwrap_or_else(|error| panic!("byte {offset} flipped: {error:#}"));
        scene.assert_reads_right();
        scene.lab.stop().unwrap();
        scene.lab.restore(&saved).unwrap();
    }
}

#[test]
fn a_full_pool_refuses_new_blocks_but_goes_on_and_deleting_makes_room() {
    let lab = Lab::with_pools(&["a"], 128).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 1024, &["a"])).unwrap();
    let mut disk = Disk::open(&unit.options()).unwrap();
    let megabyte = 2048;
    let mut written = 0;
    let refused = loop {
        assert!(written < 1024, "a pool of 128 MiB took a whole GiB");
        match disk.write(written * megabyte, vec![written as u8 + 1; MIB as usize]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(written > 32, "full after {written} MiB");
    match refused {
        DiskError::Status { sense, .. } => assert_eq!(sense, Some(SPACE_ALLOCATION_FAILED), "P15"),
        other => panic!("{other}"),
    }
    for at in 0..written {
        assert_eq!(disk.read(at * megabyte, 8).unwrap(), vec![at as u8 + 1; 4096], "reads go on (P15)");
    }
    disk.write(0, vec![99; 64 * 1024]).unwrap();
    disk.flush().unwrap();
    // Unmapping makes room as well.
    disk.unmap(megabyte, 8 * megabyte as u32).unwrap();
    disk.flush().unwrap();
    disk.write(600 * megabyte, vec![7; MIB as usize]).unwrap();
    disk.logout().unwrap();
    lab.admin().delete("/v1/volumes/v").unwrap();
    let unit = lab.create_volume(&Volume::new("w", 64, &["a"])).unwrap();
    let mut disk = Disk::open(&unit.options()).unwrap();
    disk.write(0, vec![1; 8 * MIB as usize]).unwrap();
    disk.flush().unwrap();
}

#[test]
fn a_missing_pool_is_said_and_the_other_image_serves() {
    let mut scene = Mirrored::filled(16);
    scene.lab.create_volume(&Volume::new("only-a", 16, &["a"])).unwrap();
    scene.lab.create_volume(&Volume::new("only-b", 16, &["b"])).unwrap();
    scene.lab.stop().unwrap();
    fs::rename(scene.lab.pool_file("a"), scene.lab.path("elsewhere")).unwrap();
    scene.lab.start().unwrap();
    scene.assert_reads_right();
    assert_eq!(state(&scene.lab), "reduced");
    assert_eq!(scene.lab.volume_field("only-a", "/redundancy/state").unwrap(), "unavailable");
    // Its hosts may log in, and are told to wait.
    let unreachable = Disk::open(&scene.lab.unit("only-a").unwrap().options()).and_then(|mut disk| disk.read(0, 8));
    println!("{unreachable:?}");
    assert!(matches!(unreachable, Err(DiskError::Status { .. })), "{unreachable:?}");
    Disk::open(&scene.lab.unit("only-b").unwrap().options()).unwrap().write(0, vec![1; 4096]).unwrap();
    let said = troubles(&scene.lab);
    assert!(said.contains("pool a") && said.contains("a.pool"), "{said}");
}

#[test]
fn foreign_empty_damaged_and_newer_disks_are_refused_each_by_its_name_and_left_alone() {
    let mut scene = Mirrored::filled(8);
    scene.lab.stop().unwrap();
    let saved = scene.lab.save().unwrap();
    let file = scene.lab.pool_file("a");
    let len = fs::metadata(&file).unwrap().len();
    let mut said = Vec::new();
    let noise = |file: &Path| {
        let mut random = Random::new(3);
        let bytes: Vec<u8> = (0..4 * MIB).map(|_| random.bits() as u8).collect();
        File::options().write(true).open(file).unwrap().write_all_at(&bytes, 0).unwrap();
    };
    let empty = |file: &Path| File::create(file).unwrap().set_len(len).unwrap();
    let short = |file: &Path| File::options().write(true).open(file).unwrap().set_len(len / 2).unwrap();
    let other = |file: &Path| {
        fs::copy(file.with_file_name("b.pool"), file).unwrap();
    };
    // Both homes of the superblock say version 2 (docs/on-disk-format.md).
    let newer = |file: &Path| {
        let file = File::options().write(true).open(file).unwrap();
        [0, 64 << 10].into_iter().for_each(|home| file.write_all_at(&2_u32.to_le_bytes(), home + 8).unwrap());
    };
    for what in ["noise", "zeros", "half of it", "a newer format", "the other pool"] {
        match what {
            "noise" => noise(&file),
            "zeros" => empty(&file),
            "half of it" => short(&file),
            "a newer format" => newer(&file),
            _ => other(&file),
        }
        let before = head(&file);
        scene.lab.start().unwrap_or_else(|error| panic!("with {what} for a pool: {error:#}"));
        scene.assert_reads_right();
        let pool = scene.lab.admin().get("/v1/pools/a").unwrap();
        assert_ne!(pool["health"], "online", "{what}");
        said.push(pool["reason"].as_str().unwrap_or_default().to_owned());
        scene.lab.stop().unwrap();
        assert!(head(&file) == before, "{what} was changed, though refused");
        scene.lab.restore(&saved).unwrap();
    }
    assert!(said.iter().all(|reason| !reason.is_empty()), "{said:?}");
    assert!(said[3].contains("version 2") && said[3].contains("newer"), "{}", said[3]);
    scene.lab.start().unwrap();
    // Whoever was taken out while its pool was away stays out of the records restored with it: nothing is lost.
    scene.assert_reads_right();
}

#[test]
fn two_processes_never_open_the_same_pool() {
    let mut scene = Mirrored::filled(8);
    scene.lab.stop().unwrap();
    let mut second = Lab::new("disk.lock_timeout = \"1 s\"").unwrap();
    // The second has the first one's records, and so the paths of its pools.
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&scene.lab.path("data"), &second.path("data"));
    scene.lab.start().unwrap();
    second.launch().unwrap();
    let admin = second.admin();
    let refused =
        second.process().unwrap().until("the second says why it has no pools", Duration::from_secs(30), |it| {
            if it.output().contains("lock") {
                return Some(());
            }
            let status = admin.get("/v1/status").ok()?;
            status["troubles"].to_string().contains("lock").then_some(())
        });
    if let Err(error) = refused {
        // Ending with a clear word is as good as running without pools.
        assert!(second.log().contains("lock"), "{error:#}");
    }
    scene.assert_reads_right();
    assert_eq!(state(&scene.lab), "redundant");
}
