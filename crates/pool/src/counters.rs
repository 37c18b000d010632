//! What a pool has seen and holds, for status and metrics.

/// Events since the pool was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Blocks that did not match their checksum when read, each counted once until it is overwritten (P7).
    pub blocks_damaged: u64,
    /// Blocks rewritten from another image: equalised, resynced or healed (P8, M14, P14).
    pub blocks_mended: u64,
    /// Those among them that had been found damaged (P14).
    pub blocks_healed: u64,
    /// Blocks believed although no checksum matched, because no image had better (P8).
    pub blocks_adopted: u64,
    /// Blocks of the recent log that matched no entry after a crash (P6, A5).
    pub blocks_torn: u64,
    /// Regions marked (P5).
    pub regions_marked: u64,
    /// Records written to the commit journal.
    pub commits: u64,
    /// Data syncs.
    pub syncs: u64,
    /// Checkpoints of metadata pages.
    pub checkpoints: u64,
    /// Checksum pages read because they were not in memory.
    pub table_reads: u64,
}

/// What a pool holds now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolUse {
    /// Slots of 256 KiB in all.
    pub slots_total: u64,
    /// Slots that may be allocated.
    pub slots_free: u64,
    /// Free slots promised to owners (P15).
    pub slots_promised: u64,
    /// Metadata pages in all.
    pub pages_total: u64,
    /// Metadata pages that may be allocated.
    pub pages_free: u64,
    /// Marked regions of all images.
    pub regions_marked: u64,
    /// Whether one image has more marked regions than its budget, so that its interval should close (P5).
    pub over_budget: bool,
    /// Extents of all images that the disk lost (P12).
    pub extents_lost: u64,
    /// Blocks of all images that were found damaged and not overwritten since (P7).
    pub blocks_damaged: u64,
    /// Whether the disk failed a write or a sync (P11).
    pub poisoned: bool,
    /// Requests in flight.
    pub requests: u64,
}
