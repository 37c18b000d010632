//! The mirror's doors.

use dyad_cluster::SegmentRecord;
use dyad_payload::Slab;
use dyad_units::Moment;

use crate::event::{Action, Event};
use crate::setup::{Setup, SetupError};
use crate::status::{Counters, MirrorState, MirrorStatus};

/// The owner of one segment.
pub struct Mirror {
    record: SegmentRecord,
}

impl Mirror {
    /// A mirror for the segment of `record`, the newest one that the store has. `slab` gives the buffers for
    /// merged blocks, fills and the sums of large writes.
    ///
    /// # Errors
    /// [`SetupError`] if the record cannot be served.
    pub fn new(record: SegmentRecord, _setup: Setup, _slab: Slab) -> Result<Self, SetupError> {
        Ok(Self { record })
    }

    /// Begins: surveys the images, claims the segment with a new epoch, makes equal what a crash left
    /// unequal. Operations may be handed in from the first moment; they wait, at most T.
    pub fn start(&mut self, _now: Moment, _out: &mut Vec<Action>) {}

    /// The only way in. `now` is the only clock; what has to be done is added to `out`.
    pub fn handle(&mut self, _now: Moment, _event: Event, _out: &mut Vec<Action>) {}

    /// Time has passed. To be called no later than [`Self::next_deadline`] asks.
    pub fn tick(&mut self, _now: Moment, _out: &mut Vec<Action>) {}

    /// When [`Self::tick`] is wanted; none: an idle segment needs no time (M4).
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// Begins to end in good order: new operations are answered busy, those under way end, everything is
    /// flushed and the interval closed. [`Action::Stopped`] tells the end.
    pub fn stop(&mut self, _now: Moment, _out: &mut Vec<Action>) {}

    /// The newest record that is known to be stored.
    pub fn record(&self) -> &SegmentRecord {
        &self.record
    }

    /// What it says about itself. Allocates; for people, not per command.
    pub fn status(&self) -> MirrorStatus {
        MirrorStatus {
            state: MirrorState::Starting,
            epoch: self.record.epoch,
            images: Vec::new(),
            in_flight: 0,
            suspect: 0,
            counters: Counters::default(),
        }
    }
}
