//! EXTENDED COPY (LID1), block to block, within the volume or between it and another one: its bytes never leave the cluster
//! (SPC-4 §5.16, §6.3).
//!
//! ```text
//!  list --parse--> segments ┬─▶ read a chunk ─▶ write it, or unmap it if it is zeros ─┬─▶ GOOD
//!                           └──────────────────── next chunk ◀────────────────────────┘
//! ```
//!
//! A chunk at a time is in memory, and each is an operation of the volume like any host's: others see every block old or
//! new, an abort takes effect between two of them (M19). Where source and destination overlap, chunks go in the order
//! that reads each block before it is overwritten.
//!
//! Between volumes:
//!
//! - One end of every segment is the volume that the command was sent to. So each chunk passes through that volume's part,
//!   which knows of every pause of its node (M19); a copy between two others would not, and is refused.
//! - The other end is asked by errands (see `errand`): where it refuses, the copy ends with its status and sense data
//!   (SPC-4 §5.16.7.4). A volume that is not there, or that the host may not use, is COPY TARGET DEVICE NOT REACHABLE.
//! - Both have logical blocks of one length, else INCORRECT COPY TARGET DEVICE TYPE: nothing is converted.
//! - An errand under way is a command at the other volume, with all that this means: it is aborted with the copy, which is
//!   over when the errand is (M19); a reset there ends it, and the copy with it.

mod errand;
mod list;
mod results;
mod state;

use std::sync::Arc;

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_payload::Payload;
use dyad_units::Period;
use smallvec::smallvec;

use crate::cdb::{be32, length};
use crate::response::{Begun, NodeOp, Response, Status, Step};
use crate::sense::{Asc, Condition, CopySide, Sense, SenseKey};
use crate::steps;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

pub use errand::{Errand, UnitName, Unreached};
pub(crate) use results::{operating_parameters, status, vpd_page};
pub(crate) use state::{Copies, Copy};

use errand::Access;
use list::{End, HEADER_BYTES, LIST_BYTES_MAX, Segment};

/// Moved at once: four extents, as much as a host's longest request gains by. Held in memory for as long as it takes to
/// write them.
const CHUNK_BYTES: u64 = 1 << 20;
/// Times that a chunk is asked for again after BUSY.
const BUSY_MAX: u8 = 4;
/// Before the first of them; twice as long before each further one, so three seconds in all. An owner that hands over says
/// BUSY at once, and so would four tries in a row.
const PAUSE: Period = Period::from_millis(200);

/// How far a copy is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct At {
    /// Which segment descriptor.
    segment: u16,
    /// Blocks of it that are copied.
    done: u32,
    /// BUSY answers to this chunk.
    busy: u8,
}

/// EXTENDED COPY: asks for the parameter list.
pub(crate) fn extended_copy(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let len = length(be32(call.cdb, 10));
    if len == 0 {
        return Ok(Begun::Answer(Response::good())); // SPC-4 §6.3: nothing is copied, and no error
    }
    if !(HEADER_BYTES..=HEADER_BYTES + LIST_BYTES_MAX).contains(&len) {
        return Err(Condition::illegal(Asc::PARAMETER_LIST_LENGTH).into());
    }
    if !unit.copies.has_room() {
        return Err(Refusal::Busy);
    }
    let len = len as u16;
    Ok(Begun::DataOut { task: Task::new(call.nexus, Phase::CopyList { len }, Range::NONE), len: u32::from(len) })
}

/// The list is here.
pub(crate) fn with_list(unit: &mut LogicalUnit, mut task: Task, list: &[u8]) -> Result<Step, Refusal> {
    let request = list::parse(unit, list)?;
    if request.id.is_some_and(|id| unit.copies.is_running(task.nexus, id)) {
        return Err(Condition::illegal(Asc::OPERATION_IN_PROGRESS).into());
    }
    let is_beyond = |segment: &Segment| {
        // The other volume says so itself when its turn comes.
        let within = |end: &End| {
            let last = end.lba.checked_add(segment.blocks);
            end.other.is_some() || last.is_some_and(|last| last <= unit.settings.shape.blocks())
        };
        let side = match (within(&segment.source), within(&segment.destination)) {
            (true, true) => return None,
            (false, _) => CopySide::Source,
            (true, false) => CopySide::Destination,
        };
        Some(side)
    };
    let mut segments = request.segments.iter().enumerate();
    if let Some((at, side)) = segments.find_map(|(at, segment)| is_beyond(segment).map(|side| (at, side))) {
        return Ok(Step::Answer(aborted(
            Asc::NONE,
            at as u16,
            side,
            &unit.check_condition(crate::cdb::out_of_range()),
        )));
    }
    let copy = unit.copies.begin(task.nexus, request);
    task.copy = Some(copy);
    Ok(next(unit, task, At { segment: 0, done: 0, busy: 0 }))
}

