//! A detached image as a target of its own: the volume as it was at one moment, for a backup while hosts write on.

mod cast;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use cast::Stage;
use cast::pair::{Pair, Sense, in_sync, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Options, Session, Transfer, cdb};
use dyad_cluster::{InitiatorName, Right, Whom};

const WRITE_PROTECTED: Sense = (7, 0x27, 0);
/// Sectors that each of these tests writes: 8 MiB in the middle of a volume of 64 MiB, not beginning with a block.
const FIRST: u64 = 16383;
const AT_ONCE: u32 = 512;
const ROUNDS: u64 = 32;

/// A pair whose volume has something in it, and the copy of it that node `other` holds, exported.
struct Backup {
    pair: Pair,
    target: String,
    before: Vec<u8>,
}

fn fill(host: &mut Disk, byte: u8) {
    for round in 0..ROUNDS {
        let data = (0..AT_ONCE * 512).map(|at| byte ^ round as u8 ^ (at / 512) as u8).collect();
        host.write(FIRST + round * u64::from(AT_ONCE), data).unwrap();
    }
}

impl Backup {
    fn new() -> Self {
        let pair = Pair::new();
        wait_until("both in sync", || in_sync(&pair.one) == 2 && in_sync(&pair.other) == 2);
        let mut host = pair.one.host("v");
        fill(&mut host, 0x11);
        let before = host.read_all().unwrap();
        let handle = pair.one.handle();
        // Asked of the node that does not hold it.
        let refused = handle.export_image("v", "other").unwrap_err();
        assert!(refused.to_string().contains("only a detached one"), "{refused}");
        handle.detach_image("v", "other").unwrap();
        let mut target = None;
        wait_until("exported", || {
            target = handle.export_image("v", "other").ok().and_then(|image| image.export);
            target.is_some()
        });
        Self { pair, target: target.unwrap(), before }
    }

    fn options(&self, stage: &Stage) -> Options {
        Options::new(stage.portal(), &self.target)
    }

    fn reader(&self) -> Disk {
        Disk::open(&self.options(&self.pair.other)).unwrap()
    }

    fn is_offered(&self, stage: &Stage) -> bool {
        let mut session = Session::login(&Options::discovery(stage.portal())).unwrap();
        format!("{:?}", session.send_targets().unwrap()).contains(&self.target)
    }
}

fn sense<T: std::fmt::Debug>(result: Result<T, DiskError>) -> Sense {
    match result {
        Err(DiskError::Status { sense: Some(sense), .. }) => sense,
        other => panic!("{other:?}"),
    }
}

/// The NAA designator of VPD page 83h (SPC-4 §7.8.6).
fn name(disk: &mut Disk) -> Vec<u8> {
    let page = disk.run("INQUIRY", cdb::inquiry(Some(0x83), 255), Transfer::In(vec![0; 255])).unwrap().into_bytes();
    let at = page.windows(3).position(|head| head[0] == 0x01 && head[1] & 0x3f == 0x03).expect("a NAA designator");
    page[at + 4..at + 4 + usize::from(page[at + 3])].to_vec()
}

#[test]
fn a_copy_is_the_moment_of_detaching_whatever_is_written_on_and_over_restarts() {
    let mut backup = Backup::new();
    let mut live = backup.pair.one.host("v");
    fill(&mut live, 0x77);
    let mut reader = backup.reader();
    assert_eq!(reader.read_all().unwrap(), backup.before);
    assert_ne!(live.read_all().unwrap(), backup.before);
    // Another disk for multipath drivers, and a protected one (SBC-3 §4.12).
    assert_ne!(name(&mut reader), name(&mut live));
    assert_eq!(sense(reader.write(0, vec![1; 512])), WRITE_PROTECTED);
    assert_eq!(sense(reader.unmap(0, 8)), WRITE_PROTECTED);
    reader.flush().unwrap();
    assert!(backup.is_offered(&backup.pair.other) && !backup.is_offered(&backup.pair.one));
    let shown = backup.pair.one.handle().images().unwrap();
    assert_eq!(shown.iter().filter_map(|image| image.export.as_ref()).collect::<Vec<_>>(), [&backup.target]);

    backup.pair.other.restart();
    fill(&mut live, 0x99);
    let mut reader = None;
    wait_until("exported again", || {
        reader = Disk::open(&backup.options(&backup.pair.other)).ok();
        reader.is_some()
    });
    assert_eq!(reader.unwrap().read_all().unwrap(), backup.before);
}

