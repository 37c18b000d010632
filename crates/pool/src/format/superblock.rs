//! The two superblocks: what the disk is, and where everything on it lies (P13).
//!
//! Magic, version and the place of the checksum stay where they are in every format version to come.

use dyad_units::{Bytes, DiskId, NodeId, PoolId};

use crate::disk::{BlockingDisk, DiskError};
use crate::error::OpenError;
use crate::format::bytes::{Reader, Writer, crc};
use crate::format::layout::{Area, Layout};

/// Newest format that this program reads and writes.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"DYADPOOL";
const BYTES: usize = 4096;
const CRC_AT: usize = BYTES - 8;
const HOMES: [u64; 2] = [0, 64 << 10];
const CLEAN: u32 = 1 << 0;

/// What a disk says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Superblock {
    /// Format version.
    pub(crate) version: u32,
    /// The pool that the disk belongs to.
    pub(crate) pool: PoolId,
    /// The disk.
    pub(crate) disk: DiskId,
    /// The node that made it.
    pub(crate) node: NodeId,
    /// Rises with each change of the pool's disks (P13).
    pub(crate) generation: u64,
    /// Rises with each opening (P2, P6).
    pub(crate) mount: u64,
    /// Durable start counter (M11).
    pub(crate) start_counter: u64,
    /// What the disk writes untorn (A5).
    pub(crate) physical_block: u32,
    /// Whether it was closed properly.
    pub(crate) clean: bool,
    /// Where everything lies.
    pub(crate) layout: Layout,
}

