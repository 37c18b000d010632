//! Closing intervals (M4) and keeping the newest record (M3, M9).

use dyad_contract::image::{ImageError, RECORD_BYTES_MAX, Reply, Token};
use dyad_payload::Payload;
use dyad_units::{Epoch, Stamp};

use crate::engine::Pool;
use crate::engine::admin::{Change as AdminChange, Pending};
use crate::engine::marks::Marking;
use crate::format::state::Change;

impl Pool {
    /// Second phase of a close: all in-sync images did the first, a flush with stamps. Closed never falls.
    pub(super) fn closed_request(&mut self, at: usize, token: Token, stamp: Stamp) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        let image = self.image_mut(at);
        image.requests += 1;
        image.meta.closed = image.meta.closed.max(stamp);
        image.newest = image.newest.max(stamp);
        let (no, closed) = (image.no, image.meta.closed);
        self.enqueue(Change::Closed { image: no, stamp: closed });
        // Every in-sync image has everything up to the closed stamp, so none lacks it (M3).
        self.with_unsettled(at, |writes| writes.close(stamp));
        self.clear_quiet_marks(at, stamp);
        let durable_at = self.commits.enqueued();
        self.wait_for_commit(durable_at, AdminChange::Request { at, token });
    }

    /// Keeps the newest record; from now on requests of a lower epoch are refused. It is answered when those that came
    /// before are (M3).
    pub(super) fn record(&mut self, at: usize, token: Token, epoch: Epoch, record: &Payload) {
        assert!(record.len() <= RECORD_BYTES_MAX, "a record has a bound");
        let newest = self.image(at).meta.epoch;
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        if epoch < newest {
            return self.fail(at, token, ImageError::Superseded { newest });
        }
        let image = self.image_mut(at);
        image.requests += 1;
        image.meta.epoch = epoch;
        image.meta.record = record.to_vec();
        if epoch > newest {
            self.space.void_credits(at);
        }
        let durable_at = self.enqueue_image(at);
        self.records_waiting += 1;
        self.wait_for_commit(durable_at, AdminChange::Record { at, token, epoch });
    }

    /// Whether a change of a lower epoch is still under way: on the disk, or held for a mark or for room.
    pub(super) fn has_older_change(&self, at: usize, epoch: Epoch) -> bool {
        let held = self.marking.iter().flat_map(Marking::held).chain(self.room.held()).chain(self.shortage.held());
        held.into_iter().any(|held| held.at == at && held.what.stamp().epoch < epoch)
            || self.ops.writes().any(|write| write.at == at && write.write.stamp.epoch < epoch)
    }

    /// Hands what is kept about an image to the journal.
    pub(super) fn enqueue_image(&mut self, at: usize) -> u64 {
        let image = self.image(at);
        let change = Change::Image { image: image.no, layer: image.layer, meta: Box::new(image.meta.clone()) };
        self.enqueue(change)
    }

    pub(super) fn wait_for_commit(&mut self, durable_at: u64, change: AdminChange) {
        self.admin.push(Pending { durable_at, change });
    }

    pub(super) fn answer_committed(&mut self, at: usize, token: Token) {
        self.finish_change(at, token, Reply::Done);
    }
}
