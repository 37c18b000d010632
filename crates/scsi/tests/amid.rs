//! What happens between two steps of a command that has many: an owner is lost, another host reserves the unit.

mod common;

use common::copying::{cdb, list, third_party};
use common::{Bench, HOST, cscd, good, padded, payload, segment, sense};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_scsi::{Attention, Begun, InitiatorPort, NexusId, Response, Status, Step, Task, Transfer, Who};

const OTHER: NexusId = NexusId(8);
const CONFLICT: u8 = Status::ReservationConflict as u8;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;

/// A host and another one, and blocks that differ.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let name = |name| InitiatorPort::new(name, [0; 6]).unwrap();
    bench.unit.set_initiator(HOST, name("iqn.2026-11.example:host"));
    bench.unit.add_nexus(OTHER, None).unwrap();
    bench.unit.set_initiator(OTHER, name("iqn.2026-11.example:other"));
    bench.volume.bytes = (0..1 << 20).map(|at: u32| ((at >> 9) as u8).wrapping_add(at as u8) | 1).collect();
    bench
}

/// The other host reserves the unit for itself; this node knows of it at once.
fn reserve(bench: &mut Bench) {
    for (action, kind, key, new_key) in [(REGISTER, 0, 0, 7_u64), (RESERVE, EXCLUSIVE_ACCESS, 7_u64, 0)] {
        let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
        list.resize(24, 0);
        good(bench.send_as(OTHER, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list));
    }
    bench.asked();
}

/// The operation that a command waits for once all its data is there.
fn begin(bench: &mut Bench, cdb: &[u8], data: &[u8]) -> (Task, VolumeOp) {
    let begun = bench.unit.begin(HOST, 0, &padded(cdb), Transfer::Out(data.len() as u32));
    let begun = match begun {
        Begun::DataOut { task, .. } => Begun::from(bench.unit.data_out(task, payload(&bench.slab, data))),
        begun => begun,
    };
    match begun {
        Begun::Volume { task, op } => (task, op),
        begun => panic!("{begun:?}"),
    }
}

/// An overlapping copy of two chunks that waits for the first one.
fn begin_copy(bench: &mut Bench) -> (Task, VolumeOp) {
    let list = list(&[cscd(512)], &[segment(0, 0, 8, 0, 1000), segment(0, 0, 1008, 1000, 1000)]);
    begin(bench, &cdb(list.len()), &list)
}

/// The next operation.
fn answer(bench: &mut Bench, task: Task, op: &VolumeOp) -> Step {
    let done = match op {
        VolumeOp::Read { span } => {
            let bytes = &bench.volume.bytes[span.offset() as usize..span.end() as usize];
            VolumeDone::Data(payload(&bench.slab, bytes))
        }
        VolumeOp::Write { span, data, .. } => {
            data.copy_to(&mut bench.volume.bytes[span.offset() as usize..span.end() as usize]);
            VolumeDone::Done
        }
        op => panic!("{op:?}"),
    };
    bench.unit.finish(task, Ok(done))
}

#[track_caller]
fn asked(step: Step) -> (Task, VolumeOp) {
    match step {
        Step::Volume { task, op } => (task, op),
        step => panic!("{step:?}"),
    }
}

#[track_caller]
fn ended(step: Step) -> Response {
    match step {
        Step::Answer(response) => response,
        step => panic!("{step:?}"),
    }
}

/// BUSY after a write may mean that it took effect (M9): its chunk was read again then, from what it had overwritten, and
/// written a second time, shifted twice. GOOD, with wrong data.
#[test]
fn a_chunk_that_was_written_and_answered_busy_is_not_read_again() {
    for (source, destination) in [(0_u64, 8_u64), (8, 0), (0, 1000)] {
        let mut bench = bench();
        let was = bench.volume.bytes.clone();
        bench.volume.forgotten = vec![VolumeError::Busy; 4];
        let list = list(&[cscd(512)], &[segment(0, 0, source, destination, 256)]);
        good(bench.send(&cdb(list.len()), &list));
        let (from, to) = (source as usize * 512, destination as usize * 512);
        assert!(bench.volume.bytes[to..to + 256 * 512] == was[from..from + 256 * 512], "{source} to {destination}");
        assert_eq!(bench.asked().len(), 6, "read once, written five times");
    }
}

/// Zeros as well: what the unmap was told of is not looked at again.
#[test]
fn a_chunk_of_zeros_is_unmapped_again() {
    let mut bench = bench();
    bench.volume.bytes[..256 * 512].fill(0);
    bench.volume.forgotten = vec![VolumeError::Busy; 2];
    let list = list(&[cscd(512)], &[segment(0, 0, 0, 8, 128)]);
    good(bench.send(&cdb(list.len()), &list));
    assert_eq!(bench.asked(), ["read 0+65536", "unmap 4096+65536", "unmap 4096+65536", "unmap 4096+65536"]);
}

