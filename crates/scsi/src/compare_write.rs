//! COMPARE AND WRITE (SBC-3 §5.3).

use dyad_contract::volume::VolumeOp;
use dyad_payload::Payload;

use crate::cdb::Asked;
use crate::response::{Begun, Response};
use crate::sense::{Condition, Field};
use crate::shape::COMPARE_AND_WRITE_BLOCKS_MAX;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

const COUNT_AT: u16 = 13;

/// Checks the range, and that the host means the length that the CDB says.
pub(crate) fn compare_and_write(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const FUA: u8 = 0x08;
    // NUMBER OF LOGICAL BLOCKS is the last byte of where the other commands have their TRANSFER LENGTH; the
    // three before it are reserved.
    let asked = Asked { count_at: COUNT_AT, ..Asked::from_cdb(call.cdb) };
    let range = asked.within(unit.settings.shape.blocks(), u64::from(COMPARE_AND_WRITE_BLOCKS_MAX))?;
    let len = 2 * unit.byte_len(range.blocks);
    if is_miscounted(unit, call.transfer.out_len(), len) {
        return Err(Condition::invalid_cdb(Field::cdb(COUNT_AT)).into());
    }
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    let durable = unit.is_durable(call.cdb[1] & FUA != 0);
    Ok(Begun::DataOut { task: Task::new(call.nexus, Phase::CompareAndWriteData { durable }, range), len })
}

/// Whether the host sends another length than the CDB asks for. A one-byte count wraps at 256 blocks, and a
/// compare of the wrong half would be a silent loss, so the lengths must agree; a count of zero asks for
/// nothing, whatever is sent, unless it can only be a count that wrapped.
fn is_miscounted(unit: &LogicalUnit, announced: u32, len: u32) -> bool {
    let longest = 2 * unit.byte_len(u64::from(COMPARE_AND_WRITE_BLOCKS_MAX));
    announced != len && (len != 0 || announced > longest)
}

/// What the volume is asked once both halves are here: first what to compare with, then what to write.
pub(crate) fn with_data(unit: &LogicalUnit, range: Range, durable: bool, data: &Payload) -> VolumeOp {
    let half = data.len() / 2;
    VolumeOp::CompareAndWrite {
        span: unit.settings.shape.span(range),
        expected: data.slice(0, half),
        data: data.slice(half, half),
        durable,
    }
}
