//! LOG SENSE: which pages there are, and how much space a thin volume uses and can have (SPC-4 §6.9, §7.3; SBC-3
//! §6.4.4). There is no temperature, and nothing that could be selected.

use dyad_units::Bytes;

use crate::cdb::be16;
use crate::nexus::{Attention, Who};
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

const SUPPORTED: u8 = 0x00;
const PROVISIONING: u8 = 0x0c;
const ALL_SUBPAGES: u8 = 0xff;

/// THRESHOLD EXPONENT (SBC-3 §6.6.5): resources are counted in extents of 256 KiB, the unit of allocation, whatever a
/// logical block is.
pub(crate) const fn threshold_exponent(block_shift: u32) -> u8 {
    (EXTENT_SHIFT - block_shift) as u8
}
const EXTENT_SHIFT: u32 = 18;

/// The space behind a volume, as far as a node knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Provisioning {
    /// What volumes use of the pool that holds the volume's image.
    pub used: Bytes,
    /// What that pool has left.
    pub available: Bytes,
    /// Whether that is less than the administrator wants to be left.
    pub is_low: bool,
}

/// LOG SENSE. PC does not matter: nothing is a counter with a threshold of its own (SPC-4 §7.3.2.2).
pub(crate) fn sense(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let (page, subpage) = (call.cdb[2] & 0x3f, call.cdb[3]);
    let from = be16(call.cdb, 5) as u16;
    let is_list = page == SUPPORTED;
    let body = match (page, subpage) {
        (SUPPORTED, 0) => vec![SUPPORTED, PROVISIONING],
        (SUPPORTED, ALL_SUBPAGES) => vec![SUPPORTED, 0, SUPPORTED, ALL_SUBPAGES, PROVISIONING, 0],
        (PROVISIONING, 0) => parameters(unit, from)?,
        (SUPPORTED | PROVISIONING, _) => return Err(Condition::invalid_cdb(Field::cdb(3)).into()),
        _ => return Err(Condition::invalid_cdb(Field::cdb_bit(2, 5)).into()),
    };
    if is_list && from != 0 {
        return Err(refuse_pointer().into()); // there are no parameters
    }
    const SPF: u8 = 0x40;
    let first = if subpage == 0 { page } else { page | SPF };
    let mut data = vec![first, subpage];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    unit.reply(&data, be16(call.cdb, 7) as usize)
}

/// AVAILABLE and USED LBA MAPPING RESOURCE COUNT, from a parameter code on. Nothing before the unit was told.
fn parameters(unit: &LogicalUnit, from: u16) -> Result<Vec<u8>, Condition> {
    const AVAILABLE: u16 = 0x0001;
    const USED: u16 = 0x0002;
    if from > USED {
        return Err(refuse_pointer());
    }
    let mut body = Vec::new();
    if let Some(known) = unit.provisioning {
        for (code, bytes) in [(AVAILABLE, known.available), (USED, known.used)] {
            if code >= from {
                parameter(&mut body, code, bytes);
            }
        }
    }
    Ok(body)
}

/// SBC-3 §6.4.4.2.
fn parameter(body: &mut Vec<u8>, code: u16, bytes: Bytes) {
    /// FORMAT AND LINKING 11b: a list in binary.
    const BINARY_LIST: u8 = 0x03;
    /// SCOPE 10b: the resources are other volumes', too.
    const SHARED: u8 = 0x02;
    let count = u32::try_from(bytes.value() >> EXTENT_SHIFT).unwrap_or(u32::MAX);
    body.extend(code.to_be_bytes());
    body.extend([BINARY_LIST, 8]);
    body.extend(count.to_be_bytes());
    body.extend([SHARED, 0, 0, 0]);
}

const fn refuse_pointer() -> Condition {
    Condition::invalid_cdb(Field::cdb(5))
}

impl LogicalUnit {
    /// How it stands with the space. When it becomes low every nexus learns it, once until it was better (SBC-3
    /// §4.7.3.7.3).
    pub fn set_provisioning(&mut self, now: Provisioning) {
        let was_low = self.provisioning.is_some_and(|before| before.is_low);
        self.provisioning = Some(now);
        if now.is_low && !was_low {
            self.nexuses.attend(Who::All, Attention::SoftThreshold);
        }
    }
}
