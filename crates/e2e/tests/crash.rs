//! kill -9: every acknowledged write is there afterwards (A1, P6), and both images are equal (P8).

use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::verify::{Mix, SECTOR, Writer};
use dyad_e2e::crash::{self, Plan};
use dyad_e2e::{Lab, Target as _, Volume};

const POOLS: [&str; 2] = ["a", "b"];

#[test]
fn every_acknowledged_write_survives_kills_in_the_middle_of_writes() {
    let rounds = std::env::var("DYAD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let campaign = crash::run(&Plan { rounds, seed: 99, ..Plan::default() }, |_, _| {}).unwrap();
    assert_eq!(campaign.kills, rounds);
    assert!(campaign.writes > 0);
}

#[test]
fn both_images_hold_the_same_bytes_after_a_kill_in_the_middle_of_writes() {
    let mut lab = Lab::with_pools(&POOLS, 384).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 64, &POOLS)).unwrap();
    let mut writer = Writer::new(5, (64 << 20) / SECTOR as u64, 512, 24, Mix { unmaps: 8, ..Mix::default() });
    for _ in 0..3 {
        let mut session = Disk::open(&lab.unit("v").unwrap().options()).unwrap().into_session();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.run(&mut session, Instant::now() + Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(400));
            lab.kill().unwrap();
        });
        lab.start().unwrap();
    }
    assert_eq!(unit.iqn(), lab.unit("v").unwrap().iqn());
    let mut seen = Vec::new();
    lab.with_each_alone(&POOLS, |lab, _| {
        seen.push(Disk::open(&lab.unit("v")?.options())?.read_all()?);
        Ok(())
    })
    .unwrap();
    let differ = |(a, b): (&[u8], &[u8])| a != b;
    let blocks = seen[0].chunks(4096).zip(seen[1].chunks(4096));
    assert_eq!(blocks.enumerate().find(|(_, pair)| differ(*pair)).map(|(block, _)| block), None, "block that differs");
    assert_eq!(seen[0].len(), 64 << 20);
}

#[test]
fn every_flushed_write_survives_a_kill_after_which_memory_is_gone() {
    let mut lab = Lab::with_pools(&POOLS, 384).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 64, &POOLS)).unwrap();
    let mut writer = Writer::new(7, (64 << 20) / SECTOR as u64, 512, 16, Mix::default());
    let mut session = Disk::open(&unit.options()).unwrap().into_session();
    writer.run(&mut session, Instant::now() + Duration::from_secs(2)).unwrap();
    drop(session);
    let mut disk = Disk::open(&unit.options()).unwrap();
    disk.flush().unwrap();
    lab.kill().unwrap();
    // The page cache stays, so this is not a power failure; but nothing may depend on L (P6).
    lab.forget_memory().unwrap();
    lab.start().unwrap();
    let mut session = Disk::open(&lab.unit("v").unwrap().options()).unwrap().into_session();
    let report = writer.check(&mut session).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_graceful_stop_while_a_host_writes_loses_nothing_and_ends_in_time() {
    let mut lab = Lab::with_pools(&POOLS, 384).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 64, &POOLS)).unwrap();
    let mut writer = Writer::new(8, (64 << 20) / SECTOR as u64, 512, 16, Mix::default());
    let mut session = Disk::open(&unit.options()).unwrap().into_session();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.run(&mut session, begin + Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(700));
        lab.stop().unwrap();
    });
    assert!(begin.elapsed() < Duration::from_secs(35), "{:?}", begin.elapsed());
    lab.forget_memory().unwrap();
    lab.start().unwrap();
    let mut session = Disk::open(&lab.unit("v").unwrap().options()).unwrap().into_session();
    let report = writer.check(&mut session).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(lab.volume_field("v", "/comparing_extents").unwrap(), 0, "a clean stop leaves nothing to compare");
}
