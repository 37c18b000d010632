//! Whether the unit is there and what it has to say: TEST UNIT READY, REQUEST SENSE, REPORT LUNS, START STOP
//! UNIT.

use dyad_contract::volume::VolumeOp;

use crate::cdb::{be32, length};
use crate::nexus::Attention;
use crate::response::{Begun, Response};
use crate::sense::{Asc, Condition, Field, Sense, SenseFormat, SenseKey};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::{LogicalUnit, attention_condition};

/// SPC-4 §6.47. A stopped unit was refused before.
pub(crate) fn test_unit_ready(_: &mut LogicalUnit, _: &Call<'_>) -> Result<Begun, Refusal> {
    Ok(Begun::Answer(Response::good()))
}

/// SPC-4 §6.39: a pending unit attention is reported here and cleared; the status is GOOD.
pub(crate) fn request_sense(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let condition = if let Some(attention) = unit.nexuses.take(call.nexus) {
        attention_condition(attention)
    } else if unit.stopped {
        Condition::new(SenseKey::NotReady, Asc::START_REQUIRED)
    } else {
        Condition::new(SenseKey::NoSense, Asc::NONE)
    };
    sense_data(unit, call, condition)
}

/// Sense data as parameter data, in the format that DESC asks for.
pub(crate) fn sense_data(unit: &LogicalUnit, call: &Call<'_>, condition: Condition) -> Result<Begun, Refusal> {
    let format = if call.cdb[1] & 0x01 == 0 { SenseFormat::Fixed } else { SenseFormat::Descriptor };
    unit.reply(&Sense::new(condition, format), usize::from(call.cdb[4]))
}

/// SPC-4 §6.33: LUN 0 is all there is, with no well-known and no administrative logical units beside it.
pub(crate) fn report_luns(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const LUN_BYTES: u32 = 8;
    let is_hidden = unit.is_hidden_from(call.nexus);
    let has_lun = match call.cdb[2] {
        // All that are not well known; all; all that are not part of a conglomerate.
        0x00 | 0x02 | 0x11 => !is_hidden,
        // Well known ones only; administrative ones only.
        0x01 | 0x10 => false,
        _ => return Err(Condition::invalid_cdb(Field::cdb(2)).into()),
    };
    let allocation = length(be32(call.cdb, 6));
    if allocation < 16 {
        return Err(Condition::invalid_cdb(Field::cdb(6)).into());
    }
    // SPC-4 §6.33: it is told hereby.
    unit.nexuses.forget(call.nexus, Attention::LunsChanged);
    let mut list = [0; 16];
    let list = if has_lun {
        list[..4].copy_from_slice(&LUN_BYTES.to_be_bytes());
        &list[..]
    } else {
        &list[..8]
    };
    unit.reply(list, allocation)
}

/// SBC-3 §5.25: stopping makes durable what was acknowledged, then refuses access to the medium until the
/// unit is started again. IMMED is not used: the answer comes when it is done.
pub(crate) fn start_stop(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const NO_FLUSH: u8 = 0x04;
    const LOEJ: u8 = 0x02;
    const START: u8 = 0x01;
    let flags = call.cdb[4];
    if flags & 0xf0 != 0 {
        return Err(Condition::invalid_cdb(Field::cdb_bit(4, 7)).into()); // no power conditions
    }
    if flags & LOEJ != 0 {
        return Err(Condition::invalid_cdb(Field::cdb_bit(4, 1)).into()); // the medium is not removable
    }
    if flags & (START | NO_FLUSH) == 0 && !unit.stopped {
        let task = Task::new(call.nexus, Phase::FlushThenStop, Range::NONE);
        return Ok(Begun::Volume { task, op: VolumeOp::Flush });
    }
    unit.stopped = flags & START == 0;
    Ok(Begun::Answer(Response::good()))
}