/// What is read is of the moment or an error, never something newer: the session ends before anything of the resync is in it.
#[test]
fn a_copy_ends_with_its_sessions_when_the_image_is_reattached() {
    let backup = Backup::new();
    fill(&mut backup.pair.one.host("v"), 0x77);
    let mut reader = backup.reader();
    let (start, len) = (FIRST as usize * 512, AT_ONCE as usize * 512);
    assert_eq!(reader.read(FIRST, AT_ONCE).unwrap(), backup.before[start..start + len]);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            loop {
                match reader.read(FIRST, AT_ONCE) {
                    Ok(data) => assert!(data == backup.before[start..start + len], "newer data"),
                    Err(error) => return error,
                }
            }
        });
        backup.pair.one.handle().reattach_image("v", "other", false).unwrap();
        let error = reading.join().unwrap();
        assert!(matches!(error, DiskError::Session(_)), "{error}");
    });
    wait_until("both in sync", || in_sync(&backup.pair.one) == 2);
    assert!(Disk::open(&backup.options(&backup.pair.other)).is_err());
    assert!(!backup.is_offered(&backup.pair.other));
    // Detached again it is another moment, which nobody asked to export.
    backup.pair.one.handle().detach_image("v", "other").unwrap();
    let images = || backup.pair.one.handle().images().unwrap();
    assert!(images().iter().all(|image| image.export.is_none()));
    wait_until("forgotten", || {
        let kept = std::fs::read_to_string(backup.pair.other.settings.data_dir.join("exports")).unwrap();
        kept.lines().count() == 2
    });
    assert!(images().iter().all(|image| image.export.is_none()));
}

#[test]
fn a_copy_is_for_the_hosts_of_the_volume_until_an_administrator_ends_it() {
    let backup = Backup::new();
    let handle = backup.pair.one.handle();
    let stranger = backup.reader();
    let as_host = |name: &str| Options { initiator: name.into(), ..backup.options(&backup.pair.other) };
    let allowed = "iqn.2026-11.example:backup";
    handle.change_access("v", Whom::Host(InitiatorName::new(allowed).unwrap()), Some(Right::ReadOnly)).unwrap();
    wait_until("the stranger is out", || Disk::open(&as_host("iqn.2026-11.example:stranger")).is_err());
    let mut stranger = stranger;
    wait_until("its session is closed", || stranger.read(0, 1).is_err());
    let mut reader = Disk::open(&as_host(allowed)).unwrap();
    assert_eq!(reader.read_all().unwrap(), backup.before);
    assert!(handle.unexport_image("v", "other").unwrap().export.is_none());
    assert!(matches!(reader.read(0, 1), Err(DiskError::Session(_))));
    assert!(Disk::open(&as_host(allowed)).is_err());
    let again = handle.unexport_image("v", "other").unwrap_err();
    assert!(again.to_string().contains("not exported"), "{again}");
    // It was ended by hand, and is begun by hand.
    assert_eq!(handle.export_image("v", "other").unwrap().export.as_ref(), Some(&backup.target));
    handle.remove_image("v", "other", true, false).unwrap();
    wait_until("gone with the image", || !backup.is_offered(&backup.pair.other));
}

/// P7, P14: there is no other image to ask, so what is damaged is a medium error, and what is not is read.
#[test]
fn a_damaged_block_of_a_copy_is_a_medium_error_and_never_wrong_data() {
    let backup = Backup::new();
    let block = FIRST.next_multiple_of(8) + 800;
    let at = block as usize * 512;
    let (wanted, path) = (&backup.before[at..at + 4096], backup.pair.other.pool_path("b"));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let found: Vec<_> = (0..bytes.len()).step_by(4096).filter(|&at| &bytes[at..at + 4096] == wanted).collect();
    assert!(!found.is_empty(), "the block is not in the pool");
    for at in found {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    }
    file.sync_all().unwrap();
    let mut reader = backup.reader();
    // UNRECOVERED READ ERROR (SBC-3 §4.18).
    let (key, code, _) = sense(reader.read(block, 8));
    assert_eq!((key, code), (3, 0x11));
    assert_eq!(reader.read(block - 8, 8).unwrap(), backup.before[at - 4096..at]);
}
