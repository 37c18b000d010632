//! The region log (P5): a region is marked, durably, before the first write to it.
//!
//! A region remembers in which *generation* it was last written. A close begins a new generation, so "not written in
//! the interval just closed nor since" is "last written before the generation that the close ended".

use dyad_units::{Bytes, EXTENTS_PER_REGION, Extent, REGION_BYTES, Region, STATE_EXTENT};

use crate::engine::Pool;
use crate::engine::write::Held;
use crate::format::page::MARKS_PER_PAGE;
use crate::format::state::Change;

/// Marked regions per image beyond which its interval should close early: 64 GiB to compare after a crash (P5).
pub(super) const MARKED_MAX: u64 = 16_384;

const CLEAN: u32 = 0;

/// The region log of one image in memory.
pub(super) struct Regions {
    /// Generation of the last write to each region, or clean.
    written: Vec<u32>,
    /// The same for the region of the state extent, which lies beyond the size (M20).
    state_written: u32,
    generation: u32,
    marked: u64,
}

impl Regions {
    pub(super) fn new(size: Bytes, marks: &[u64], state_mark: bool) -> Self {
        let count = size.value().div_ceil(u64::from(REGION_BYTES)) as usize;
        let is_marked = |at: usize| marks.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        let written: Vec<u32> = (0..count).map(|at| u32::from(is_marked(at))).collect();
        let marked = written.iter().filter(|&&last| last != CLEAN).count() as u64 + u64::from(state_mark);
        Self { written, state_written: u32::from(state_mark), generation: 1, marked }
    }

    fn place(&mut self, region: Region) -> &mut u32 {
        if region == STATE_EXTENT.region() { &mut self.state_written } else { &mut self.written[region.0 as usize] }
    }

    pub(super) fn is_marked(&self, region: Region) -> bool {
        if region == STATE_EXTENT.region() {
            return self.state_written != CLEAN;
        }
        self.written[region.0 as usize] != CLEAN
    }

    /// Notes a write; whether the region was clean, so that its mark has to be made durable first.
    fn note_write(&mut self, region: Region) -> bool {
        let generation = self.generation;
        let last = self.place(region);
        let was_clean = *last == CLEAN;
        *last = generation;
        self.marked += u64::from(was_clean);
        was_clean
    }

    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.marked > MARKED_MAX
    }

    /// Regions that are marked, ascending.
    pub(super) fn iter_marked(&self) -> impl Iterator<Item = Region> + '_ {
        let host = self.written.iter().enumerate().filter(|(_, last)| **last != CLEAN);
        let state = (self.state_written != CLEAN).then_some(STATE_EXTENT.region());
        host.map(|(at, _)| Region(at as u32)).chain(state)
    }

    /// Marked regions within part `index` of the region log, counted from its start.
    pub(super) fn iter_part(&self, index: u32) -> impl Iterator<Item = usize> + '_ {
        let part = self.written.iter().skip(index as usize * MARKS_PER_PAGE).take(MARKS_PER_PAGE);
        part.enumerate().filter(|(_, last)| **last != CLEAN).map(|(at, _)| at)
    }

    /// An interval closes: writes from here on are newer.
    pub(super) fn begin_generation(&mut self) {
        self.generation = self.generation.checked_add(1).expect("four billion closes are centuries");
    }

    /// Last written before the generation that the newest close ended.
    fn is_quiet(&self, region: Region) -> bool {
        let last = if region == STATE_EXTENT.region() { self.state_written } else { self.written[region.0 as usize] };
        last != CLEAN && last + 1 < self.generation
    }

    fn clear(&mut self, region: Region) {
        *self.place(region) = CLEAN;
        self.marked -= 1;
    }
}

/// A region whose mark is on its way to the journal, and who waits for it.
pub(super) struct Marking {
    at: usize,
    region: Region,
    /// The mark is durable once the journal has this many changes.
    durable_at: u64,
    held: Vec<Held>,
}

pub(super) fn extents_of(region: Region) -> impl Iterator<Item = Extent> {
    let first = region.0 * EXTENTS_PER_REGION;
    (first..=first + (EXTENTS_PER_REGION - 1)).map(Extent)
}

impl Pool {
    /// Hands the change back if its region's mark is durable; otherwise keeps it until it is.
    pub(super) fn wait_for_mark(&mut self, region: Region, held: Held) -> Option<Held> {
        let at = held.at;
        let was_clean = self.image_mut(at).regions.note_write(region);
        if was_clean {
            let image = self.image(at).no;
            let durable_at = self.enqueue(Change::Mark { image, region, marked: true });
            self.counters.regions_marked += 1;
            self.marking.push(Marking { at, region, durable_at, held: vec![held] });
            return None;
        }
        if self.marking.is_empty() {
            return Some(held);
        }
        match self.marking.iter_mut().find(|marking| marking.at == at && marking.region == region) {
            Some(marking) => {
                marking.held.push(held);
                None
            }
            None => Some(held),
        }
    }

    /// The journal grew: writes whose mark is in it go on.
    pub(super) fn resume_marked(&mut self) {
        let durable = self.commits.durable();
        let mut ready = Vec::new();
        self.marking.retain_mut(|marking| {
            let is_durable = marking.durable_at <= durable;
            if is_durable {
                ready.append(&mut marking.held);
            }
            !is_durable
        });
        for held in ready {
            self.change(held);
        }
    }

    /// Nothing will be made durable any more: whoever waits is told.
    pub(super) fn fail_marking(&mut self) {
        let waiting: Vec<Held> = self.marking.drain(..).flat_map(|marking| marking.held).collect();
        for held in waiting {
            self.change(held);
        }
    }

    /// Clears the marks of quiet regions (P5): in memory now, in the journal with the next record, so that a later mark
    /// of the same region is ordered behind. Regions with a write in flight or a suspect extent keep theirs.
    pub(super) fn clear_quiet_marks(&mut self, at: usize) {
        let busy: Vec<Region> =
            self.ops.written_extents().filter(|(image, _)| *image == at).map(|(_, extent)| extent.region()).collect();
        let image = self.images[at].as_mut().expect("an image in use is not deleted");
        let quiet: Vec<Region> = image.regions.iter_marked().filter(|&region| image.regions.is_quiet(region)).collect();
        let no = image.no;
        for region in quiet {
            let image = self.image_mut(at);
            if busy.contains(&region) || image.has_suspect_in(extents_of(region)) {
                continue;
            }
            image.regions.clear(region);
            self.enqueue(Change::Mark { image: no, region, marked: false });
        }
    }
}
