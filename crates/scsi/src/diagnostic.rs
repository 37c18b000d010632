//! SEND DIAGNOSTIC (SPC-4 §6.42), as far as the default self-test: the unit reads its first block, on every image in sync,
//! and verifies the checksum. There are no diagnostic pages, and no self-tests that go on in the background.

use dyad_contract::volume::VolumeOp;

use crate::cdb::be16;
use crate::response::{Begun, Response};
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

pub(crate) fn send(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const SELF_TEST_CODE: u8 = 0xe0;
    const SELF_TEST: u8 = 0x04;
    if call.cdb[1] & SELF_TEST_CODE != 0 {
        return Err(Condition::invalid_cdb(Field::cdb_bit(1, 7)).into());
    }
    if be16(call.cdb, 3) != 0 {
        return Err(Condition::invalid_cdb(Field::cdb(3)).into());
    }
    if call.cdb[1] & SELF_TEST == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    let first = Range { lba: 0, blocks: 1 };
    let op = VolumeOp::Verify { span: unit.settings.shape.span(first) };
    Ok(Begun::Volume { task: Task::new(call.nexus, Phase::End, first), op })
}
