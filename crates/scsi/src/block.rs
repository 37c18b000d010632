//! READ, WRITE, PRE-FETCH and SYNCHRONIZE CACHE (SBC-3 §5.10 to §5.13, §5.26, §5.32 and after).

use dyad_contract::volume::VolumeOp;

use crate::cdb::Asked;
use crate::response::{Begun, Response};
use crate::table::{Call, Refusal};
use crate::task::{Check, Phase, Range, Task};
use crate::unit::LogicalUnit;

/// FUA in byte 1 of the forms that have it; in the six-byte forms the bit belongs to the address.
fn is_fua(call: &Call<'_>) -> bool {
    const FUA: u8 = 0x08;
    call.cdb[1] & FUA != 0 && call.cdb[0] >> 5 != 0
}

/// The range of a command that is bounded by MAXIMUM TRANSFER LENGTH.
#[inline]
pub(crate) fn transfer_range(unit: &LogicalUnit, call: &Call<'_>) -> Result<Range, Refusal> {
    let asked = Asked::from_cdb(call.cdb);
    Ok(asked.within(unit.settings.shape.blocks(), u64::from(unit.limits.transfer))?)
}

/// READ(6), (10), (12), (16).
pub(crate) fn read(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let range = transfer_range(unit, call)?;
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    if is_fua(call) && unit.has_write_cache() {
        // What is read must be on the medium (SBC-3 §5.11): nothing read may be lost by a power cut. Whether just this
        // range has unflushed writes is not known here, nor at other nodes that take sessions (M18), and cheap to know
        // nowhere: so everything is flushed. Where nothing was written since the last flush, images answer it at once.
        let task = Task::new(call.nexus, Phase::FlushThenRead, range);
        return Ok(Begun::Volume { task, op: VolumeOp::Flush });
    }
    let op = VolumeOp::Read { span: unit.settings.shape.span(range) };
    Ok(Begun::Volume { task: Task::new(call.nexus, Phase::Read, range), op })
}

/// WRITE(6), (10), (12), (16).
pub(crate) fn write(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let durable = unit.is_durable(is_fua(call));
    write_then(unit, call, durable, Check::None)
}

/// A write, and what follows it.
pub(crate) fn write_then(unit: &LogicalUnit, call: &Call<'_>, durable: bool, check: Check) -> Result<Begun, Refusal> {
    let range = transfer_range(unit, call)?;
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    let task = Task::new(call.nexus, Phase::WriteData { durable, check }, range);
    Ok(Begun::DataOut { task, len: unit.byte_len(range.blocks) })
}

/// PRE-FETCH(10), (16): GOOD says that not all of it may have been fetched. A count of zero means "up to the
/// last block", and no limit applies as nothing is done.
pub(crate) fn prefetch(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    Asked::from_cdb(call.cdb).or_rest(unit.settings.shape.blocks())?;
    Ok(Begun::Answer(Response::good()))
}

/// SYNCHRONIZE CACHE(10), (16): always all of it. IMMED is not used: an answer given before the flush would
/// hide its failure.
pub(crate) fn synchronize(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let range = Asked::from_cdb(call.cdb).or_rest(unit.settings.shape.blocks())?;
    Ok(Begun::Volume { task: Task::new(call.nexus, Phase::End, range), op: VolumeOp::Flush })
}

impl LogicalUnit {
    /// Bytes of a count of blocks that a limit of [`crate::shape::Limits`] bounds.
    pub(crate) fn byte_len(&self, blocks: u64) -> u32 {
        u32::try_from(blocks << self.settings.shape.block().shift()).expect("bounded by the limits")
    }
}
