//! A disk that hangs: whoever gives a command up is answered in bounded time, and nothing lands later that anybody could
//! see (M2, M19). Hosts of other targets wait for ever there.

use std::time::{Duration, Instant};

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::pdu::{FINAL, Header, NO_TAG, opcode};
use dyad_bench::initiator::{ABORT_TASK, LOGICAL_UNIT_RESET, Options, Session, TmfOutcome, Transfer, cdb};

use super::message::{Message, Part};
use super::tests::cast::Stage;
use super::tests::cast::pair::wait_until;

/// The bound, and a few seconds for a busy machine.
const BOUND: Duration = Duration::from_secs(15);
const BUSY: u8 = 0x08;
const BLOCK: u32 = 8;

fn stick(stage: &Stage, pool: &str, is_stuck: bool) {
    let id = stage.handle().pool(pool).unwrap().id;
    stage.handle().mailbox.post(Message::Break(Part::Stick(id, is_stuck)));
}

/// A session of a host of this number.
fn host(stage: &Stage, volume: &str, number: u32) -> Disk {
    let initiator = format!("iqn.2026-11.example:host{number}");
    Disk::open(&Options { initiator, session: number, ..stage.login(volume) }).unwrap()
}

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

/// A write of a block that is sent and not waited for.
fn send_write(disk: &mut Disk, lba: u64, byte: u8) {
    disk.session().submit(7, cdb::write(lba, BLOCK), Transfer::Out(block(byte))).unwrap();
    // Everything before a ping's answer was taken: the write is with the volume.
    disk.session().ping(b"?").unwrap();
}

fn timed<T>(act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    done
}

