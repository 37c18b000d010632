//! ORWRITE (SBC-3 §5.9): what is read, or-ed with what is sent, is written, as one step against all other commands.
//!
//! The volume knows no such operation. It compares and writes as one step, so: read, or, write if nothing changed
//! meanwhile, else again.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_payload::{Payload, Slab};

use crate::block::transfer_range;
use crate::response::{Begun, Response, Status, Step};
use crate::steps;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Task};
use crate::unit::LogicalUnit;

/// Tries before the host is told to come again: nothing was written then. Each lost try is a write of another command
/// between two steps of this one, so that a few are many.
const TRIES_MAX: u8 = 16;

/// Asks for the mask.
pub(crate) fn or_write(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const FUA: u8 = 0x08;
    let range = transfer_range(unit, call)?;
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    let phase = Phase::OrWriteData { durable: unit.is_durable(call.cdb[1] & FUA != 0) };
    Ok(Begun::DataOut { task: Task::new(call.nexus, phase, range), len: unit.byte_len(range.blocks) })
}

/// The mask is here: `kept` from now on.
pub(crate) fn with_data(unit: &LogicalUnit, mut task: Task, durable: bool, mask: Payload) -> Step {
    task.kept = mask;
    read(unit, task, durable, 0)
}

fn read(unit: &LogicalUnit, mut task: Task, durable: bool, tries: u8) -> Step {
    let op = VolumeOp::Read { span: unit.settings.shape.span(task.range) };
    task.phase = Phase::OrWriteRead { durable, tries };
    Step::Volume { task, op }
}

/// The volume answered the read, or the write.
pub(crate) fn finish(unit: &mut LogicalUnit, mut task: Task, result: VolumeResult) -> Result<Step, Refusal> {
    match (task.phase, result) {
        (Phase::OrWriteRead { durable, tries }, Ok(VolumeDone::Data(found))) => {
            let range = steps::still_within(unit, task.range)?;
            steps::check_kept_out(unit, &task)?;
            unit.check_writable(task.nexus())?;
            let data = or(&unit.slab, &found, &task.kept).ok_or(Refusal::Busy)?;
            // The cache may have been switched off since the command began (A2).
            let durable = unit.is_durable(durable);
            task.phase = Phase::OrWriteSwap { durable, tries };
            let span = unit.settings.shape.span(range);
            Ok(Step::Volume { task, op: VolumeOp::CompareAndWrite { span, expected: found, data, durable } })
        }
        (Phase::OrWriteSwap { durable, tries }, Err(VolumeError::Miscompare { .. })) => {
            let tries = tries + 1;
            if tries >= TRIES_MAX {
                return Ok(Step::Answer(Response::status(Status::Busy)));
            }
            task.range = steps::still_within(unit, task.range)?;
            Ok(read(unit, task, durable, tries))
        }
        (Phase::OrWriteSwap { .. }, Ok(_)) => Ok(Step::Answer(Response::good())),
        (_, Err(error)) => Ok(Step::Answer(steps::failed(unit, &task, error))),
        (phase, Ok(_)) => panic!("an answer without the data of a read, or in phase {phase:?}"),
    }
}

/// As many bytes of both, or-ed; none: there is no memory for them now.
fn or(slab: &Slab, found: &Payload, mask: &Payload) -> Option<Payload> {
    assert_eq!(found.len(), mask.len(), "a read of another length");
    let mut all = Payload::new();
    for at in (0..found.len()).step_by(Slab::LEN_MAX) {
        let len = Slab::LEN_MAX.min(found.len() - at);
        let mut buf = slab.take(len).ok()?;
        found.slice(at, len).copy_to(&mut buf);
        let masks = mask.slice(at, len);
        let bytes = masks.slices().iter().flat_map(|slice| slice.iter());
        buf.iter_mut().zip(bytes).for_each(|(byte, mask)| *byte |= mask);
        all.push(buf.freeze());
    }
    Some(all)
}
