//! MODE SENSE and MODE SELECT: Caching and Control, of which hosts can change WCE and SWP (SPC-4 §6.11 to §6.14, §7.5;
//! SBC-3 §6.5). What they set is part of the state that all nodes share (M20): it holds at every node from the answer on,
//! whoever becomes owner, until a LOGICAL UNIT RESET. What the administrator switched off no host switches on.

use crate::cdb::{be16, be32, be64};
use crate::reserve::request::Request;
use crate::reserve::state::{CACHE_OFF, PROTECTED};
use crate::response::{Begun, Response};
use crate::sense::{Asc, Condition, Field};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// In ascending order; none has subpages.
const PAGES: [u8; 2] = [CACHING, CONTROL];

/// SOFTWARE WRITE PROTECT, in byte 4 of the Control page.
const SWP: u8 = 0x08;
/// WRITEBACK CACHE ENABLE, in byte 2 of the Caching page.
const WCE: u8 = 0x04;

const MODE_SELECT_10: u8 = 0x55;
const MODE_SENSE_10: u8 = 0x5a;

/// Page control (SPC-4 table 143).
#[derive(Clone, Copy, PartialEq)]
enum Control {
    Current,
    Changeable,
    Default,
}

/// MODE SENSE(6), (10).
pub(crate) fn sense(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const DBD: u8 = 0x08;
    const LLBAA: u8 = 0x10;
    let long = call.cdb[0] == MODE_SENSE_10;
    let control = match call.cdb[2] >> 6 {
        0 => Control::Current,
        1 => Control::Changeable,
        2 => Control::Default,
        _ => return Err(Condition::illegal(Asc::SAVING_NOT_SUPPORTED).into()),
    };
    let pages = select_pages(call.cdb[2] & 0x3f, call.cdb[3])?;
    let flags = call.cdb[1];
    let block_descriptor = match (flags & DBD != 0, long && flags & LLBAA != 0) {
        (true, _) => Vec::new(),
        (false, false) => short_block_descriptor(unit).to_vec(),
        (false, true) => long_block_descriptor(unit).to_vec(),
    };
    let mut body = Vec::new();
    for &code in pages {
        body.extend(page(unit, code, control));
    }
    let wp = unit.is_protected_from(call.nexus);
    let data = if long { header_10(wp, &block_descriptor, &body) } else { header_6(wp, &block_descriptor, &body) };
    let allocation = if long { be16(call.cdb, 7) as usize } else { usize::from(call.cdb[4]) };
    unit.reply(&[data, block_descriptor, body].concat(), allocation)
}

/// PAGE CODE and SUBPAGE CODE (SPC-4 table 144).
fn select_pages(code: u8, subpage: u8) -> Result<&'static [u8], Condition> {
    let known = match code {
        ALL_PAGES => &PAGES[..],
        _ => {
            let at = PAGES.iter().position(|&page| page == code).ok_or(Condition::invalid_cdb(Field::cdb_bit(2, 5)))?;
            &PAGES[at..=at]
        }
    };
    if matches!(subpage, 0 | ALL_SUBPAGES) { Ok(known) } else { Err(Condition::invalid_cdb(Field::cdb(3))) }
}

fn page(unit: &LogicalUnit, code: u8, control: Control) -> Vec<u8> {
    if code == CACHING {
        let may_cache = unit.settings.write_cache;
        let has_cache = match control {
            Control::Current => unit.has_write_cache(),
            Control::Changeable | Control::Default => may_cache,
        };
        return caching(has_cache).to_vec();
    }
    let mut page = control_page().to_vec();
    match control {
        Control::Current if unit.shared.is_protected() => page[4] |= SWP,
        Control::Current | Control::Default => {}
        Control::Changeable => {
            page[2..].fill(0);
            page[4] = SWP;
        }
    }
    page
}

/// SBC-3 §6.5.5; nothing but WCE, so it is what can be changed as well.
fn caching(has_cache: bool) -> [u8; 20] {
    let mut page = [0; 20];
    page[0] = CACHING;
    page[1] = 18;
    page[2] = if has_cache { WCE } else { 0 };
    page
}

