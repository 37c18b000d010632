//! What a resync asks of an image: what changed, that an extent was copied, how far it came (M13 to M15).
//!
//! Everything here may be cut off by a crash, and must then claim less than was done, never more:
//!
//! ```text
//!  Mend, Mend, …  ─▶  Copied{stamp}  ─▶  …  ─▶  flush round  ─▶  cursor and k in the journal  ─▶  answered
//!  marked, in L       in memory only             data, then        after all that lies          quiet marks cleared
//!                                                the stamps        below the cursor
//! ```
//!
//! A stamp that was lowered is like a written bit: the committed entry keeps the old one until the data is durable (P2),
//! and a crash of the process, after which L raises stamps again, leaves the extent needed.

use dyad_contract::image::{CHANGED_MAX, Changed, ImageError, Reply, Token};
use dyad_units::{Extent, Interval, Stamp};

use crate::engine::Pool;
use crate::engine::admin::Change as AdminChange;
use crate::engine::flush::{Depth, Waiter};
use crate::entry::{Entry, LOST, SUSPECT};
use crate::format::state::Change;
use crate::map::LeafIndex;

/// Leaves looked at for one answer: 32 GiB of an image, half a millisecond. An owner asks on.
const SCAN_LEAVES_MAX: usize = 1024;

/// How far a resync came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Extents below are copied; none: the image is complete.
    pub(super) cursor: Option<Extent>,
    /// k (M15).
    pub(super) complete: Stamp,
}

impl Pool {
    /// Extents from `from` on that were last written after `after`, tombstones included, or are lost (M13). Of a suspect
    /// extent nobody knows when it was written: it counts as newer than everything (M1).
    pub(super) fn changed(&mut self, at: usize, token: Token, after: Stamp, from: Extent) {
        let map = &self.image(at).map;
        let mut found = Changed { extents: Vec::new(), next: None };
        let (mut index, mut leaves) = (map.leaf_from(LeafIndex::of(from)), 0);
        'scan: while let Some(at_leaf) = index {
            let entries = map.leaf(at_leaf).into_iter().flatten().enumerate();
            let entries = entries.filter_map(|(nth, entry)| Some((at_leaf.extent(nth)?, entry)));
            for (extent, entry) in entries.filter(|(extent, _)| *extent >= from) {
                let stamp = shown_stamp(entry);
                if stamp <= after && !entry.has(LOST) {
                    continue;
                }
                if found.extents.len() == CHANGED_MAX {
                    found.next = Some(extent);
                    break 'scan;
                }
                found.extents.push((extent, stamp));
            }
            leaves += 1;
            index = at_leaf.next().and_then(|next| map.leaf_from(next));
            if leaves == SCAN_LEAVES_MAX {
                found.next = index.and_then(|next| next.extent(0));
                break;
            }
        }
        self.reply(at, token, Reply::Changed(Box::new(found)));
    }

    /// The extent has the source's content: it takes exactly the source's stamp, lower or not (M1), and is neither lost
    /// (P12) nor suspect any more. A tombstone is copied too, or whoever resyncs from here later would miss it (P9).
    pub(super) fn copied(&mut self, at: usize, token: Token, extent: Extent, stamp: Stamp) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        let entry = self.image(at).map.entry(extent);
        if entry.stamp() != stamp || entry.has(LOST | SUSPECT) {
            let is_free = self.pages.free() > self.space.promised();
            let has_page = self.has_map_page(at, extent) || is_free && self.ensure_map_page(at, extent);
            if !has_page {
                return self.fail(at, token, ImageError::Full);
            }
            self.change_entry(at, extent, |entry| {
                entry.set_stamp(stamp);
                entry.clear(LOST | SUSPECT);
            });
        }
        // Whatever other images might have lacked of it, this one has what the source has now.
        self.with_unsettled(at, |writes| writes.forget(extent));
        self.image_mut(at).compared(extent);
        if self.has_too_many_uncommitted() {
            self.image_mut(at).requests += 1;
            return self.flush_for(Waiter::Request { at, token }, Depth::Data);
        }
        self.reply(at, token, Reply::Done);
    }

    /// Keeps how far the resync came, after everything that lies below it is durable (M15).
    pub(super) fn progress(&mut self, at: usize, token: Token, progress: Progress) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        let image = self.image_mut(at);
        image.requests += 1;
        // What is mended from now on may miss the flush, and its mark must not be taken for a quiet one.
        image.newest = image.newest.max(progress.complete);
        self.flush_for(Waiter::Progress { at, token, progress }, Depth::Stamps);
    }

    /// All that was copied before the progress was asked for is durable. Not earlier does anything say so: what is kept of
    /// an image may go to the disk at any time.
    pub(super) fn progress_flushed(&mut self, at: usize, token: Token, progress: Progress) {
        let Progress { cursor, complete } = progress;
        let image = self.image_mut(at);
        (image.meta.cursor, image.meta.complete) = (cursor, complete);
        image.keep_suspects();
        let is_complete = cursor.is_none() && image.uncompared.is_empty();
        let (no, is_cleared) = (image.no, image.suspect && is_complete);
        // It has what the source has: for the rest of this life nothing is missing (M11).
        image.lived_through |= is_complete;
        self.enqueue_image(at);
        if is_cleared {
            self.enqueue(Change::Suspect { image: no, suspect: false });
        }
        self.clear_quiet_marks(at, complete);
        let durable_at = self.commits.enqueued();
        self.wait_for_commit(durable_at, AdminChange::Request { at, token });
    }

    /// First phase of a close (M4): everything of the interval is here. What is mended from now on belongs to a later one.
    pub(super) fn close_request(&mut self, at: usize, token: Token, interval: Interval) {
        let image = self.image_mut(at);
        image.newest = image.newest.max(Stamp::new(image.meta.epoch, interval));
        self.flush_request(at, token, Depth::Stamps);
    }
}

/// A suspect extent counts as newer than everything (M1).
pub(super) fn shown_stamp(entry: &Entry) -> Stamp {
    if entry.has(SUSPECT) { Stamp::NEWEST } else { entry.stamp() }
}
