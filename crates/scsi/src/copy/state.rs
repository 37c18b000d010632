//! Copies under way, and how the last ones ended.
//!
//! A copy is shared between the unit and the command's task: when the task is dropped (an abort, a lost session), only
//! the unit's share is left, and the copy is over without anybody having to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use super::list::{Request, Segment};
use crate::nexus::NexusId;

/// Copies under way at once, a chunk of memory each; and as many ended ones whose status can be asked for.
pub(super) const COPIES_MAX: usize = 16;

/// One EXTENDED COPY.
#[derive(Debug)]
pub(crate) struct Copy {
    nexus: NexusId,
    id: Option<u8>,
    segments: Vec<Segment>,
    /// Segments that are done.
    processed: AtomicU16,
    bytes: AtomicU64,
    is_complete: AtomicBool,
    has_failed: AtomicBool,
}

/// COPY COMMAND STATUS (SPC-4 table 251).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum CopyStatus {
    InProgress = 0x00,
    Complete = 0x01,
    Failed = 0x02,
}

impl Copy {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn note_segment(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_bytes(&self, bytes: u32) {
        self.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    pub(super) fn end(&self, is_complete: bool) {
        let end = if is_complete { &self.is_complete } else { &self.has_failed };
        end.store(true, Ordering::Relaxed);
    }

    pub(super) fn processed(&self) -> u16 {
        self.processed.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed) || self.has_failed.load(Ordering::Relaxed)
    }
}

/// The copies of one unit, oldest first.
#[derive(Default)]
pub(crate) struct Copies {
    known: Vec<Arc<Copy>>,
}

impl Copies {
    /// Whether another copy can begin.
    pub(super) fn has_room(&self) -> bool {
        self.known.iter().filter(|copy| is_running(copy)).count() < COPIES_MAX
    }

    /// Whether a copy with this identifier is under way.
    pub(super) fn is_running(&self, nexus: NexusId, id: u8) -> bool {
        self.known.iter().any(|copy| copy.nexus == nexus && copy.id == Some(id) && is_running(copy))
    }

    /// A copy begins; an ended one of the same identifier is forgotten, and the oldest ended ones for room.
    pub(super) fn begin(&mut self, nexus: NexusId, request: Request) -> Arc<Copy> {
        let Request { id, segments } = request;
        self.known.retain(|copy| is_running(copy) || copy.nexus != nexus || copy.id != id);
        while self.known.len() >= 2 * COPIES_MAX {
            let oldest = self.known.iter().position(|copy| !is_running(copy)).unwrap_or(0);
            self.known.remove(oldest);
        }
        let copy = Arc::new(Copy {
            nexus,
            id,
            segments,
            processed: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            is_complete: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        });
        self.known.push(copy.clone());
        copy
    }

    /// The copy with this identifier, and how it is.
    pub(super) fn find(&self, nexus: NexusId, id: u8) -> Option<(&Copy, CopyStatus)> {
        let copy = self.known.iter().find(|copy| copy.nexus == nexus && copy.id == Some(id))?;
        let status = match copy.is_complete.load(Ordering::Relaxed) {
            true => CopyStatus::Complete,
            false if is_running(copy) => CopyStatus::InProgress,
            false => CopyStatus::Failed, // or its task was dropped
        };
        Some((copy, status))
    }

    /// A session ended: what was kept for its nexus is forgotten (SPC-4 §5.16.4.3).
    pub(crate) fn forget(&mut self, nexus: NexusId) {
        self.known.retain(|copy| copy.nexus != nexus);
    }
}

/// Its task is there, and not at its end.
fn is_running(copy: &Arc<Copy>) -> bool {
    Arc::strong_count(copy) > 1 && !copy.is_over()
}