/// Its owner was lost before it could answer: it was told BUSY, "not accepted" (SAM-5 §5.3.1), and its host, which sent it
/// again as whoever is told BUSY may, miscompared with what it had written itself.
#[test]
fn a_compare_and_write_that_may_have_taken_effect_is_not_told_busy() {
    const ABORTED: (u8, u8, u8) = (0xb, 0x08, 0);
    const MISCOMPARE: (u8, u8, u8) = (0xe, 0x1d, 0);
    let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    let both = [[0; 512], [7; 512]].concat();
    let mut bench = Bench::new();
    bench.volume.forgotten = vec![VolumeError::Busy];
    assert_eq!(sense(&bench.send(&cdb, &both)), ABORTED);
    assert_eq!(bench.volume.bytes[512..1024], [7; 512]);
    assert_eq!(sense(&bench.send(&cdb, &both)), MISCOMPARE, "which is true, and what its host has to expect");
    // Nobody here knows that this one had no effect.
    let mut bench = Bench::new();
    bench.volume.failures = vec![VolumeError::Busy];
    assert_eq!(sense(&bench.send(&cdb, &both)), ABORTED);
    good(bench.send(&cdb, &both));
    // What says the same whenever it is repeated is repeated.
    for cdb in [
        [0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
    ] {
        bench.volume.forgotten = vec![VolumeError::Busy];
        assert_eq!(bench.send(&cdb, &[9; 512]).status, Status::Busy);
    }
}

/// A preempted host copied on for as long as its copy was: only the operation under way may fall on either side.
#[test]
fn a_reservation_that_comes_amid_stops_a_copy() {
    let mut bench = bench();
    let (task, read) = begin_copy(&mut bench);
    reserve(&mut bench);
    let response = ended(answer(&mut bench, task, &read));
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, false, CONFLICT, None), "before its first write");

    let mut bench = self::bench();
    let (task, read) = begin_copy(&mut bench);
    let (task, write) = asked(answer(&mut bench, task, &read));
    reserve(&mut bench);
    let response = ended(answer(&mut bench, task, &write));
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 1, true, CONFLICT, None), "between two chunks");
}

#[test]
fn a_reservation_that_comes_amid_stops_an_orwrite_and_a_read_with_fua() {
    let mut bench = bench();
    let (task, read) = begin(&mut bench, &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[0xff; 512]);
    reserve(&mut bench);
    assert_eq!(ended(answer(&mut bench, task, &read)).status, Status::ReservationConflict);

    let mut bench = self::bench();
    let (task, flush) = begin(&mut bench, &[0x28, 0x08, 0, 0, 0, 0, 0, 0, 1, 0], &[]);
    assert!(matches!(flush, VolumeOp::Flush));
    reserve(&mut bench);
    let step = bench.unit.finish(task, Ok(VolumeDone::Done));
    assert_eq!(ended(step).status, Status::ReservationConflict);
}

/// BUSY, RESERVATION CONFLICT and a unit attention all say that the command was not carried out: the host of a copy that is
/// half done would send it again, and an overlapping source is half overwritten by then.
#[test]
fn a_copy_that_is_half_done_never_says_that_it_was_not_carried_out() {
    // Between two chunks, when the state has become another one.
    let half_done = |bench: &mut Bench| {
        let (task, read) = begin_copy(bench);
        let (task, write) = asked(answer(bench, task, &read));
        asked(answer(bench, task, &write))
    };
    let mut bench = bench();
    let (task, op) = half_done(&mut bench);
    reserve(&mut bench);
    let Begun::Answer(response) = bench.unit.overtaken(task, op) else { panic!("it is kept out") };
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 1, true, CONFLICT, None));

    let mut bench = self::bench();
    let (task, op) = half_done(&mut bench);
    bench.unit.attend(Who::All, Attention::CapacityChanged);
    let Begun::Volume { task, .. } = bench.unit.overtaken(task, op) else { panic!("it goes on") };
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x2a, 9), "the attention waits for the next command");
    let response = bench.unit.ended_early(&task, Response::status(Status::Busy));
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 1, true, Status::Busy as u8, None));
    let status = good(bench.run(&[0x84, 0x00, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(status[4..7], [2, 0, 1], "failed after one segment");

    // Before anything was written it may say so.
    let (task, _) = begin_copy(&mut bench);
    assert_eq!(bench.unit.ended_early(&task, Response::status(Status::Busy)).status, Status::Busy);
    let (task, _) = begin(&mut bench, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[1; 512]);
    assert_eq!(bench.unit.ended_early(&task, Response::status(Status::Busy)).status, Status::Busy);
}
