//! Software write protection at two nodes (M20, SPC-4 §7.5.8): what a host sets at one node holds at the other from the answer
//! on, whichever is owner, through restarts, until a LOGICAL UNIT RESET.

mod cast;

use cast::Stage;
use cast::pair::{Pair, Sense, host, in_sync, patiently, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Cdb, LOGICAL_UNIT_RESET, TmfOutcome, Transfer};

const SOFTWARE_PROTECTED: Sense = (7, 0x27, 2);
const UNIT_ATTENTION: u8 = 6;

/// How a command ended that is sent again after news, and where its host is told so (M18): without effect until then.
#[track_caller]
fn ended<T>(command: impl FnMut() -> Result<T, DiskError>) -> Result<T, Option<Sense>> {
    match patiently(command, |(key, ..)| key == UNIT_ATTENTION) {
        Ok(done) => Ok(done),
        Err(DiskError::Status { sense, .. }) => Err(sense),
        Err(error) => panic!("{error}"),
    }
}

fn write(disk: &mut Disk) -> Result<(), Option<Sense>> {
    ended(|| disk.write(0, vec![1; 512]))
}

/// MODE SELECT(6) of the Control page.
fn protect(disk: &mut Disk, is_protected: bool) {
    let mut list = vec![0; 16];
    let page = [0x0a, 10, 0x02, 0x10, if is_protected { 0x08 } else { 0 }, 0, 0, 0, 0xff, 0xff, 0, 0];
    list[4..].copy_from_slice(&page);
    let mut cdb: Cdb = [0; 16];
    (cdb[0], cdb[1], cdb[4]) = (0x15, 0x10, 16);
    ended(|| disk.run("MODE SELECT", cdb, Transfer::Out(list.clone()))).unwrap();
}

/// Each in turn protects and unprotects; the other one's very next write says so.
#[test]
fn what_is_protected_at_one_node_is_protected_at_the_other() {
    let pair = Pair::new();
    let mut hosts = [host(&pair.one, 1), host(&pair.other, 2)];
    for round in 0..100 {
        let [one, other] = &mut hosts;
        let (setter, writer) = if round % 2 == 0 { (one, other) } else { (other, one) };
        protect(setter, true);
        assert_eq!(write(writer), Err(Some(SOFTWARE_PROTECTED)), "round {round}");
        assert_eq!(write(setter), Err(Some(SOFTWARE_PROTECTED)), "round {round}");
        ended(|| writer.read(0, 8)).unwrap();
        protect(setter, false);
        write(writer).unwrap();
    }
}

/// M9, M20: whoever goes and comes back, it holds; a reset at either node ends it at both.
#[test]
fn protection_outlives_its_owner_and_ends_with_a_reset() {
    let mut pair = Pair::new();
    protect(&mut host(&pair.one, 1), true);
    for round in 0..2 {
        let (goes, stays) =
            if round == 0 { (&mut pair.one, &mut pair.other) } else { (&mut pair.other, &mut pair.one) };
        goes.stop();
        assert_eq!(write(&mut host(stays, 2)), Err(Some(SOFTWARE_PROTECTED)));
        goes.start();
        wait_until("both in sync", || in_sync(stays) == 2);
        assert_eq!(write(&mut host(goes, 1)), Err(Some(SOFTWARE_PROTECTED)));
    }
    let (mut one, mut other) = (host(&pair.one, 1), host(&pair.other, 2));
    assert_eq!(one.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE);
    write(&mut other).unwrap();
    write(&mut one).unwrap();
}

/// A node alone, with nobody to tell: a reset ends it there too, and a restart does not.
#[test]
fn protection_of_a_node_alone_outlives_its_restart_and_ends_with_a_reset() {
    let mut stage = Stage::mirrored();
    protect(&mut host(&stage, 1), true);
    stage.restart();
    let mut disk = host(&stage, 1);
    assert_eq!(write(&mut disk), Err(Some(SOFTWARE_PROTECTED)));
    assert_eq!(disk.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE);
    write(&mut disk).unwrap();
    drop(disk);
    stage.restart();
    write(&mut host(&stage, 1)).unwrap();
}