/// As a host does, after news and where it is told to come again.
fn done<T>(mut act: impl FnMut() -> Result<T, DiskError>) -> T {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < BOUND, "busy all the time");
        match act() {
            Ok(done) => return done,
            Err(DiskError::Status { status: BUSY, .. }) => {}
            Err(DiskError::Status { sense: Some((6, ..)), .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// How a host gives up what it sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Abort,
    Logout,
    Reset,
}

const WAYS: [Way; 3] = [Way::Abort, Way::Logout, Way::Reset];

/// A host writes to block 0 and gives up.
fn give_up(mut disk: Disk, way: Way) {
    send_write(&mut disk, 0, 0xee);
    timed(|| match way {
        Way::Abort => assert_eq!(disk.session().manage(ABORT_TASK, Some(7)).unwrap(), TmfOutcome::COMPLETE),
        Way::Reset => assert_eq!(disk.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE),
        Way::Logout => disk.logout().unwrap(),
    });
}

/// One image's disk hangs: it is taken out, and what it does when it goes on is nobody's business (M3, M8).
#[test]
fn with_another_image_the_hanging_one_is_out_before_anybody_is_answered() {
    for way in WAYS {
        let stage = Stage::mirrored();
        let (one, mut other) = (host(&stage, "v", 1), host(&stage, "v", 2));
        stick(&stage, "a", true);
        give_up(one, way);
        timed(|| done(|| other.write(0, block(1))));
        assert_eq!(done(|| other.read(0, BLOCK)), block(1), "{way:?}");
        stick(&stage, "a", false);
        wait_until("the image is back", || stage.handle().volume("v").unwrap().redundancy.in_sync == 2);
        // Alone, it has what was written last.
        stage.handle().mailbox.post(Message::Break(Part::Pool(stage.handle().pool("b").unwrap().id)));
        assert_eq!(done(|| other.read(0, BLOCK)), block(1), "{way:?}");
        assert_eq!(stage.handle().node().unwrap().faults, 1, "the pool that was broken");
    }
}

/// The only image's disk hangs: nobody knows what becomes of the write, so nobody reads or writes there until it is known.
#[test]
fn with_the_last_image_the_range_stays_locked_until_the_write_is_over() {
    let stage = Stage::mirrored();
    let volumes = WAYS.map(|way| format!("{way:?}").to_lowercase());
    volumes.iter().for_each(|volume| stage.add_volume(volume, &["b"]));
    let givers = volumes.each_ref().map(|volume| host(&stage, volume, 1));
    stick(&stage, "b", true);
    std::thread::scope(|scope| {
        for (way, giver) in WAYS.into_iter().zip(givers) {
            scope.spawn(move || give_up(giver, way));
        }
    });
    // A host that was here before comes back, and another one comes.
    let mut others = volumes.each_ref().map(|volume| timed(|| host(&stage, volume, 1)));
    for disk in &mut others {
        for ended in [timed(|| disk.read(0, BLOCK).map(drop)), timed(|| disk.write(0, block(1)))] {
            assert!(matches!(ended, Err(DiskError::Status { status: BUSY, .. })), "{ended:?}");
        }
    }
    stick(&stage, "b", false);
    for disk in &mut others {
        let found = done(|| disk.read(0, BLOCK));
        assert!(found == block(0) || found == block(0xee), "{:02x?}", &found[..4]);
        assert_eq!(done(|| disk.read(0, BLOCK)), found, "what was seen stays");
        done(|| disk.write(0, block(1)));
        assert_eq!(done(|| disk.read(0, BLOCK)), block(1));
    }
    assert_eq!(stage.handle().node().unwrap().faults, 0);
}

/// A copy whose other volume hangs: it is over when its errand is, and a reset there ends it.
#[test]
fn a_copy_to_a_volume_that_hangs_is_given_up_like_a_write_to_it() {
    const THIRD_PARTY_FAILURE: (u8, u8, u8) = (0x0a, 0x0d, 1);
    const TASK_ABORTED: u8 = 0x40;
    let stage = Stage::new();
    stage.add_pool("a");
    stage.add_pool("b");
    stage.add_volume("v", &["a"]);
    stage.add_volume("w", &["b"]);
    let (mut v, mut w) = (host(&stage, "v", 1), host(&stage, "w", 1));
    done(|| v.write(0, block(0xee)));
    let names = [v.name().unwrap(), w.name().unwrap()];
    let begin = |v: &mut Disk| {
        let list = cdb::copy_list(names, 512, 0, 0, BLOCK as u16);
        v.session().submit(8, cdb::extended_copy(list.len() as u32), Transfer::Out(list)).unwrap();
        // What was read at the source came before the answer to a read that was sent later: the errand is out.
        v.session().submit(9, cdb::read(0, BLOCK), Transfer::In(block(0))).unwrap();
        assert_eq!(v.session().wait().unwrap().user, 9);
    };
    // Aborted: answered while it hangs, in bounded time; what the errand wrote nobody overtakes.
    stick(&stage, "b", true);
    begin(&mut v);
    timed(|| assert_eq!(v.session().manage(ABORT_TASK, Some(8)).unwrap(), TmfOutcome::COMPLETE));
    let mut other = host(&stage, "w", 2);
    assert!(matches!(timed(|| other.write(0, block(1))), Err(DiskError::Status { status: BUSY, .. })), "still locked");
    stick(&stage, "b", false);
    done(|| other.write(0, block(1)));
    assert_eq!(done(|| w.read(0, BLOCK)), block(1), "the copy does not go on");

    // A reset at the other volume: the copy has its answer with it.
    stick(&stage, "b", true);
    begin(&mut v);
    timed(|| assert_eq!(other.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE));
    stick(&stage, "b", false);
    let ended = timed(|| v.session().wait().unwrap());
    assert_eq!((ended.sense_codes(), ended.sense[18]), (Some(THIRD_PARTY_FAILURE), TASK_ABORTED));
    assert_eq!(stage.handle().node().unwrap().faults, 0);
}

/// A command that wants no data, and Data-Out that goes wrong for it, once the volume has the command.
fn send_and_fail(session: &mut Session) {
    const TAG: u32 = 7000;
    let mut command = Header::new(opcode::COMMAND | opcode::IMMEDIATE, 0x20);
    let mut zero = cdb::write_16(0, BLOCK);
    (zero[0], zero[1]) = (0x93, 0x01); // WRITE SAME(16) with NDOB
    command.set_u32(16, TAG).set_u32(20, 4096).set(32, &zero);
    session.stream().push(command, &[]).unwrap();
    session.ping(b"?").unwrap();
    let mut data = Header::new(opcode::DATA_OUT, FINAL);
    data.set_u32(16, TAG).set_u32(20, NO_TAG).set_u32(40, 1);
    session.stream().push(data, &[0; 4]).unwrap();
    session.stream().flush().unwrap();
    let answer = session.stream().header().unwrap();
    assert_eq!((answer.opcode(), answer.itt(), answer.0[3]), (opcode::RESPONSE, TAG, 2));
    session.stream().data(&mut vec![0; answer.data_len()]).unwrap();
}

/// What broke: a command whose data failed after the volume had it was forgotten, and went on. A reset was answered past it, and
/// it was executed afterwards (M19).
#[test]
fn a_reset_waits_for_a_command_whose_data_failed() {
    const TMF: u32 = 8000;
    let stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let login = |number: u32| {
        let initiator = format!("iqn.2026-11.example:host{number}");
        let options =
            Options { initiator, session: number, immediate_data: false, initial_r2t: false, ..stage.login("v") };
        let mut disk = Disk::open(&options).unwrap();
        done(|| disk.write(0, block(1)));
        disk
    };
    let (mut one, mut other) = (login(1), login(2));
    stick(&stage, "a", true);
    send_and_fail(one.session());
    let mut reset = Header::new(opcode::TASK_MANAGEMENT | opcode::IMMEDIATE, FINAL | LOGICAL_UNIT_RESET);
    reset.set_u32(16, TMF).set_u32(20, NO_TAG);
    other.session().stream().push(reset, &[]).unwrap();
    other.session().stream().flush().unwrap();
    // What is answered at once is there when another session was answered twice.
    (0..2).for_each(|_| drop(one.session().ping(b"?").unwrap()));
    let stream = other.session().stream();
    stream.socket().set_nonblocking(true).unwrap();
    let early = stream.socket().peek(&mut [0]);
    assert!(
        matches!(&early, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "answered at once: {early:?}"
    );
    stream.socket().set_nonblocking(false).unwrap();
    stick(&stage, "a", false);
    let answer = stream.header().unwrap();
    assert_eq!((answer.opcode(), answer.itt(), answer.0[2]), (opcode::TASK_MANAGEMENT_RESPONSE, TMF, 0));
}