/// Asks for the next chunk, or ends.
fn next(unit: &LogicalUnit, mut task: Task, mut at: At) -> Step {
    let copy = copy_of(&task);
    while copy.segments().get(usize::from(at.segment)).is_some_and(|segment| u64::from(at.done) == segment.blocks) {
        at = At { segment: at.segment + 1, done: 0, busy: 0 };
        copy.note_segment();
    }
    let Some(segment) = copy.segments().get(usize::from(at.segment)) else {
        copy.end(true);
        return Step::Answer(Response::good());
    };
    if is_kept_out(unit, &task) {
        return abort(&task, at, CopySide::Source, &Response::status(Status::ReservationConflict));
    }
    let (source, _) = chunk(unit, segment, at);
    if let Some(to) = segment.source.other {
        task.phase = Phase::CopyRead(at);
        return run_errand(unit, task, to, Access::Read, source);
    }
    if steps::still_within(unit, source).is_err() {
        return fail(unit, &task, at, CopySide::Source, VolumeError::OutOfRange);
    }
    task.range = source;
    task.phase = Phase::CopyRead(at);
    Step::Volume { task, op: VolumeOp::Read { span: unit.settings.shape.span(source) } }
}

/// Asks the other volume.
fn run_errand(unit: &LogicalUnit, mut task: Task, to: UnitName, access: Access, range: Range) -> Step {
    task.range = Range::NONE; // of this unit
    let (lba, blocks) = (range.lba, range.blocks as u32); // a chunk
    Step::Node { task, op: NodeOp::Errand(Errand { to, block: unit.settings.shape.block(), access, lba, blocks }) }
}

/// Where the next chunk of a segment is read and written.
fn chunk(unit: &LogicalUnit, segment: &Segment, at: At) -> (Range, Range) {
    let done = u64::from(at.done);
    let blocks = (segment.blocks - done).min(CHUNK_BYTES >> unit.settings.shape.block().shift());
    let (source, destination) = (segment.source, segment.destination);
    // Backwards if a chunk written would otherwise be read later.
    let is_one = source.other == destination.other;
    let is_backward = is_one && source.lba < destination.lba && destination.lba - source.lba < segment.blocks;
    let offset = if is_backward { segment.blocks - done - blocks } else { done };
    // What the other volume has no block for it refuses, wherever the count ends.
    let range = |end: End| Range { lba: end.lba.saturating_add(offset), blocks };
    (range(source), range(destination))
}

/// The volume answered.
pub(crate) fn finish(unit: &mut LogicalUnit, task: Task, result: VolumeResult) -> Step {
    let (at, side) = side_of(&task);
    match (side, result) {
        (_, Err(VolumeError::Busy)) if at.busy < BUSY_MAX => again(task, at, side),
        (side, Err(error)) => fail(unit, &task, at, side, error),
        (CopySide::Source, Ok(VolumeDone::Data(data))) => write(unit, task, at, data),
        (CopySide::Source, Ok(VolumeDone::Done)) => panic!("a read without data"),
        (CopySide::Destination, Ok(_)) => written(unit, task, at),
    }
}

/// An errand ended.
pub(crate) fn ran(unit: &mut LogicalUnit, task: Task, ended: Result<Response, Unreached>) -> Step {
    let (at, side) = side_of(&task);
    match ended {
        Ok(Response { status: Status::Good, data_in, .. }) => match side {
            CopySide::Source => write(unit, task, at, data_in),
            CopySide::Destination => written(unit, task, at),
        },
        Ok(response) if is_passing(&response) && at.busy < BUSY_MAX => again(task, at, side),
        Ok(response) => abort(&task, at, side, &response),
        Err(unreached) => {
            copy_of(&task).end(false);
            Step::Answer(unit.check_condition(unreached.condition()))
        }
    }
}

/// Asks for the same once more, after a pause.
fn again(mut task: Task, at: At, side: CopySide) -> Step {
    let period = Period::from_nanos(PAUSE.as_nanos() << at.busy);
    let at = At { busy: at.busy + 1, ..at };
    task.phase = match side {
        CopySide::Source => Phase::CopyRead(at),
        CopySide::Destination => Phase::CopyWrite(at),
    };
    Step::Node { task, op: NodeOp::Pause { period } }
}

/// The pause is over. What was to be written is written again and not read again: BUSY may say that the owner was lost which
/// had the write already (M9), and where source and destination overlap the source is another by then.
pub(crate) fn paused(unit: &LogicalUnit, task: Task) -> Step {
    match side_of(&task) {
        (at, CopySide::Source) => next(unit, task, at),
        (at, CopySide::Destination) => {
            let data = task.kept.clone();
            write(unit, task, at, data)
        }
    }
}

