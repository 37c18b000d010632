//! INQUIRY: standard data (SPC-4 §6.6.2) and the way to the VPD pages.

use crate::cdb::be16;
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;
use crate::vpd;

/// T10 VENDOR IDENTIFICATION.
pub(crate) const VENDOR: [u8; 8] = *b"DYAD    ";
/// PRODUCT IDENTIFICATION.
const PRODUCT: [u8; 16] = *b"VIRTUAL-DISK    ";
/// PRODUCT REVISION LEVEL: major and minor version.
const REVISION: [u8; 4] = revision(env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
/// PERIPHERAL QUALIFIER 011b, device type 1Fh: no logical unit can be there.
const ABSENT: u8 = 0x7f;
/// Up to the end of what SPC-4 table 171 reserves.
const STANDARD_BYTES: usize = 96;
/// SAM-5, SPC-4, SBC-3 and iSCSI, no version claimed (SPC-4 annex D).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

/// EVPD and PAGE CODE.
pub(crate) fn inquiry(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let allocation = be16(call.cdb, 3) as usize;
    if is_vpd(call)? {
        let page = vpd::page(unit, call.cdb[2]).ok_or(Condition::invalid_cdb(Field::cdb(2)))?;
        return unit.reply(&page, allocation);
    }
    unit.reply(&standard(), allocation)
}

/// For a LUN that is not there.
pub(crate) fn absent(unit: &LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let allocation = be16(call.cdb, 3) as usize;
    if !is_vpd(call)? {
        let mut data = standard();
        data[0] = ABSENT;
        return unit.reply(&data, allocation);
    }
    if call.cdb[2] != vpd::SUPPORTED_PAGES {
        return Err(Condition::invalid_cdb(Field::cdb(2)).into());
    }
    unit.reply(&[ABSENT, vpd::SUPPORTED_PAGES, 0, 1, vpd::SUPPORTED_PAGES], allocation)
}

fn is_vpd(call: &Call<'_>) -> Result<bool, Condition> {
    let is_vpd = call.cdb[1] & 0x01 != 0;
    if is_vpd || call.cdb[2] == 0 { Ok(is_vpd) } else { Err(Condition::invalid_cdb(Field::cdb(2))) }
}

fn standard() -> [u8; STANDARD_BYTES] {
    let mut data = [0; STANDARD_BYTES];
    data[2] = 0x06; // VERSION: SPC-4
    data[3] = 0x12; // HISUP; RESPONSE DATA FORMAT 2
    data[4] = STANDARD_BYTES as u8 - 5;
    data[5] = 0x30 | 0x08; // TPGS: implicit and explicit changes of access states; 3PC: EXTENDED COPY
    data[7] = 0x02; // CMDQUE
    data[8..16].copy_from_slice(&VENDOR);
    data[16..32].copy_from_slice(&PRODUCT);
    data[32..36].copy_from_slice(&REVISION);
    for (at, descriptor) in VERSION_DESCRIPTORS.into_iter().enumerate() {
        data[58 + 2 * at..][..2].copy_from_slice(&descriptor.to_be_bytes());
    }
    data
}

/// "major.minor", padded or cut to four characters.
const fn revision(major: &str, minor: &str) -> [u8; 4] {
    let mut text = [b' '; 4];
    let mut len = 0;
    let parts = [major.as_bytes(), b".", minor.as_bytes()];
    let mut part = 0;
    while part < parts.len() {
        let mut at = 0;
        while at < parts[part].len() && len < text.len() {
            text[len] = parts[part][at];
            len += 1;
            at += 1;
        }
        part += 1;
    }
    text
}
