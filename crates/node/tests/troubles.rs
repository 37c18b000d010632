//! Pools that are missing, locked, foreign or full, and ends in the middle of work.

mod cast;

use std::time::{Duration, Instant};

use cast::Stage;
use dyad_bench::disk::DiskError;
use dyad_bench::initiator::{Transfer, cdb};
use dyad_node::control::{CreatePool, CreatePoolError, CreateVolume, CreateVolumeError, PoolPhase, VolumePhase};
use dyad_node::settings::BackendChoice;
use dyad_units::{Bytes, Period};

#[test]
fn a_volume_is_served_from_the_pool_that_is_left() {
    let mut stage = Stage::mirrored();
    let mut host = stage.host("v");
    host.write(0, vec![9; 8192]).unwrap();
    host.flush().unwrap();
    drop(host);
    stage.stop();
    let hidden = stage.dir.path().join("hidden");
    std::fs::rename(stage.pool_path("a"), &hidden).unwrap();
    stage.start();
    let pool = stage.handle().pool("a").unwrap();
    assert!(matches!(&pool.phase, PoolPhase::Failed { reason } if reason.contains("missing")), "{:?}", pool.phase);
    let mut host = stage.host("v");
    assert_eq!(host.read(0, 16).unwrap(), vec![9; 8192]);
    host.write(16, vec![8; 512]).unwrap();
    let volume = stage.handle().volume("v").unwrap();
    assert_eq!((volume.redundancy.in_sync, volume.redundancy.wanted), (1, 2), "{:?}", volume.redundancy);
    drop(host);
    // The image that was away has not seen what was written meanwhile: it catches up, and has everything then.
    stage.stop();
    std::fs::rename(&hidden, stage.pool_path("a")).unwrap();
    stage.start();
    assert_eq!(stage.handle().pool("a").unwrap().phase, PoolPhase::Open);
    assert_eq!(stage.host("v").read(16, 1).unwrap(), vec![8; 512]);
    wait_for_images(&stage, 2);
    stage.stop();
    std::fs::rename(stage.pool_path("b"), &hidden).unwrap();
    stage.start();
    let mut host = stage.host("v");
    assert_eq!((host.read(0, 16).unwrap(), host.read(16, 1).unwrap()), (vec![9; 8192], vec![8; 512]));
}