/// SPC-4 §7.5.8, as after a start: one task set for all nexuses, aborts not told to others (TAS zero), fixed
/// format sense data (D_SENSE zero), no software write protection (SWP zero).
fn control_page() -> [u8; 12] {
    let mut page = [0; 12];
    page[0] = CONTROL;
    page[1] = 10;
    page[2] = 0x02; // GLTSD: no log parameters are saved
    page[3] = 0x10; // QUEUE ALGORITHM MODIFIER: unrestricted reordering
    page[8..10].copy_from_slice(&u16::MAX.to_be_bytes()); // BUSY TIMEOUT PERIOD: not limited
    page
}

/// WP and DPOFUA (SBC-3 §6.5.1).
fn device_specific(wp: bool) -> u8 {
    const WP: u8 = 0x80;
    const DPOFUA: u8 = 0x10;
    if wp { WP | DPOFUA } else { DPOFUA }
}

fn header_6(wp: bool, block_descriptor: &[u8], body: &[u8]) -> Vec<u8> {
    let len = 3 + block_descriptor.len() + body.len();
    vec![len as u8, 0, device_specific(wp), block_descriptor.len() as u8]
}

fn header_10(wp: bool, block_descriptor: &[u8], body: &[u8]) -> Vec<u8> {
    let [high, low] = ((6 + block_descriptor.len() + body.len()) as u16).to_be_bytes();
    let long_lba = u8::from(block_descriptor.len() == LONG_DESCRIPTOR_BYTES);
    vec![high, low, 0, device_specific(wp), long_lba, 0, 0, block_descriptor.len() as u8]
}

const SHORT_DESCRIPTOR_BYTES: usize = 8;
const LONG_DESCRIPTOR_BYTES: usize = 16;

/// SBC-3 §6.5.2.2: a count that does not fit is all ones.
fn short_block_descriptor(unit: &LogicalUnit) -> [u8; SHORT_DESCRIPTOR_BYTES] {
    let shape = unit.settings.shape;
    let mut descriptor = [0; SHORT_DESCRIPTOR_BYTES];
    let blocks = u32::try_from(shape.blocks()).unwrap_or(u32::MAX);
    descriptor[4..].copy_from_slice(&shape.block().bytes().to_be_bytes());
    descriptor[..4].copy_from_slice(&blocks.to_be_bytes());
    descriptor
}

/// SBC-3 §6.5.2.3.
fn long_block_descriptor(unit: &LogicalUnit) -> [u8; LONG_DESCRIPTOR_BYTES] {
    let shape = unit.settings.shape;
    let mut descriptor = [0; LONG_DESCRIPTOR_BYTES];
    descriptor[..8].copy_from_slice(&shape.blocks().to_be_bytes());
    descriptor[12..].copy_from_slice(&shape.block().bytes().to_be_bytes());
    descriptor
}

/// MODE SELECT(6), (10): asks for the parameter list.
pub(crate) fn select(_: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const PF: u8 = 0x10;
    const SP: u8 = 0x01;
    let long = call.cdb[0] == MODE_SELECT_10;
    let len = if long { be16(call.cdb, 7) as u16 } else { u16::from(call.cdb[4]) };
    if call.cdb[1] & SP != 0 {
        return Err(Condition::invalid_cdb(Field::cdb_bit(1, 0)).into()); // nothing is saved
    }
    if len == 0 {
        return Ok(Begun::Answer(Response::good()));
    }
    if call.cdb[1] & PF == 0 {
        return Err(Condition::invalid_cdb(Field::cdb_bit(1, 4)).into()); // no vendor specific pages
    }
    let task = Task::new(call.nexus, Phase::ModeList { len, long }, Range::NONE);
    Ok(Begun::DataOut { task, len: u32::from(len) })
}

