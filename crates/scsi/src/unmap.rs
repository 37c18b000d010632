//! UNMAP (SBC-3 §5.35).

use dyad_contract::volume::VolumeOp;
use dyad_units::Span;
use smallvec::SmallVec;

use crate::cdb::{Asked, be16, be32, be64};
use crate::response::{Begun, Response};
use crate::sense::{Asc, Condition, Field};
use crate::shape::UNMAP_DESCRIPTORS_MAX;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

/// UNMAP DATA LENGTH, UNMAP BLOCK DESCRIPTOR DATA LENGTH and four reserved bytes.
const HEADER_BYTES: usize = 8;
/// LBA, NUMBER OF LOGICAL BLOCKS and four reserved bytes.
const DESCRIPTOR_BYTES: usize = 16;

/// Asks for the parameter list.
pub(crate) fn unmap(_: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    if call.cdb[1] & 0x01 != 0 {
        // ANCHOR: nothing can be anchored, ANC_SUP is zero.
        return Err(Condition::invalid_cdb(Field::cdb_bit(1, 0)).into());
    }
    let len = be16(call.cdb, 7) as u16;
    if len == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    if usize::from(len) < HEADER_BYTES {
        return Err(Condition::illegal(Asc::PARAMETER_LIST_LENGTH).into());
    }
    let task = Task::new(call.nexus, Phase::UnmapList { len }, Range::NONE);
    Ok(Begun::DataOut { task, len: u32::from(len) })
}

/// What the volume is asked once the list is here; `None` if the list names no block. All descriptors are
/// checked before the first is carried out.
pub(crate) fn with_list(unit: &LogicalUnit, list: &[u8]) -> Result<Option<VolumeOp>, Condition> {
    let descriptors = descriptors(list)?;
    let shape = unit.settings.shape;
    let mut spans: SmallVec<[Span; 1]> = SmallVec::new();
    let mut total = 0;
    for (at, descriptor) in descriptors.chunks_exact(DESCRIPTOR_BYTES).enumerate() {
        let (lba, blocks) = (be64(descriptor, 0), be32(descriptor, 8));
        let asked = Asked { lba, blocks, count_at: 0 };
        let range = asked.within(shape.blocks(), u64::MAX)?;
        total += range.blocks;
        if total > u64::from(unit.limits.unmap) {
            let count_at = HEADER_BYTES + at * DESCRIPTOR_BYTES + 8;
            return Err(Condition::invalid_list(count_at as u16));
        }
        if range.blocks != 0 {
            spans.push(shape.span(range));
        }
    }
    let durable = unit.is_durable(false);
    Ok((!spans.is_empty()).then_some(VolumeOp::Unmap { spans, durable }))
}

/// The descriptors of a list; an incomplete last one is ignored, one that the list was too short for is not
/// (SBC-3 §5.35.2).
fn descriptors(list: &[u8]) -> Result<&[u8], Condition> {
    const LENGTH_AT: u16 = 2;
    if list.len() < HEADER_BYTES {
        return Err(Condition::illegal(Asc::PARAMETER_LIST_LENGTH));
    }
    let len = be16(list, usize::from(LENGTH_AT)) as usize;
    let len = len - len % DESCRIPTOR_BYTES;
    if len > UNMAP_DESCRIPTORS_MAX as usize * DESCRIPTOR_BYTES {
        return Err(Condition::invalid_list(LENGTH_AT));
    }
    list[HEADER_BYTES..].get(..len).ok_or(Condition::illegal(Asc::PARAMETER_LIST_LENGTH))
}