impl Superblock {
    fn encode(&self) -> [u8; BYTES] {
        let mut block = [0; BYTES];
        let mut to = Writer::new(&mut block);
        to.bytes(&MAGIC);
        to.u32(self.version);
        to.u32(0); // features that a program must know to touch the disk: none so far
        to.bytes(&self.pool.to_bytes());
        to.bytes(&self.disk.to_bytes());
        to.bytes(&self.node.to_bytes());
        to.u64(self.generation);
        to.u64(self.mount);
        to.u64(self.start_counter);
        to.u32(self.physical_block);
        to.u32(if self.clean { CLEAN } else { 0 });
        let layout = &self.layout;
        to.u64(layout.size);
        let [pages_0, pages_1] = layout.pages;
        let [tables_0, tables_1] = layout.tables;
        for area in [layout.journal, pages_0, pages_1, tables_0, tables_1, layout.slots] {
            to.u64(area.offset);
            to.u64(area.len);
        }
        to.u32(layout.page_count);
        to.u32(layout.table_pages);
        to.u32(layout.slot_count);
        let sum = crc([0; 16], &[&block[..CRC_AT]]);
        block[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// One home, as found.
#[derive(Debug)]
enum Home {
    /// No magic.
    Foreign,
    /// Magic, but not what anyone wrote. `version` is what it would be.
    Damaged { version: u32 },
    /// Whole, of a newer format.
    Newer { version: u32 },
    /// Whole, but with features that this program does not know.
    Features { flags: u32 },
    /// Whole.
    Valid(Box<Superblock>),
}

fn decode(block: &[u8; BYTES]) -> Home {
    parse(block).unwrap_or(Home::Foreign)
}

/// `None` never happens, as the block is long enough for every field; it spares a line per field.
fn parse(block: &[u8; BYTES]) -> Option<Home> {
    let mut from = Reader::new(block);
    if from.array() != Some(MAGIC) {
        return Some(Home::Foreign);
    }
    let version = from.u32()?;
    let sum = u64::from_le_bytes(*block.last_chunk()?);
    if version == 0 || sum != crc([0; 16], &[&block[..CRC_AT]]) {
        return Some(Home::Damaged { version });
    }
    if version > VERSION {
        return Some(Home::Newer { version });
    }
    let features = from.u32()?;
    if features != 0 {
        return Some(Home::Features { flags: features });
    }
    let pool = PoolId::from_bytes(from.array()?);
    let disk = DiskId::from_bytes(from.array()?);
    let node = NodeId::from_bytes(from.array()?);
    let (generation, mount, start_counter) = (from.u64()?, from.u64()?, from.u64()?);
    let (physical_block, flags) = (from.u32()?, from.u32()?);
    let layout = parse_layout(&mut from)?;
    if flags & !CLEAN != 0 || !layout.is_consistent() {
        return Some(Home::Damaged { version });
    }
    let clean = flags & CLEAN != 0;
    Some(Home::Valid(Box::new(Superblock {
        version,
        pool,
        disk,
        node,
        generation,
        mount,
        start_counter,
        physical_block,
        clean,
        layout,
    })))
}

fn parse_layout(from: &mut Reader<'_>) -> Option<Layout> {
    let size = from.u64()?;
    let mut areas = [Area::default(); 6];
    for area in &mut areas {
        *area = Area { offset: from.u64()?, len: from.u64()? };
    }
    let [journal, pages_0, pages_1, tables_0, tables_1, slots] = areas;
    let (page_count, table_pages, slot_count) = (from.u32()?, from.u32()?, from.u32()?);
    let (pages, tables) = ([pages_0, pages_1], [tables_0, tables_1]);
    Some(Layout { size, journal, pages, page_count, tables, table_pages, slots, slot_count })
}

/// Reads both homes and tells which counts: the one of the later mount, the whole one if the other is damaged.
///
/// # Errors
/// What is on the disk instead of a pool that this program can open, or [`OpenError::Disk`].
pub(crate) fn read(disk: &mut dyn BlockingDisk) -> Result<Superblock, OpenError> {
    let size = disk.size();
    let mut homes = Vec::with_capacity(HOMES.len());
    let mut failed = None;
    for offset in HOMES {
        let mut block = [0; BYTES];
        if offset + BYTES as u64 > size.value() {
            continue;
        }
        match disk.read_at(&mut block, offset) {
            Ok(()) => homes.push(decode(&block)),
            Err(error) => failed = Some(error),
        }
    }
    let superblock = choose(homes, failed)?;
    if size.value() < superblock.layout.size {
        return Err(OpenError::Truncated { size, needed: Bytes::new(superblock.layout.size) });
    }
    Ok(superblock)
}

fn choose(homes: Vec<Home>, failed: Option<DiskError>) -> Result<Superblock, OpenError> {
    let mut best: Option<Box<Superblock>> = None;
    let mut damaged = None;
    for home in homes {
        match home {
            Home::Foreign => {}
            Home::Damaged { version } => damaged = damaged.max(Some(version)),
            Home::Newer { version } => return Err(OpenError::NewerVersion { found: version, known: VERSION }),
            Home::Features { flags } => return Err(OpenError::UnknownFeatures { flags }),
            Home::Valid(other) => match &best {
                Some(one) if (one.pool, one.disk) != (other.pool, other.disk) => {
                    return Err(OpenError::Inconsistent { what: "the two superblocks name different disks" });
                }
                Some(one) if (one.mount, one.generation) >= (other.mount, other.generation) => {}
                _ => best = Some(other),
            },
        }
    }
    match (best, failed, damaged) {
        (Some(superblock), ..) => Ok(*superblock),
        (None, Some(error), _) => Err(OpenError::Disk(error)),
        // Perhaps the newer format checks itself in another way: better not to call the disk damaged.
        (None, None, Some(version)) if version > VERSION => {
            Err(OpenError::NewerVersion { found: version, known: VERSION })
        }
        (None, None, Some(_)) => Err(OpenError::SuperblocksDamaged),
        (None, None, None) => Err(OpenError::Foreign),
    }
}

/// Writes home A durably, then home B, so that one is whole at any moment.
///
/// # Errors
/// What the disk says; then either home may be the old or the new one.
pub(crate) fn write_both(disk: &mut dyn BlockingDisk, superblock: &Superblock) -> Result<(), DiskError> {
    let block = superblock.encode();
    HOMES.into_iter().try_for_each(|offset| disk.write_durable_at(&block, offset))
}

/// Makes both homes foreign, durably. Formatting begins with it: a crash before its end must leave no pool,
/// neither the new one half-made nor the old one half-overwritten.
///
/// # Errors
/// What the disk says.
pub(crate) fn erase(disk: &mut dyn BlockingDisk) -> Result<(), DiskError> {
    HOMES.into_iter().try_for_each(|offset| disk.write_durable_at(&[0; BYTES], offset))
}

#[cfg(test)]
mod tests;