/// Waits until so many images of the volume `v` are in sync.
fn wait_for_images(stage: &Stage, count: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.handle().volume("v").unwrap().redundancy.in_sync != count {
        assert!(Instant::now() < deadline, "{:?}", stage.handle().volume("v").unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a pool is in use again, by itself.
fn wait_for_pool(stage: &Stage, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.handle().pool(name).unwrap().phase != PoolPhase::Open {
        assert!(Instant::now() < deadline, "{:?}", stage.handle().pool(name).unwrap().phase);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Only a restart of the node opened a pool whose disk had been missing at its start.
#[test]
fn a_disk_that_comes_back_brings_its_pool_and_a_volume_that_waited_for_it() {
    let mut stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    stage.host("v").write(0, vec![9; 4096]).unwrap();
    stage.stop();
    let hidden = stage.dir.path().join("hidden");
    std::fs::rename(stage.pool_path("a"), &hidden).unwrap();
    stage.start();
    let volume = stage.handle().volume("v").unwrap();
    assert!(matches!(volume.phase, VolumePhase::Failed { .. }), "{:?}", volume.phase);
    assert!(volume.images[0].reason.as_ref().is_some_and(|reason| reason.contains("not there")), "{:?}", volume.images);
    std::fs::rename(&hidden, stage.pool_path("a")).unwrap();
    wait_for_pool(&stage, "a");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !matches!(stage.handle().volume("v").unwrap().phase, VolumePhase::Serving { comparing: 0 }) {
        assert!(Instant::now() < deadline, "{:?}", stage.handle().volume("v").unwrap().phase);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.host("v").read(0, 8).unwrap(), vec![9; 4096]);
    assert_eq!(stage.handle().volume("v").unwrap().redundancy.in_sync, 1);
}

#[test]
fn a_pool_is_opened_when_somebody_asks_and_its_image_catches_up() {
    let mut stage = Stage::mirrored();
    stage.stop();
    let hidden = stage.dir.path().join("hidden");
    std::fs::rename(stage.pool_path("a"), &hidden).unwrap();
    stage.start();
    let mut host = stage.host("v");
    host.write(0, vec![7; 4096]).unwrap();
    let error = stage.handle().open_pool("a").unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    std::fs::rename(&hidden, stage.pool_path("a")).unwrap();
    assert_eq!(stage.handle().open_pool("a").unwrap().phase, PoolPhase::Open);
    assert_eq!(stage.handle().open_pool("a").unwrap().phase, PoolPhase::Open, "asked twice");
    assert!(stage.handle().open_pool("none").is_err());
    // The session goes on, served by the image that has everything, until the other has it too: then by that one alone.
    assert_eq!(host.read(0, 8).unwrap(), vec![7; 4096]);
    wait_for_images(&stage, 2);
    assert!(stage.handle().images().unwrap().iter().all(|image| image.state == "in-sync" && image.reason.is_none()));
    host.write(8, vec![6; 4096]).unwrap();
    drop(host);
    stage.stop();
    std::fs::rename(stage.pool_path("b"), &hidden).unwrap();
    stage.start();
    let mut host = stage.host("v");
    assert_eq!((host.read(0, 8).unwrap(), host.read(8, 8).unwrap()), (vec![7; 4096], vec![6; 4096]));
}

/// The logs of deleted pools stayed in memory until the machine restarted.
#[test]
fn a_pool_that_is_deleted_leaves_no_log_even_without_its_disk() {
    let mut stage = Stage::new();
    stage.add_pool("a");
    stage.add_pool("b");
    let log_of = |stage: &Stage, pool: &str| stage.handle().pool(pool).unwrap().log.unwrap().path;
    let (a, b) = (log_of(&stage, "a"), log_of(&stage, "b"));
    assert!(a.exists() && b.exists());
    stage.handle().delete_pool("a", false).unwrap();
    assert!(!a.exists());
    stage.stop();
    std::fs::remove_file(stage.pool_path("b")).unwrap();
    stage.start();
    assert!(b.exists(), "a disk that is missing may come back and need it");
    stage.handle().delete_pool("b", false).unwrap();
    assert!(!b.exists());
}

#[test]
fn nobody_else_gets_a_pool_and_we_get_nobody_elses() {
    let first = Stage::mirrored();
    let mut second = Stage::with(|settings| settings.disk.lock_timeout = Period::from_millis(100));
    let taken = CreatePool { path: first.pool_path("a"), size: None, ..second.pool("mine") };
    let error = second.handle().create_pool(taken.clone()).unwrap_err();
    assert!(matches!(error, CreatePoolError::Disk { .. }), "{error}");
    drop(first.handle().clone());
    let path = first.pool_path("a");
    let copy = second.dir.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let error = second.handle().create_pool(CreatePool { path: copy, ..taken }).unwrap_err();
    assert!(matches!(error, CreatePoolError::NotEmpty { .. }), "{error}");
    second.restart();
    assert!(second.handle().pools().unwrap().is_empty());
}

#[test]
fn what_cannot_be_made_is_said_and_leaves_nothing() {
    let stage = Stage::new();
    let refused = |request: CreatePool| stage.handle().create_pool(request).unwrap_err();
    assert!(matches!(refused(stage.pool("No Good")), CreatePoolError::BadName { .. }));
    assert!(matches!(refused(CreatePool { size: None, ..stage.pool("a") }), CreatePoolError::SizeMissing { .. }));
    let huge = CreatePool { size: Some(Bytes::gib(1 << 20)), ..stage.pool("a") };
    assert!(matches!(refused(huge), CreatePoolError::Disk { .. }));
    let tiny = CreatePool { size: Some(Bytes::kib(4)), ..stage.pool("a") };
    assert!(matches!(refused(tiny), CreatePoolError::Format { .. }));
    assert!(!stage.pool_path("a").exists());
    stage.add_pool("a");
    assert!(matches!(refused(stage.pool("a")), CreatePoolError::NameTaken { .. }));
    let again = CreatePool { name: "b".into(), size: None, ..stage.pool("a") };
    assert!(matches!(refused(again), CreatePoolError::PathTaken { .. }));

    let refused = |request: CreateVolume| stage.handle().create_volume(request).unwrap_err();
    assert!(matches!(refused(stage.volume("v", &["none"])), CreateVolumeError::Node(_)));
    assert!(matches!(refused(stage.volume("v", &["a", "a"])), CreateVolumeError::BadRequest { .. }));
    assert!(matches!(refused(stage.volume("v", &[])), CreateVolumeError::BadRequest { .. }));
    let empty = CreateVolume { size: Bytes::ZERO, ..stage.volume("v", &["a"]) };
    assert!(matches!(refused(empty), CreateVolumeError::BadSize { .. }));
    let odd = CreateVolume { block_bytes: 520, ..stage.volume("v", &["a"]) };
    assert!(matches!(refused(odd), CreateVolumeError::BadRequest { .. }));
    let few = CreateVolume { min_in_sync: 2, ..stage.volume("v", &["a"]) };
    assert!(matches!(refused(few), CreateVolumeError::BadRequest { .. }));
    stage.add_volume("v", &["a"]);
    assert!(matches!(refused(stage.volume("v", &["a"])), CreateVolumeError::NameTaken { .. }));
    assert_eq!(stage.handle().volumes().unwrap().len(), 1);
}

/// P15: a full pool refuses writes that need space; everything else goes on.
#[test]
fn a_full_pool_refuses_new_data_and_serves_the_rest() {
    let stage = Stage::new();
    stage.add_pool("a");
    let size = Bytes::gib(1);
    stage.handle().create_volume(CreateVolume { size, ..stage.volume("v", &["a"]) }).unwrap();
    let mut host = stage.host("v");
    let mut full_at = None;
    for mib in 0..1024_u64 {
        if let Err(error) = host.write(mib * 2048, vec![mib as u8; 1 << 20]) {
            let is_space = matches!(error, DiskError::Status { sense: Some((0x07, 0x27, 0x07)), .. });
            assert!(is_space, "not SPACE ALLOCATION FAILED: {error}");
            full_at = Some(mib);
            break;
        }
    }
    let full_at = full_at.expect("256 MiB of pool are full before 1 GiB is written");
    assert!(full_at > 128);
    assert_eq!(host.read(0, 2048).unwrap(), vec![0; 1 << 20]);
    host.write(0, vec![1; 4096]).unwrap();
    host.unmap(2048, 8 * 2048).unwrap();
    host.flush().unwrap();
    host.write(full_at * 2048, vec![3; 1 << 20]).unwrap();
    assert!(matches!(stage.handle().volume("v").unwrap().phase, VolumePhase::Serving { .. }));
}

/// Every write acknowledged before an end in good order is there after it, flushed or not.
#[test]
fn an_end_in_the_middle_of_writes_loses_nothing_acknowledged() {
    for backend in [BackendChoice::IoUring, BackendChoice::Threads] {
        let mut stage = Stage::with(|settings| settings.disk.backend = backend);
        stage.add_pool("a");
        stage.add_pool("b");
        stage.add_volume("v", &["a", "b"]);
        let options = stage.login("v");
        let writer = std::thread::spawn(move || {
            let mut host = dyad_bench::disk::Disk::open(&options).unwrap();
            let mut acknowledged = Vec::new();
            for n in 0..1_000_000_u64 {
                let block = n * 37 % 800;
                let (lba, byte) = (block * 8, (block % 250) as u8 + 1);
                if host.write(lba, vec![byte; 4096]).is_err() {
                    break;
                }
                acknowledged.push((lba, byte));
            }
            acknowledged
        });
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        stage.stop();
        assert!(begun.elapsed() < Duration::from_secs(10), "the end took {:?}", begun.elapsed());
        let acknowledged = writer.join().unwrap();
        assert!(acknowledged.len() > 100, "{}", acknowledged.len());
        stage.start();
        let last: std::collections::BTreeMap<_, _> = acknowledged.into_iter().collect();
        let mut host = stage.host("v");
        for (lba, byte) in last {
            let seen = host.read(lba, 8).unwrap();
            assert!(seen.iter().all(|&seen| seen == byte), "block {lba}");
        }
    }
}

/// Hosts that together want more memory than there is wait for each other; all come to their end.
#[test]
fn more_data_than_memory_is_taken_bit_by_bit() {
    let stage = Stage::with(|settings| settings.buffers = Bytes::mib(64));
    stage.add_pool("a");
    stage.add_pool("b");
    stage.add_volume("v", &["a", "b"]);
    let options = stage.login("v");
    let hosts: Vec<_> = (0..4_u32)
        .map(|number| {
            let options = dyad_bench::initiator::Options { session: number, ..options.clone() };
            std::thread::spawn(move || {
                let mut host = dyad_bench::disk::Disk::open(&options).unwrap();
                let (mut sent, mut done) = (0, 0);
                while done < 64 {
                    while sent < 64 && host.session().in_flight() < 32 {
                        let lba = (u64::from(number) * 16 + sent % 16) * 2048;
                        let data = Transfer::Out(vec![number as u8 + 1; 1 << 20]);
                        host.session().submit(sent, cdb::write(lba, 2048), data).unwrap();
                        sent += 1;
                    }
                    match host.session().wait().unwrap().status {
                        0 => done += 1,
                        0x28 | 0x08 => {
                            // TASK SET FULL or BUSY: send it again.
                            let data = Transfer::Out(vec![number as u8 + 1; 1 << 20]);
                            let lba = u64::from(number) * 16 * 2048;
                            host.session().submit(1000, cdb::write(lba, 2048), data).unwrap();
                        }
                        status => panic!("status {status:#x}"),
                    }
                }
            })
        })
        .collect();
    hosts.into_iter().for_each(|host| host.join().unwrap());
    let mut host = stage.host("v");
    for number in 0..4_u64 {
        assert_eq!(host.read(number * 16 * 2048, 2048).unwrap(), vec![number as u8 + 1; 1 << 20]);
    }
    assert!(stage.handle().node().unwrap().buffers_held <= Bytes::mib(64));
}

/// P3: space that was unmapped is had again, although its slots are free only when that is committed.
#[test]
fn a_nearly_full_pool_takes_what_was_unmapped_a_moment_before() {
    let stage = Stage::new();
    stage.add_pool("a");
    let size = Bytes::gib(1);
    stage.handle().create_volume(CreateVolume { size, ..stage.volume("v", &["a"]) }).unwrap();
    let mut host = stage.host("v");
    let full_at = (0..1024).find(|mib| host.write(mib * 2048, vec![1; 1 << 20]).is_err()).unwrap();
    for round in 0..200_u64 {
        let at = round * 7 % (full_at - 1);
        host.unmap(at * 2048, 2048).unwrap();
        host.write(at * 2048, vec![round as u8; 1 << 20]).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}
