//! The steps of a command after its beginning, and the one place where a volume's error becomes a status.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_payload::Payload;

use crate::cdb::out_of_range;
use crate::reserve::{out, request};
use crate::response::{Response, Status, Step};
use crate::sense::{Asc, Condition, SenseKey};
use crate::table::Refusal;
use crate::task::{Check, Phase, Range, Task};
use crate::unit::LogicalUnit;
use crate::{compare_write, copy, groups, mode, or_write, same, unmap, write_atomic};

/// Data-out came, all of what was asked for or as much as the host announced.
pub(crate) fn data_out(unit: &mut LogicalUnit, mut task: Task, data: Payload) -> Result<Step, Refusal> {
    if task.rule.governs {
        unit.check_governs(task.nexus())?;
    }
    if let Phase::ReserveList { .. } = task.phase {
        return out::with_list(unit, &task, &data);
    }
    let range = still_within(unit, task.range)?;
    if let Err(protected) = unit.check_writable(task.nexus()) {
        check_protection(task.phase, protected)?;
    }
    let mut next = Phase::End;
    let op = match task.phase {
        // The cache may have been switched off since the command began (A2).
        Phase::WriteData { durable, check } => return Ok(write(unit, task, data, unit.is_durable(durable), check)),
        Phase::AtomicData => write_atomic::with_data(unit, range, exactly(data, unit.byte_len(range.blocks))?),
        Phase::VerifyData { repeated } => {
            next = if repeated { Phase::EndRepeated } else { Phase::End };
            compare(unit, range, repeated, data)?
        }
        Phase::SameData { unmap } => {
            let block = exactly(data, unit.byte_len(1))?;
            same::with_block(unit, range, unmap, block)
        }
        Phase::CompareAndWriteData { durable } => {
            next = Phase::EndSwap;
            let both = exactly(data, 2 * unit.byte_len(range.blocks))?;
            compare_write::with_data(unit, range, unit.is_durable(durable), &both)
        }
        Phase::UnmapList { len } => match unmap::with_list(unit, &list(data, len)?)? {
            Some(op) => op,
            None => return Ok(Step::Answer(Response::good())),
        },
        Phase::ModeList { len, long } => {
            let request = mode::request(unit, &list(data, len)?, long)?;
            return request::attempt(unit, request::task(task.nexus, request));
        }
        Phase::OrWriteData { durable } => {
            let mask = exactly(data, unit.byte_len(range.blocks))?;
            return Ok(or_write::with_data(unit, task, durable, mask));
        }
        Phase::EchoData { len } => {
            unit.echo.keep(task.nexus, &exactly(data, u32::from(len))?);
            return Ok(Step::Answer(Response::good()));
        }
        Phase::GroupsList { len } => return groups::with_list(unit, task, &list(data, len)?),
        Phase::CopyList { len } => return copy::with_list(unit, task, &list(data, len)?),
        phase => panic!("data-out for a task in phase {phase:?}"),
    };
    task.phase = next;
    Ok(Step::Volume { task, op })
}

/// The unit may have been write protected since the command began.
#[cold]
fn check_protection(phase: Phase, protected: Condition) -> Result<(), Condition> {
    match phase {
        Phase::WriteData { .. }
        | Phase::AtomicData
        | Phase::SameData { .. }
        | Phase::CompareAndWriteData { .. }
        | Phase::OrWriteData { .. }
        | Phase::CopyList { .. }
        | Phase::UnmapList { .. } => Err(protected),
        _ => Ok(()),
    }
}

/// The volume may have been resized since the range was checked.
pub(crate) fn still_within(unit: &LogicalUnit, range: Range) -> Result<Range, Condition> {
    if range.lba + range.blocks <= unit.settings.shape.blocks() { Ok(range) } else { Err(out_of_range()) }
}

