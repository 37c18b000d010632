//! The harness proves itself on tgt: what fails here is no fault of Dyad's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::flood::{DEPTHS, Flood};
use dyad_bench::hold::Held;
use dyad_bench::initiator::{ABORT_TASK, LOGICAL_UNIT_RESET, Options, Session, TmfOutcome};
use dyad_bench::verify::{Mix, RunError, SECTOR, Writer};
use dyad_e2e::{Target as _, Tgt, scenario, tools};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Peer {
    tgt: Option<Tgt>,
    backing: PathBuf,
    dir: TempDir,
}

impl Peer {
    fn start(mib: u64) -> Option<Self> {
        if !tools::has_peer() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("unit");
        File::create(&backing).unwrap().set_len(mib * MIB).unwrap();
        let tgt = Some(Tgt::start(dir.path(), &backing).unwrap());
        Some(Self { tgt, backing, dir })
    }

    fn tgt(&self) -> &Tgt {
        self.tgt.as_ref().unwrap()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn restart(&mut self) {
        if let Some(tgt) = self.tgt.take() {
            tgt.kill().unwrap();
        }
        self.tgt = Some(Tgt::start(self.dir.path(), &self.backing).unwrap());
    }
}

#[test]
fn discovery_shows_the_target_and_a_session_reads_what_it_wrote() {
    let Some(peer) = Peer::start(16) else { return };
    let mut discovery = Session::login(&Options::discovery(peer.tgt().portal())).unwrap();
    assert_eq!(discovery.send_targets().unwrap().find("TargetName"), Some(peer.tgt().iqn()));
    discovery.logout().unwrap();

    let mut disk = Disk::open(&peer.tgt().options()).unwrap();
    assert_eq!(disk.capacity().bytes(), 16 * MIB);
    disk.write(100, vec![7; 3 * SECTOR]).unwrap();
    disk.flush().unwrap();
    assert_eq!(disk.read(100, 3).unwrap(), vec![7; 3 * SECTOR]);
    assert_eq!(disk.session().ping(b"are you there").unwrap(), b"are you there");
    disk.logout().unwrap();
}

#[test]
fn large_writes_go_by_immediate_unsolicited_and_solicited_data() {
    let Some(peer) = Peer::start(16) else { return };
    for (immediate_data, initial_r2t) in [(true, false), (true, true), (false, false), (false, true)] {
        let options = Options { immediate_data, initial_r2t, first_burst: 16_384, ..peer.tgt().options() };
        let mut disk = Disk::open(&options).unwrap();
        let data: Vec<u8> = (0..2 * MIB).map(|at| (at / 511) as u8).collect();
        disk.write(0, data.clone()).unwrap();
        assert!(disk.read(0, (2 * MIB / 512) as u32).unwrap() == data, "{immediate_data} {initial_r2t}");
        disk.logout().unwrap();
    }
}

#[test]
fn the_verifying_writer_finds_nothing_wrong_across_kills() {
    let Some(mut peer) = Peer::start(32) else { return };
    let mut writer = Writer::new(1, 32 * MIB / SECTOR as u64, 512, 16, Mix { unmaps: 0, ..Mix::default() });
    for _ in 0..3 {
        let mut session = Disk::open(&peer.tgt().options()).unwrap().into_session();
        let until = Instant::now() + Duration::from_secs(60);
        let ended = std::thread::scope(|scope| {
            let worker = scope.spawn(|| writer.run(&mut session, until));
            std::thread::sleep(Duration::from_millis(300));
            peer.restart();
            worker.join().unwrap()
        });
        assert!(matches!(ended, Err(RunError::Session(_))), "{ended:?}");
        let mut session = Disk::open(&peer.tgt().options()).unwrap().into_session();
        let report = writer.check(&mut session).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    assert!(writer.tally().writes > 100 && writer.tally().refused == 0, "{:?}", writer.tally());
}

#[test]
fn the_verifying_writer_finds_a_single_wrong_byte_and_a_write_that_is_gone() {
    let Some(mut peer) = Peer::start(8) else { return };
    let mut writer = Writer::new(2, 8 * MIB / SECTOR as u64, 512, 4, Mix { unmaps: 0, ..Mix::default() });
    let mut session = Disk::open(&peer.tgt().options()).unwrap().into_session();
    writer.prefill(&mut session).unwrap();
    drop(session);
    let backing = peer.backing.clone();
    peer.tgt.take().unwrap().kill().unwrap();
    let mut bytes = std::fs::read(&backing).unwrap();
    bytes[5_000_000] ^= 1;
    bytes[4096..8192].fill(0);
    std::fs::write(&backing, bytes).unwrap();
    peer.restart();
    let mut session = Disk::open(&peer.tgt().options()).unwrap().into_session();
    let report = writer.check(&mut session).unwrap();
    assert_eq!(report.wrong, 1 + 8, "{report:?}");
}

#[test]
fn task_management_is_answered() {
    let Some(peer) = Peer::start(8) else { return };
    let mut disk = Disk::open(&peer.tgt().options()).unwrap();
    let outcome = disk.session().manage(ABORT_TASK, None).unwrap();
    assert_eq!(outcome, TmfOutcome::NO_TASK);
    assert_eq!(disk.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE);
}

#[test]
fn sessions_are_held_and_logins_stay_half_open() {
    let Some(peer) = Peer::start(8) else { return };
    let held = Held::open(&peer.tgt().options(), 8).unwrap();
    let flood = Flood::open(peer.tgt().portal(), 40, &DEPTHS).unwrap();
    assert_eq!((held.alive(), flood.len()), (8, 40));
    Disk::open(&peer.tgt().options()).unwrap().logout().unwrap();
}

#[test]
fn qemu_img_copies_an_image_onto_the_unit_and_back() {
    let Some(peer) = Peer::start(64) else { return };
    if tools::has(&["qemu-img"]) {
        scenario::qemu_img_round_trip(peer.tgt(), peer.path(), 64).unwrap();
    }
}

#[test]
fn fio_verifies_through_the_bridge() {
    let Some(peer) = Peer::start(64) else { return };
    if tools::has(&["fio", "qemu-storage-daemon"]) {
        scenario::fio_verify(peer.tgt(), peer.path(), 64, 120).unwrap();
    }
}
