//! WRITE BUFFER and READ BUFFER, as far as the echo buffer: what a host sends is handed back to it, to try the way
//! (SPC-4 §6.17, §6.49, modes 0Ah and 0Bh).

use dyad_payload::Payload;

use crate::cdb::be16;
use crate::nexus::NexusId;
use crate::response::{Begun, Response};
use crate::sense::{Asc, Condition, Field, SenseKey};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

/// One buffer for all nexuses. The capacity's field has 13 bits; a page says as much about the way.
const CAPACITY: u16 = 4096;
const ECHO: u8 = 0x0a;
const ECHO_DESCRIPTOR: u8 = 0x0b;

/// What was written last, and through which nexus.
#[derive(Default)]
pub(crate) struct Echo {
    bytes: Vec<u8>,
    of: Option<NexusId>,
}

/// WRITE BUFFER: asks for the bytes.
pub(crate) fn write(_: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    if call.cdb[1] & 0x1f != ECHO {
        return Err(refuse_mode());
    }
    let len = length(call);
    if len > u32::from(CAPACITY) {
        return Err(Condition::invalid_cdb(Field::cdb(6)).into());
    }
    if len == 0 {
        return Ok(Begun::Answer(Response::good())); // SPC-4 §6.49: no data, and no error
    }
    Ok(Begun::DataOut { task: Task::new(call.nexus, Phase::EchoData { len: len as u16 }, Range::NONE), len })
}

/// READ BUFFER: what was written last, or how much can be.
pub(crate) fn read(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const EBOS: u8 = 0x01;
    let allocation = length(call) as usize;
    match call.cdb[1] & 0x1f {
        ECHO_DESCRIPTOR => {
            let [high, low] = CAPACITY.to_be_bytes();
            unit.reply(&[EBOS, 0, high, low], allocation)
        }
        ECHO => match unit.echo.of {
            None => Err(Condition::illegal(Asc::COMMAND_SEQUENCE).into()),
            // EBOS: another nexus' bytes are never handed back (SPC-4 §6.17.7).
            Some(of) if of != call.nexus => Err(Condition::new(SenseKey::AbortedCommand, Asc::ECHO_OVERWRITTEN).into()),
            Some(_) => unit.reply(&unit.echo.bytes, allocation),
        },
        _ => Err(refuse_mode()),
    }
}

impl Echo {
    /// The bytes are here.
    pub(crate) fn keep(&mut self, by: NexusId, data: &Payload) {
        self.bytes = data.to_vec();
        self.of = Some(by);
    }
}

/// ALLOCATION LENGTH, PARAMETER LIST LENGTH: three bytes.
fn length(call: &Call<'_>) -> u32 {
    u32::from(call.cdb[6]) << 16 | be16(call.cdb, 7) as u32
}

fn refuse_mode() -> Refusal {
    Condition::invalid_cdb(Field::cdb_bit(1, 4)).into()
}