/// The answer of a command that cannot go on. BUSY, RESERVATION CONFLICT, a unit attention say that it was not carried out,
/// and its host sends it again: where a copy has written something, its source may be another by now.
pub(crate) fn ended_early(task: &Task, response: Response) -> Response {
    const UNTOUCHED: Phase = Phase::CopyRead(At { segment: 0, done: 0, busy: 0 });
    let (at, side) = match task.phase {
        Phase::CopyRead(at) => (at, CopySide::Source),
        Phase::CopyWrite(at) => (at, CopySide::Destination),
        _ => return response,
    };
    copy_of(task).end(false);
    if task.phase == UNTOUCHED { response } else { aborted(Asc::THIRD_PARTY_FAILURE, at.segment, side, &response) }
}

/// Whether a reservation keeps the host from going on, since it began (SPC-4 §5.13.1).
fn is_kept_out(unit: &LogicalUnit, task: &Task) -> bool {
    !unit.shared.is_open() && unit.is_kept_out(task)
}

/// Whether the other volume would take the same command later. An attention there is the errand's alone, and is of no
/// interest to the host (SAM-5 §5.14.1).
fn is_passing(response: &Response) -> bool {
    let key = response.sense_bytes().get(2).map(|byte| byte & 0x0f);
    matches!(response.status, Status::Busy | Status::TaskSetFull) || key == Some(SenseKey::UnitAttention as u8)
}

fn side_of(task: &Task) -> (At, CopySide) {
    match task.phase {
        Phase::CopyRead(at) => (at, CopySide::Source),
        Phase::CopyWrite(at) => (at, CopySide::Destination),
        phase => panic!("a copy in phase {phase:?}"),
    }
}

/// A chunk is where it belongs.
fn written(unit: &LogicalUnit, mut task: Task, at: At) -> Step {
    let copy = copy_of(&task);
    let (_, written) = chunk(unit, &copy.segments()[usize::from(at.segment)], at);
    copy.note_bytes(unit.byte_len(written.blocks));
    (task.phase, task.kept) = (Phase::End, Payload::new());
    next(unit, task, At { done: at.done + written.blocks as u32, busy: 0, ..at })
}

/// Writes a chunk that was read. Zeros are unmapped: what was thin stays thin.
fn write(unit: &LogicalUnit, mut task: Task, at: At, data: Payload) -> Step {
    let copy = copy_of(&task);
    let segment = &copy.segments()[usize::from(at.segment)];
    if is_kept_out(unit, &task) {
        return abort(&task, at, CopySide::Destination, &Response::status(Status::ReservationConflict));
    }
    let (_, destination) = chunk(unit, segment, at);
    assert_eq!(data.len() as u64, u64::from(unit.byte_len(destination.blocks)), "a read of another length");
    if let Some(to) = segment.destination.other {
        task.phase = Phase::CopyWrite(at);
        let access = if data.is_zero() { Access::Zero } else { Access::Write };
        task.kept = data;
        return run_errand(unit, task, to, access, destination);
    }
    if steps::still_within(unit, destination).is_err() {
        return fail(unit, &task, at, CopySide::Destination, VolumeError::OutOfRange);
    }
    if let Err(protected) = unit.check_writable(task.nexus()) {
        let response = unit.check_condition(protected);
        return abort(&task, at, CopySide::Destination, &response);
    }
    let span = unit.settings.shape.span(destination);
    let durable = unit.is_durable(false);
    task.kept = data.clone();
    let op = if data.is_zero() {
        VolumeOp::Unmap { spans: smallvec![span], durable }
    } else {
        VolumeOp::Write { span, data, durable }
    };
    task.range = destination;
    task.phase = Phase::CopyWrite(at);
    Step::Volume { task, op }
}

fn copy_of(task: &Task) -> Arc<Copy> {
    task.copy.clone().expect("a task that copies has its copy")
}

/// The volume refused a chunk.
fn fail(unit: &LogicalUnit, task: &Task, at: At, side: CopySide, error: VolumeError) -> Step {
    let response = steps::failed(unit, task, error);
    if response.status == Status::TaskAborted {
        copy_of(task).end(false);
        return Step::Answer(response); // the command itself was aborted
    }
    abort(task, at, side, &response)
}

fn abort(task: &Task, at: At, side: CopySide, response: &Response) -> Step {
    copy_of(task).end(false);
    Step::Answer(aborted(Asc::THIRD_PARTY_FAILURE, at.segment, side, response))
}

/// COPY ABORTED with what the source or the destination said.
fn aborted(asc: Asc, segment: u16, side: CopySide, response: &Response) -> Response {
    Response::check(Sense::copy_aborted(asc, segment, side, response.status as u8, response.sense))
}