/// What a list asks for. Points at the first byte that would change anything that cannot be changed.
pub(crate) fn request(unit: &LogicalUnit, list: &[u8], long: bool) -> Result<Request, Condition> {
    let (header_bytes, descriptor_bytes) = check_header(list, long)?;
    let pages_at = header_bytes + descriptor_bytes;
    let descriptor = list.get(header_bytes..pages_at).ok_or(TOO_SHORT)?;
    check_block_descriptor(unit, descriptor, header_bytes)?;
    let (mut set, mut clear) = (0, 0);
    let mut ask = |flag: u8, is_set: bool| {
        (set, clear) = if is_set { (set | flag, clear & !flag) } else { (set & !flag, clear | flag) };
    };
    let mut at = pages_at;
    while at < list.len() {
        let page = check_page(unit, list, at)?;
        match page[0] & PAGE_CODE {
            CONTROL => ask(PROTECTED, page[4] & SWP != 0),
            // Where the administrator has it off it cannot be asked for, and is no host's to remember.
            CACHING if unit.settings.write_cache => ask(CACHE_OFF, page[2] & WCE == 0),
            _ => {}
        }
        at += page.len();
    }
    Ok(Request::Mode { set, clear })
}

const TOO_SHORT: Condition = Condition::illegal(Asc::PARAMETER_LIST_LENGTH);

/// Lengths of the header and of the block descriptor. MODE DATA LENGTH is reserved here and the device
/// specific parameter's bits are ignored (SPC-4 §7.5.5, SBC-3 §6.5.1).
fn check_header(list: &[u8], long: bool) -> Result<(usize, usize), Condition> {
    const MEDIUM_TYPE_6: usize = 1;
    const MEDIUM_TYPE_10: usize = 2;
    let header = list.get(..if long { 8 } else { 4 }).ok_or(TOO_SHORT)?;
    let (medium_type_at, descriptor_bytes, length_at) =
        if long { (MEDIUM_TYPE_10, be16(header, 6) as usize, 6) } else { (MEDIUM_TYPE_6, usize::from(header[3]), 3) };
    if header[medium_type_at] != 0 {
        return Err(Condition::invalid_list(medium_type_at as u16));
    }
    let expected = if long && header[4] & 0x01 != 0 { LONG_DESCRIPTOR_BYTES } else { SHORT_DESCRIPTOR_BYTES };
    if descriptor_bytes != 0 && descriptor_bytes != expected {
        return Err(Condition::invalid_list(length_at));
    }
    Ok((header.len(), descriptor_bytes))
}

/// The count of blocks may be given as it is, as zero ("keep it") or as all ones ("the most").
fn check_block_descriptor(unit: &LogicalUnit, descriptor: &[u8], at: usize) -> Result<(), Condition> {
    let (blocks, unlimited, len, len_at) = match descriptor.len() {
        0 => return Ok(()),
        SHORT_DESCRIPTOR_BYTES => (be32(descriptor, 0), u64::from(u32::MAX), be32(descriptor, 4) & 0x00ff_ffff, 5),
        _ => (be64(descriptor, 0), u64::MAX, be32(descriptor, 12), 12),
    };
    let shape = unit.settings.shape;
    if blocks != 0 && blocks != unlimited && blocks != shape.blocks() {
        return Err(Condition::invalid_list(at as u16));
    }
    if len != u64::from(shape.block().bytes()) {
        return Err(Condition::invalid_list((at + len_at) as u16));
    }
    Ok(())
}

const PAGE_CODE: u8 = 0x3f;

/// The page at `at` of the list, checked.
fn check_page<'a>(unit: &LogicalUnit, list: &'a [u8], at: usize) -> Result<&'a [u8], Condition> {
    const SPF: u8 = 0x40;
    let code = list[at] & PAGE_CODE;
    if list[at] & SPF != 0 || !PAGES.contains(&code) {
        return Err(Condition::invalid_list(at as u16));
    }
    let current = page(unit, code, Control::Current);
    let changeable = page(unit, code, Control::Changeable);
    let given = list.get(at..at + current.len()).ok_or(TOO_SHORT)?;
    // PAGE LENGTH is compared, too; of byte 0 the code is known, and PS is reserved here.
    let is_wrong = |&byte: &usize| {
        let mask = if byte < 2 { 0 } else { changeable[byte] };
        (given[byte] ^ current[byte]) & !mask != 0
    };
    match (1..current.len()).find(is_wrong) {
        None => Ok(given),
        Some(differs) => Err(Condition::invalid_list((at + differs) as u16)),
    }
}
