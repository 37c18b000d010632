//! REPORT IDENTIFYING INFORMATION (SPC-4 §6.32). A host cannot set any; what people call the volume is its target's name.

use crate::cdb::{be32, length};
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;
use crate::vpd;

/// INFORMATION TYPE (SPC-4 table 236).
const PERIPHERAL_DEVICE: u8 = 0x00;
const TEXT: u8 = 0x02;
const SUPPORTED: u8 = 0x7f;

/// Empty identifying information, the name as text, or which types there are and how long they can be.
pub(crate) fn report(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let name = vpd::target_name(&unit.settings.identity);
    let body = match call.cdb[10] >> 1 {
        PERIPHERAL_DEVICE => Vec::new(),
        TEXT => {
            let mut text = name.as_bytes().to_vec();
            text.push(0); // SPC-4 §4.3.1: null-terminated
            text
        }
        SUPPORTED => {
            let longest = (vpd::NAME_BYTES_MAX as u16 + 1).to_be_bytes();
            vec![PERIPHERAL_DEVICE << 1, 0, 0, 0, TEXT << 1, 0, longest[0], longest[1]]
        }
        _ => return Err(Condition::invalid_cdb(Field::cdb_bit(10, 7)).into()),
    };
    let [high, low] = (body.len() as u16).to_be_bytes();
    let data = [&[0, 0, high, low], &body[..]].concat();
    unit.reply(&data, length(be32(call.cdb, 6)))
}