/// The whole blocks that came, to which the task's range is cut; `None` if there is none. A host that announced less than
/// the CDB asks for gets what it sent written, and the transport's residual overflow tells it so (RFC 7143 §11.4.5.1).
fn whole_blocks(unit: &LogicalUnit, task: &mut Task, data: Payload) -> Option<Payload> {
    let shift = unit.settings.shape.block().shift();
    let blocks = (data.len() as u64 >> shift).min(task.range.blocks);
    task.range.blocks = blocks;
    let len = (blocks << shift) as usize;
    (blocks != 0).then(|| if data.len() == len { data } else { data.slice(0, len) })
}

fn write(unit: &LogicalUnit, mut task: Task, data: Payload, durable: bool, check: Check) -> Step {
    let Some(data) = whole_blocks(unit, &mut task, data) else { return Step::Answer(Response::good()) };
    task.phase = match check {
        Check::None => Phase::End,
        Check::Readable | Check::Equal => Phase::WriteThenCheck { check },
    };
    if check == Check::Equal {
        task.kept = data.clone();
    }
    let op = VolumeOp::Write { span: unit.settings.shape.span(task.range), data, durable };
    Step::Volume { task, op }
}

fn compare(unit: &LogicalUnit, range: Range, repeated: bool, data: Payload) -> Result<VolumeOp, Refusal> {
    let span = unit.settings.shape.span(range);
    let expected = if repeated {
        repeat(unit, &exactly(data, unit.byte_len(1))?, range.blocks)?
    } else {
        exactly(data, unit.byte_len(range.blocks))?
    };
    Ok(VolumeOp::Compare { span, expected })
}

/// So many copies of a block: one buffer, named often.
fn repeat(unit: &LogicalUnit, block: &Payload, blocks: u64) -> Result<Payload, Refusal> {
    /// Keeps the payload of the longest transfer at 128 slices.
    const BUFFER_BYTES: usize = 64 << 10;
    let len = unit.byte_len(blocks) as usize;
    let bytes = block.to_vec().repeat((BUFFER_BYTES.min(len)) / block.len());
    let buffer = unit.buffer(&bytes)?;
    let mut all = Payload::new();
    while all.len() < len {
        all.append(buffer.slice(0, buffer.len().min(len - all.len())));
    }
    Ok(all)
}

/// Data-out of commands that make no sense with less.
fn exactly(data: Payload, len: u32) -> Result<Payload, Condition> {
    let len = len as usize;
    if data.len() < len {
        return Err(Condition::illegal(Asc::INVALID_FIELD_IN_COMMAND_UNIT));
    }
    Ok(if data.len() == len { data } else { data.slice(0, len) })
}

/// A parameter list of the length that the CDB says.
fn list(data: Payload, len: u16) -> Result<Vec<u8>, Condition> {
    let list = exactly(data, u32::from(len)).map_err(|_| Condition::illegal(Asc::PARAMETER_LIST_LENGTH))?;
    Ok(list.to_vec())
}

/// The volume answered.
pub(crate) fn finish(unit: &mut LogicalUnit, task: Task, result: VolumeResult) -> Result<Step, Refusal> {
    match task.phase {
        Phase::OrWriteRead { .. } | Phase::OrWriteSwap { .. } => return or_write::finish(unit, task, result),
        Phase::CopyRead(_) | Phase::CopyWrite(_) => return Ok(copy::finish(unit, task, result)),
        _ => {}
    }
    let done = match result {
        Ok(done) => done,
        Err(error) if task.phase == Phase::Share => {
            unit.forget_state();
            // It may have taken effect all the same (M9): the state tells.
            let is_unknown = error == VolumeError::Busy;
            return Ok(if is_unknown { Step::State { task } } else { Step::Answer(failed(unit, &task, error)) });
        }
        Err(error) if matches!(task.phase, Phase::Moving { .. }) => {
            return Ok(Step::Answer(groups::failed(unit, &task, error)));
        }
        Err(error) => return Ok(Step::Answer(failed(unit, &task, error))),
    };
    Ok(match task.phase {
        Phase::Read => Step::Answer(Response::data(read_data(unit, task.range, done))),
        Phase::End | Phase::EndRepeated | Phase::EndSwap | Phase::Moving { .. } => Step::Answer(Response::good()),
        Phase::FlushThenRead => {
            check_kept_out(unit, &task)?;
            let op = VolumeOp::Read { span: unit.settings.shape.span(still_within(unit, task.range)?) };
            Step::Volume { task: Task { phase: Phase::Read, ..task }, op }
        }
        Phase::FlushThenStop => {
            unit.stopped = true;
            Step::Answer(Response::good())
        }
        Phase::Share => request::written(unit, task),
        Phase::WriteThenCheck { check } => {
            let span = unit.settings.shape.span(still_within(unit, task.range)?);
            let Task { nexus, range, kept, rule, .. } = task;
            let op = match check {
                Check::Equal => VolumeOp::Compare { span, expected: kept },
                Check::None | Check::Readable => VolumeOp::Verify { span },
            };
            Step::Volume { task: Task { rule, ..Task::new(nexus, Phase::End, range) }, op }
        }
        phase => panic!("an answer of the volume for a task in phase {phase:?}"),
    })
}

