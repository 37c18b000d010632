//! Formatting and opening, in straight-line code.
//!
//! Opening, step by step; a crash anywhere leads to the same result at the next try:
//!
//! 1. superblock, sync (P11), pages and journal: the committed state;
//! 2. L of this very mount there: replay it on top (P6); not there: extents of marked regions are suspect (P8);
//! 3. everything that changed is flushed, by the same engine that serves requests; until the end of this step L is as the
//!    process before left it, so a crash replays the same L over a state that may contain parts of it already;
//! 4. L is taken over: its header names the next mount number and the present one, so that it counts before and after the
//!    next step; its entries are all flushed, and stay only for what other images may lack (M3). An L that was not there
//!    begins anew, and counts only after the next step;
//! 5. the superblock gets the next mount number. Only now requests are served.

mod replay;

use std::collections::BTreeSet;

use dyad_units::Bytes;

use crate::config::{FormatConfig, OpenConfig};
use crate::disk::{BlockingDisk, DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::error::{FormatError, OpenError};
use crate::format::journal::{Ring, RingStart};
use crate::format::layout::Layout;
use crate::format::load::{Loaded, load};
use crate::format::page::{self, PAGE_BYTES};
use crate::format::recent::{Recent, read_back};
use crate::format::state::{Committed, PageNo, PageOwner};
use crate::format::superblock::{self, Superblock, VERSION};
use crate::log::RecentLog;
use crate::open::replay::Belief;

/// What opening found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// L was there, and nothing was left to compare from before: nothing acknowledged is missing (M11).
    pub lived_through: bool,
    /// Entries of L that were replayed.
    pub entries_replayed: u64,
    /// Blocks that L names and that match nothing known: they were being written when the process ended.
    pub blocks_torn: u64,
    /// The disk had failed under the process before, or failed its first sync: what it held unflushed is lost (P11, P12).
    pub was_poisoned: bool,
    /// Extents that are suspect because they lie in marked regions and L was not there, now or at an opening before after
    /// which not everything was compared (P8).
    pub extents_suspect: u64,
    /// Mount number of this opening.
    pub mount: u64,
    /// Start counter of the disk: how often a node took it into use (M11).
    pub start_counter: u64,
}

/// What a pool is assembled from.
pub(crate) struct Start {
    pub(crate) superblock: Superblock,
    pub(crate) committed: Committed,
    pub(crate) ring: Ring,
    pub(crate) ahead: BTreeSet<PageNo>,
    pub(crate) has_recent: bool,
}

pub(crate) fn open(
    disk: &mut dyn BlockingDisk,
    mut log: Box<dyn RecentLog>,
    config: &OpenConfig,
) -> Result<(Pool, OpenReport), OpenError> {
    let mut superblock = superblock::read(disk)?;
    if let Some(wanted) = config.pool.filter(|wanted| *wanted != superblock.pool) {
        return Err(OpenError::OtherPool { found: superblock.pool, wanted });
    }
    let mut found = read_back(&*log, superblock.disk, superblock.mount);
    // The first sync tells whether the kernel failed to write something that the process before thought written. Without L
    // the machine restarted and the kernel knows of nothing.
    let synced = disk.sync();
    match (synced, &mut found) {
        (Ok(()), _) => {}
        (Err(error), None) => return Err(OpenError::Disk(error)),
        // This opening may come to nothing, and the next one's first sync succeed: that must not be believed.
        (Err(_), Some(found)) => found.note_poison(&mut *log, superblock.disk),
    }
    let Loaded { committed, ring, ahead } = load(disk, &superblock)?;
    let mut report = OpenReport {
        lived_through: found.is_some(),
        was_poisoned: synced.is_err() || found.as_ref().is_some_and(|found| found.is_poisoned),
        start_counter: superblock.start_counter + 1,
        mount: superblock.mount + 1,
        ..OpenReport::default()
    };
    let has_recent = found.is_some();
    let start = Start { superblock: superblock.clone(), committed, ring, ahead, has_recent };
    let mut pool = Pool::assemble(start, &config.slab);
    if let Some(found) = &found {
        let belief = match (synced, found.is_poisoned) {
            (Err(_), _) => Belief::None,
            (Ok(()), true) => Belief::OnSight,
            (Ok(()), false) => Belief::Whole,
        };
        pool.replay(disk, found, belief, &mut report)?;
    }
    for at in pool.open_images() {
        if found.is_none() || pool.is_suspect(at) {
            report.extents_suspect += pool.suspect_marked(at);
            report.lived_through = false;
        }
    }
    pool.give_up_empty();
    pool.flush_recovered();
    settle(&mut pool, disk)?;
    superblock.mount = report.mount;
    superblock.start_counter = report.start_counter;
    superblock.clean = false;
    let recent = match &found {
        Some(found) => {
            let tail = pool.oldest_unsettled().unwrap_or(found.next());
            Recent::take_over(log, superblock.disk, superblock.mount, found, tail)
        }
        None => Recent::begin(log, superblock.disk, superblock.mount),
    };
    superblock::write_both(disk, &superblock).map_err(OpenError::Disk)?;
    pool.begin_serving(superblock, recent, report.blocks_torn);
    Ok((pool, report))
}

