//! Marking regions before the first write to them, clearing the marks of quiet ones (P5).

use std::collections::BTreeSet;

use dyad_units::{Region, Stamp};

use crate::engine::Pool;
use crate::engine::write::{Held, Kind};
use crate::format::state::Change;

/// A region whose mark is on its way to the journal, and who waits for it.
pub(super) struct Marking {
    at: usize,
    region: Region,
    /// The mark is durable once the journal has this many changes.
    durable_at: u64,
    held: Vec<Held>,
}

impl Marking {
    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }
}

impl Pool {
    /// Hands the change back if its region's mark is durable; otherwise keeps it until it is.
    pub(super) fn wait_for_mark(&mut self, held: Held) -> Option<Held> {
        let (at, region) = (held.at, held.what.piece().extent.region());
        let image = self.image_mut(at);
        // A mend may carry an old stamp: what counts here is when it was made.
        image.newest = image.newest.max(held.what.stamp());
        let stamp = if held.kind == Kind::Mend { image.newest } else { held.what.stamp() };
        let was_clean = image.regions.note_write(region, stamp);
        if was_clean {
            let image = self.image(at).no;
            let durable_at = self.enqueue(Change::Mark { image, region, marked: true });
            self.counters.regions_marked += 1;
            self.room.count += 1;
            self.marking.push(Marking { at, region, durable_at, held: vec![held] });
            return None;
        }
        match self.marking.iter_mut().find(|marking| marking.at == at && marking.region == region) {
            Some(marking) => {
                self.room.count += 1;
                marking.held.push(held);
                None
            }
            None => Some(held),
        }
    }

    /// The journal grew: writes whose mark is in it go on.
    pub(super) fn resume_marked(&mut self) {
        let durable = self.commits.durable();
        if self.marking.iter().any(|marking| marking.durable_at <= durable) {
            let (ready, waiting) =
                std::mem::take(&mut self.marking).into_iter().partition(|marking| marking.durable_at <= durable);
            self.marking = waiting;
            self.go_on(ready);
        }
    }

    /// Nothing will be made durable any more: whoever waits is told.
    pub(super) fn fail_marking(&mut self) {
        let waiting = std::mem::take(&mut self.marking);
        self.go_on(waiting);
    }

    fn go_on(&mut self, ready: Vec<Marking>) {
        for held in ready.into_iter().flat_map(|marking| marking.held) {
            self.room.count -= 1;
            self.change(held);
        }
    }

    /// Clears the marks of regions last written before `closed` (P5): in memory now, in the journal with the next record,
    /// so that a later mark of the same region is ordered behind. Regions with a change under way, and those that are
    /// still to be compared with other images, keep theirs.
    pub(super) fn clear_quiet_marks(&mut self, at: usize, closed: Stamp) {
        let mut busy: BTreeSet<Region> = BTreeSet::new();
        let written = self.ops.written_extents().filter(|(image, _)| *image == at).map(|(_, extent)| extent.region());
        busy.extend(written);
        let held = self.marking.iter().flat_map(Marking::held).chain(self.room.held()).chain(self.shortage.held());
        busy.extend(held.filter(|held| held.at == at).map(|held| held.what.piece().extent.region()));
        let image = self.image(at);
        busy.extend(image.uncompared.keys().copied());
        busy.extend(image.unsettled.iter().map(|write| write.piece.extent.region()));
        let quiet = image.regions.quiet(closed);
        let no = image.no;
        for region in quiet.into_iter().filter(|region| !busy.contains(region)) {
            self.image_mut(at).regions.clear(region);
            self.enqueue(Change::Mark { image: no, region, marked: false });
        }
    }
}
