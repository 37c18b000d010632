//! WRITE ATOMIC (16) (SBC-4, "Atomic writes"): all of it is new afterwards or none, whatever fails meanwhile (M21).

use dyad_contract::volume::VolumeOp;
use dyad_payload::Payload;

use crate::cdb::{Asked, be16};
use crate::response::{Begun, Response};
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

const BOUNDARY_AT: u16 = 10;
const COUNT_AT: u16 = 12;

/// Checks the range. FUA is accepted and changes nothing: what an atomic write consists of has to be durable before the
/// first of its blocks is replaced, so that it is durable when it is answered, bit or not.
pub(crate) fn write_atomic(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    if be16(call.cdb, BOUNDARY_AT.into()) != 0 {
        // Several smaller atomic writes by one command: MAXIMUM ATOMIC BOUNDARY SIZE is zero.
        return Err(Condition::invalid_cdb(Field::cdb(BOUNDARY_AT)).into());
    }
    // Where the other commands of this length have four bytes of TRANSFER LENGTH, two are the boundary.
    let asked = Asked { blocks: be16(call.cdb, COUNT_AT.into()), count_at: COUNT_AT, ..Asked::from_cdb(call.cdb) };
    let range = asked.within(unit.settings.shape.blocks(), u64::from(unit.limits.atomic))?;
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    let task = Task::new(call.nexus, Phase::AtomicData, range);
    Ok(Begun::DataOut { task, len: unit.byte_len(range.blocks) })
}

/// What the volume is asked once all of the data are here: one operation, as whoever splits it up loses what it is for.
/// With less it is refused (`steps::exactly`): the blocks that came would be a part of what is to be all or nothing.
pub(crate) fn with_data(unit: &LogicalUnit, range: Range, data: Payload) -> VolumeOp {
    VolumeOp::WriteAtomic { span: unit.settings.shape.span(range), data }
}
