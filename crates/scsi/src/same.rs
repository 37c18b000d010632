//! WRITE SAME (SBC-3 §5.43, §5.44).

use dyad_contract::volume::VolumeOp;
use dyad_payload::Payload;
use smallvec::smallvec;

use crate::cdb::Asked;
use crate::response::Begun;
use crate::sense::{Asc, Condition, Field};
use crate::shape::WRITE_SAME_BLOCKS_MAX;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

const ANCHOR: u8 = 0x10;
const UNMAP: u8 = 0x08;
/// NO DATA-OUT BUFFER, in the sixteen-byte form: the block is zeros.
const NDOB: u8 = 0x01;

/// WRITE SAME(10), (16). WSNZ is one: a count of zero, which would mean "up to the last block", is refused.
pub(crate) fn write_same(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let flags = call.cdb[1];
    if flags & ANCHOR != 0 {
        // Nothing can be anchored: ANC_SUP is zero. Without UNMAP it is wrong anyhow.
        return Err(Condition::invalid_cdb(Field::cdb_bit(1, 4)).into());
    }
    let asked = Asked::from_cdb(call.cdb);
    let range = asked.within(unit.settings.shape.blocks(), WRITE_SAME_BLOCKS_MAX)?;
    if range.blocks == 0 {
        return Err(Condition::invalid_cdb(Field::cdb(asked.count_at)).into());
    }
    let unmap = flags & UNMAP != 0;
    if flags & NDOB != 0 {
        let op = if unmap { unmap_op(unit, range) } else { fill_op(unit, range, zeros(unit)?) };
        return Ok(Begun::Volume { task: Task::new(call.nexus, Phase::End, range), op });
    }
    let len = unit.byte_len(1);
    if call.transfer.out_len() != len {
        // A host that sends another length means another block size: nothing is written.
        return Err(Condition::illegal(Asc::INVALID_FIELD_IN_COMMAND_UNIT).into());
    }
    Ok(Begun::DataOut { task: Task::new(call.nexus, Phase::SameData { unmap }, range), len })
}

/// What the volume is asked once the block is here. Only a block of zeros is what an unmapped block reads
/// as; any other is written, UNMAP or not (SBC-3 §4.7.3.4).
pub(crate) fn with_block(unit: &LogicalUnit, range: Range, unmap: bool, block: Payload) -> VolumeOp {
    if unmap && block.is_zero() { unmap_op(unit, range) } else { fill_op(unit, range, block) }
}

fn unmap_op(unit: &LogicalUnit, range: Range) -> VolumeOp {
    VolumeOp::Unmap { spans: smallvec![unit.settings.shape.span(range)], durable: unit.is_durable(false) }
}

fn fill_op(unit: &LogicalUnit, range: Range, pattern: Payload) -> VolumeOp {
    VolumeOp::Fill { span: unit.settings.shape.span(range), pattern, durable: unit.is_durable(false) }
}

fn zeros(unit: &LogicalUnit) -> Result<Payload, Refusal> {
    const ZEROS: [u8; 4096] = [0; 4096];
    unit.buffer(&ZEROS[..unit.byte_len(1) as usize])
}