/// Runs the engine until everything that recovery changed is in its place.
fn settle(pool: &mut Pool, disk: &mut dyn BlockingDisk) -> Result<(), OpenError> {
    let mut ops = Vec::new();
    loop {
        pool.take_disk_ops(&mut ops);
        if ops.is_empty() {
            break;
        }
        for op in ops.drain(..) {
            let token = op.token();
            let result = carry_out(disk, op);
            if let Err(error) = result {
                return Err(OpenError::Disk(error));
            }
            pool.complete(token, result);
        }
    }
    Ok(())
}

fn carry_out(disk: &mut dyn BlockingDisk, op: DiskOp) -> Result<DiskDone, DiskError> {
    match op {
        DiskOp::Read { offset, mut buf, .. } => {
            disk.read_at(&mut buf, offset)?;
            return Ok(DiskDone::Read(buf));
        }
        DiskOp::Write { mut offset, data, .. } => {
            for slice in data.slices() {
                disk.write_at(slice, offset)?;
                offset += slice.len() as u64;
            }
        }
        DiskOp::WriteDurable { offset, data, .. } => disk.write_durable_at(&data, offset)?,
        DiskOp::Sync { .. } => disk.sync()?,
    }
    Ok(DiskDone::Done)
}

pub(crate) fn format(disk: &mut dyn BlockingDisk, config: &FormatConfig) -> Result<(), FormatError> {
    let size = disk.size();
    let too_small = FormatError::TooSmall { size, needed: Layout::SIZE_MIN };
    let layout = Layout::plan(size).ok_or(too_small)?;
    if !config.overwrite {
        match superblock::read(disk) {
            Ok(found) => return Err(FormatError::InUse { pool: found.pool, disk: found.disk }),
            Err(OpenError::Foreign) => {}
            Err(OpenError::Disk(error)) => return Err(FormatError::Disk(error)),
            // Perhaps somebody's pool, of a newer Dyad, or in need of repair.
            Err(found) => return Err(FormatError::Doubtful(found)),
        }
    }
    let superblock = Superblock {
        version: VERSION,
        pool: config.pool,
        disk: config.disk,
        node: config.node,
        generation: 1,
        mount: 0,
        start_counter: 0,
        physical_block: disk.physical_block(),
        clean: true,
        layout,
    };
    write_empty(disk, &superblock).map_err(FormatError::Disk)
}

/// The superblock comes last: a crash before it leaves no pool, neither the new nor the old one.
fn write_empty(disk: &mut dyn BlockingDisk, superblock: &Superblock) -> Result<(), DiskError> {
    superblock::erase(disk)?;
    let layout = &superblock.layout;
    let zeros = vec![0; Bytes::mib(1).value() as usize];
    let mut at = layout.journal.offset;
    while at < layout.journal.offset + layout.journal.len {
        let len = (layout.journal.offset + layout.journal.len - at).min(zeros.len() as u64);
        disk.write_at(&zeros[..len as usize], at)?;
        at += len;
    }
    let directory_pages = layout.directory_pages();
    for index in 0..directory_pages {
        let mut bytes = [0; PAGE_BYTES];
        let first = index * page::DIRECTORY_ENTRIES as u32;
        let listed = (first..directory_pages).take(page::DIRECTORY_ENTRIES);
        let owners = listed.map(|page| ((page - first) as usize, PageOwner::Directory { index: page }));
        let itself = PageOwner::Directory { index };
        page::encode(&mut bytes, superblock.disk, PageNo(index), itself, 0, |body| {
            page::encode_directory(owners, 1, 1, body)
        });
        for home in 0..2 {
            disk.write_at(&bytes, layout.page_offset(home, PageNo(index)))?;
        }
    }
    let slab = dyad_payload::Slab::new(PAGE_BYTES);
    let mut ring = Ring::new(layout.journal, superblock.pool, superblock.mount, RingStart::empty());
    let first = ring.append(&[], 0, &slab).expect("an empty ring takes a first record");
    disk.write_at(&first.bytes, first.offset)?;
    disk.sync()?;
    superblock::write_both(disk, superblock)
}
