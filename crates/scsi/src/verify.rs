//! VERIFY and WRITE AND VERIFY (SBC-3 §5.36 to §5.38, §5.40 to §5.42).

use dyad_contract::volume::VolumeOp;

use crate::block::{transfer_range, write_then};
use crate::response::{Begun, Response};
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::task::{Check, Phase, Task};
use crate::unit::LogicalUnit;

/// BYTCHK, bits 2 and 1 of byte 1 (SBC-3 table 106).
fn bytchk(call: &Call<'_>) -> u8 {
    call.cdb[1] >> 1 & 0x03
}

fn refuse_bytchk() -> Refusal {
    Condition::invalid_cdb(Field::cdb_bit(1, 2)).into()
}

/// VERIFY(10), (12), (16): 00b checks that the blocks can be read, on every in-sync image; 01b compares them
/// with as many blocks sent, 11b each with the one block sent.
pub(crate) fn verify(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let bytchk = bytchk(call);
    if bytchk == 0b10 {
        return Err(refuse_bytchk());
    }
    let range = transfer_range(unit, call)?;
    if range.blocks == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    if bytchk == 0b00 {
        let op = VolumeOp::Verify { span: unit.settings.shape.span(range) };
        return Ok(Begun::Volume { task: Task::new(call.nexus, Phase::End, range), op });
    }
    let repeated = bytchk == 0b11;
    let len = unit.byte_len(if repeated { 1 } else { range.blocks });
    Ok(Begun::DataOut { task: Task::new(call.nexus, Phase::VerifyData { repeated }, range), len })
}

/// WRITE AND VERIFY(10), (12), (16): durable before it is verified, since what is verified is the medium.
pub(crate) fn write_and(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let check = match bytchk(call) {
        0b00 => Check::Readable,
        0b01 => Check::Equal,
        _ => return Err(refuse_bytchk()),
    };
    write_then(unit, call, true, check)
}
