//! The part's doors. Every event runs to completion: when a door closes, nothing is left to do but wait.

use dyad_cluster::SegmentRecord;
use dyad_payload::Slab;
use dyad_units::Moment;

use crate::lease::Leases;
use crate::owner::SetupError;
use crate::part::event::{PartAction, PartEvent};
use crate::part::setup::PartSetup;
use crate::part::status::PartStatus;

/// One node's part in one segment: an image of it, sessions of its volume, or both.
pub struct Part {
    record: SegmentRecord,
    setup: PartSetup,
    slab: Slab,
}

impl Part {
    /// A part for the segment of `record`, the newest one known. It begins with nothing up: pools and peers are told by
    /// events. `slab` gives the owner's side its buffers.
    ///
    /// # Errors
    /// [`SetupError`] if the record cannot be used at all.
    pub fn new(record: SegmentRecord, setup: PartSetup, slab: Slab) -> Result<Self, SetupError> {
        Ok(Self { record, setup, slab })
    }

    /// The only way in. `now` is the only clock; what has to be done is added to `out`.
    pub fn handle(&mut self, now: Moment, event: PartEvent, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let _ = (now, event, leases, out, &self.setup, &self.slab);
    }

    /// Time has passed. To be called no later than [`Self::next_deadline`] asks.
    pub fn tick(&mut self, now: Moment, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let _ = (now, leases, out);
    }

    /// When [`Self::tick`] is wanted; none: nothing waits for time.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// The newest record known to be stored.
    pub const fn record(&self) -> &SegmentRecord {
        &self.record
    }

    /// What it says about itself. Allocates; for people, not per command.
    pub fn status(&self) -> PartStatus {
        unreachable!("the status follows with the body")
    }
}
