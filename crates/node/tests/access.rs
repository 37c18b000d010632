//! Who may use a volume is changed while hosts use it, at whichever node they are logged in.

mod cast;

use cast::Stage;
use cast::pair::{Pair, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{ABORT_TASK_SET, LOGICAL_UNIT_RESET, Options, Session, TmfOutcome, Transfer, cdb};
use dyad_cluster::{InitiatorName, Right, Whom};

const HOST: &str = "iqn.2004-10.com.example:host";
const OTHER: &str = "iqn.2004-10.com.example:other";
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0);
const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const NO_SUCH_UNIT: (u8, u8, u8) = (5, 0x25, 0);
const REJECTED: TmfOutcome = TmfOutcome(255);
const REPORT_LUNS: [u8; 16] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

fn whom(name: &str) -> Whom {
    Whom::Host(InitiatorName::new(name).unwrap())
}

fn options(stage: &Stage, name: &str) -> Options {
    Options { initiator: name.into(), ..stage.login("v") }
}

fn sense<T>(ended: Result<T, DiskError>) -> Option<(u8, u8, u8)> {
    match ended {
        Err(DiskError::Status { sense, .. }) => sense,
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

/// The names of the targets that a host is shown.
fn shown(stage: &Stage, name: &str) -> String {
    let options = Options { initiator: name.into(), ..Options::discovery(stage.portal()) };
    format!("{:?}", Session::login(&options).unwrap().send_targets().unwrap())
}

#[test]
fn a_right_that_changes_is_felt_by_a_host_that_is_logged_in() {
    let stage = Stage::mirrored();
    stage.handle().change_access("v", whom(HOST), Some(Right::ReadWrite)).unwrap();
    assert!(Disk::open(&options(&stage, OTHER)).is_err(), "the first name closes the volume to others");
    let mut host = Disk::open(&options(&stage, HOST)).unwrap();
    host.write(0, vec![1; 512]).unwrap();

    stage.handle().change_access("v", whom(HOST), Some(Right::ReadOnly)).unwrap();
    let mut told = || sense(host.write(0, vec![2; 512]));
    assert_eq!(told(), Some((6, 0x2a, 1)), "told once: mode parameters changed (WP)");
    assert_eq!(told(), Some(WRITE_PROTECTED));
    assert_eq!(host.read(0, 1).unwrap(), vec![1; 512]);
    let mut end = |function| host.session().manage(function, None).unwrap();
    assert_eq!(end(LOGICAL_UNIT_RESET), REJECTED, "it would end the commands of those who may write");
    assert_eq!(end(ABORT_TASK_SET), TmfOutcome::COMPLETE, "its own");

    stage.handle().change_access("v", whom(OTHER), Some(Right::ReadWrite)).unwrap();
    stage.handle().change_access("v", whom(HOST), None).unwrap();
    let mut call = |command| {
        let done = host.session().call(command, Transfer::In(vec![0; 512])).unwrap();
        (done.sense_codes(), done.transfer.into_bytes())
    };
    assert_eq!(call(cdb::read(0, 1)).0, Some(LUNS_CHANGED));
    assert_eq!(call(cdb::read(0, 1)).0, Some(NO_SUCH_UNIT));
    assert_eq!(call(cdb::inquiry(None, 96)).1[0], 0x7f);
    assert_eq!(call(REPORT_LUNS).1[..4], [0; 4]);
    assert_eq!(host.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), REJECTED);
    assert!(!shown(&stage, HOST).contains(":v") && shown(&stage, OTHER).contains(":v"));
    assert!(Disk::open(&Options { session: 2, ..options(&stage, HOST) }).is_err());
    Disk::open(&options(&stage, OTHER)).unwrap().write(0, vec![3; 512]).unwrap();
}

#[test]
fn a_node_that_is_not_the_owner_obeys_as_well_and_a_restarted_one_remembers() {
    let mut pair = Pair::new();
    pair.one.handle().change_access("v", Whom::Everybody, Some(Right::ReadOnly)).unwrap();
    let is_read_only = |stage: &Stage| stage.handle().volume("v").unwrap().access.everybody == Some(Right::ReadOnly);
    wait_until("the other node heard", || is_read_only(&pair.other));
    for stage in [&pair.one, &pair.other] {
        let mut host = Disk::open(&options(stage, HOST)).unwrap();
        assert_eq!(sense(host.write(0, vec![1; 512])), Some(WRITE_PROTECTED));
    }
    pair.other.restart();
    wait_until("a login", || {
        let Ok(mut host) = Disk::open(&options(&pair.other, HOST)) else { return false };
        matches!(host.write(0, vec![1; 512]), Err(DiskError::Status { sense: Some(WRITE_PROTECTED), .. }))
    });
    // Felt through the other node, by a host that is logged in there.
    let mut host = Disk::open(&options(&pair.other, HOST)).unwrap();
    pair.one.handle().change_access("v", whom(OTHER), Some(Right::ReadWrite)).unwrap();
    wait_until("the unit is gone", || {
        let done = host.session().call(cdb::read(0, 1), Transfer::In(vec![0; 512])).unwrap();
        done.sense_codes() == Some(NO_SUCH_UNIT)
    });
}
