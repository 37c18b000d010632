//! Pools on block devices: loop devices stand for disks. Where none may be made, each test says that it is skipped.

use std::time::{Duration, Instant};

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::verify::{Mix, RunError, SECTOR, Writer};
use dyad_e2e::{Lab, LoopDevice, Target as _, Volume};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const SPACE_ALLOCATION_FAILED: (u8, u8, u8) = (7, 0x27, 7);

/// Devices of 256 MiB and a bit, as real ones have odd sizes, with these logical blocks.
fn devices<const N: usize>(blocks: [u32; N]) -> Option<[LoopDevice; N]> {
    let made = blocks.map(|block| LoopDevice::new(256 * MIB + 3 * u64::from(block), block).unwrap());
    made.iter().all(Option::is_some).then(|| made.map(|device| device.expect("looked at")))
}

/// A running node whose log of the machine's memory is its own.
fn lab() -> Lab {
    let mut lab = Lab::new("disk.lock_timeout = \"500ms\"").unwrap();
    lab.start().unwrap();
    lab
}

fn create_pool(lab: &Lab, name: &str, device: &LoopDevice) -> anyhow::Result<Value> {
    let disk = json!({ "path": device.path() });
    lab.admin().post("/v1/pools", &json!({ "name": name, "disks": [disk] }))
}

/// Device with 512-byte logical blocks beside one with 4096: both take the same image.
#[test]
fn everything_acknowledged_on_block_devices_is_there_after_a_kill() {
    let Some([a, b]) = devices([512, 4096]) else { return };
    let mut lab = lab();
    for (name, device) in [("a", &a), ("b", &b)] {
        let pool = create_pool(&lab, name, device).unwrap();
        assert!(pool["capacity_bytes"].as_u64().unwrap() > 200 * MIB, "{pool}");
    }
    let disks = lab.admin().get("/v1/disks").unwrap();
    for disk in disks["items"].as_array().unwrap() {
        assert_eq!((&disk["kind"], &disk["direct_io"]), (&json!("block-device"), &json!(true)), "{disk}");
        assert_eq!(disk["size_bytes"].as_u64().unwrap() % 4096, 0, "{disk}");
    }
    let sectors = 64 * MIB / SECTOR as u64;
    let mut writer = Writer::new(5, sectors, 512, 32, Mix::default());
    let mut options = lab.create_volume(&Volume::new("v", 64, &["a", "b"])).unwrap().options();
    for round in 0..4 {
        let mut session = Disk::open(&options).unwrap().into_session();
        let report = writer.check(&mut session).unwrap();
        assert!(report.is_clean(), "round {round}: {report:?}");
        let running = std::thread::spawn(move || {
            let ended = writer.run(&mut session, Instant::now() + Duration::from_secs(20));
            (writer, ended)
        });
        std::thread::sleep(Duration::from_millis(300 + 100 * round));
        lab.kill().unwrap();
        let ended;
        (writer, ended) = running.join().unwrap();
        assert!(matches!(ended, Err(RunError::Session(_))), "{ended:?}");
        lab.start().unwrap();
        options = lab.unit("v").unwrap().options();
    }
    assert!(writer.tally().writes > 100, "{:?}", writer.tally());
    let report = writer.check(Disk::open(&options).unwrap().session()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(lab.volume_field("v", "/redundancy/state").unwrap(), "redundant");
    for pool in ["a", "b"] {
        assert_eq!(lab.pool_counter(pool, "damaged_blocks").unwrap(), 0);
    }
    lab.stop().unwrap();
}

/// P15, on a device: the space is that of the device, not of a file that could grow.
#[test]
fn a_full_device_refuses_new_data_and_serves_the_rest() {
    let Some([a]) = devices([512]) else { return };
    let mut lab = lab();
    create_pool(&lab, "a", &a).unwrap();
    let options = lab.create_volume(&Volume::new("v", 1024, &["a"])).unwrap().options();
    let mut host = Disk::open(&options).unwrap();
    let full_at = (0..1024).find(|mib| match host.write(mib * 2048, vec![*mib as u8; MIB as usize]) {
        Ok(()) => false,
        Err(DiskError::Status { sense, .. }) if sense == Some(SPACE_ALLOCATION_FAILED) => true,
        Err(error) => panic!("a full device gave {error}"),
    });
    let full_at = full_at.expect("1 GiB does not fit on 256 MiB");
    assert!(full_at > 128, "full at {full_at} MiB");
    assert_eq!(host.read(7 * 2048, 2048).unwrap(), vec![7; MIB as usize]);
    host.write(7 * 2048, vec![70; MIB as usize]).unwrap();
    host.unmap(0, 4 * 2048).unwrap();
    host.flush().unwrap();
    host.write(full_at * 2048, vec![1; MIB as usize]).unwrap();
    drop(host);
    lab.stop().unwrap();
    lab.start().unwrap();
    let mut host = Disk::open(&lab.unit("v").unwrap().options()).unwrap();
    assert_eq!(host.read(7 * 2048, 2048).unwrap(), vec![70; MIB as usize]);
    assert_eq!(host.read(0, 2048).unwrap(), vec![0; MIB as usize]);
    drop(host);
    lab.stop().unwrap();
}

/// O_EXCL: a device belongs to a mount or to a pool, never to both.
#[test]
fn a_mounted_device_is_no_pool_and_a_pools_device_cannot_be_mounted() {
    let Some([a, b]) = devices([512, 512]) else { return };
    let mut lab = lab();
    a.format().unwrap();
    if let Ok(mounted) = a.mount() {
        let error = create_pool(&lab, "a", &a).unwrap_err().to_string();
        assert!(error.contains("locked by another process"), "{error}");
        drop(mounted);
    } else {
        println!("in part skipped: nothing may be mounted here");
    }
    let error = create_pool(&lab, "a", &a).unwrap_err().to_string();
    assert!(error.contains("not empty"), "a file system is not overwritten: {error}");

    create_pool(&lab, "b", &b).unwrap();
    assert!(b.mount().is_err());
    let error = b.format().unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    // Another node does not get it either, whatever it calls it.
    let mut other = self::lab();
    let error = create_pool(&other, "mine", &b).unwrap_err().to_string();
    assert!(error.contains("locked by another process"), "{error}");
    other.stop().unwrap();

    // Given up, it is free for anything.
    lab.admin().delete("/v1/pools/b").unwrap();
    b.format().unwrap();
    lab.stop().unwrap();
}