/// A command of several steps: a reservation may have come since it began (SPC-4 §5.13.1). Nothing was written yet.
pub(crate) fn check_kept_out(unit: &LogicalUnit, task: &Task) -> Result<(), Refusal> {
    if !unit.shared.is_open() && unit.is_kept_out(task) { Err(Refusal::Conflict) } else { Ok(()) }
}

fn read_data(unit: &LogicalUnit, range: Range, done: VolumeDone) -> Payload {
    match done {
        VolumeDone::Data(data) => {
            assert_eq!(data.len(), unit.byte_len(range.blocks) as usize, "a read of another length");
            data
        }
        VolumeDone::Done => panic!("a read without data"),
    }
}

/// The one place where a volume's error becomes a status (SPC-4 §4.5, annex F; SBC-3 §4.18).
#[cold]
pub(crate) fn failed(unit: &LogicalUnit, task: &Task, error: VolumeError) -> Response {
    let condition = match error {
        // It may have taken effect, its owner lost before it could say so (M9). BUSY would say that it was not accepted
        // (SAM-5 §5.3.1), its host would believe what it compared with to be there still, and repeat it unseen: it would
        // miscompare with what it wrote itself. Of an aborted command nobody knows how far it came.
        VolumeError::Busy if task.phase == Phase::EndSwap => {
            Condition::new(SenseKey::AbortedCommand, Asc::LOGICAL_UNIT_COMMUNICATION)
        }
        VolumeError::Busy => return Response::status(Status::Busy),
        // Whoever aborted the task decides whether this is sent at all (SAM-5 §5.3.1, TAS).
        VolumeError::Aborted => return Response::status(Status::TaskAborted),
        VolumeError::Miscompare { offset } => {
            // From the start of the data-out buffer (SBC-3 §5.3), which is one block with BYTCHK 11b.
            let one_block = u64::from(unit.byte_len(1));
            let offset = if task.phase == Phase::EndRepeated { offset % one_block } else { offset };
            Condition::new(SenseKey::Miscompare, Asc::MISCOMPARE).with_information(offset)
        }
        VolumeError::Medium { offset } => Condition::new(SenseKey::MediumError, Asc::UNRECOVERED_READ)
            .with_information(bad_lba(unit, task.range, offset)),
        VolumeError::NoSpace => Condition::new(SenseKey::DataProtect, Asc::SPACE_ALLOCATION_FAILED),
        VolumeError::WriteFault => Condition::new(SenseKey::MediumError, Asc::WRITE_FAULT),
        VolumeError::OutOfRange => out_of_range(),
    };
    unit.check_condition(condition)
}

/// LBA of the first bad logical block of the range. A bad 4 KiB block may begin before the range (512e).
fn bad_lba(unit: &LogicalUnit, range: Range, offset: u64) -> u64 {
    let lba = offset >> unit.settings.shape.block().shift();
    let last = range.lba + range.blocks.saturating_sub(1);
    lba.clamp(range.lba, last)
}
