//! Closing intervals (M4) and keeping the newest record (M3, M9).

use dyad_contract::image::{ImageError, RECORD_BYTES_MAX, Reply, Token};
use dyad_payload::Payload;
use dyad_units::{Epoch, Stamp};

use crate::engine::Pool;
use crate::engine::admin::{Change as AdminChange, Pending};
use crate::engine::flush::Depth;
use crate::format::state::Change;

impl Pool {
    /// First phase: everything of the interval is here; make it durable, its stamps too.
    pub(super) fn close_request(&mut self, at: usize, token: Token) {
        if !self.poison.is_poisoned() {
            self.image_mut(at).regions.begin_generation();
        }
        self.flush_request(at, token, Depth::Stamps);
    }

    /// Second phase: all in-sync images did the first. Closed never falls.
    pub(super) fn closed_request(&mut self, at: usize, token: Token, stamp: Stamp) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        let image = self.image_mut(at);
        image.requests += 1;
        image.meta.closed = image.meta.closed.max(stamp);
        let (no, closed) = (image.no, image.meta.closed);
        self.enqueue(Change::Closed { image: no, stamp: closed });
        self.clear_quiet_marks(at);
        let durable_at = self.commits.enqueued();
        self.wait_for_commit(durable_at, AdminChange::Request { at, token });
    }

    /// Keeps the newest record; from now on requests of a lower epoch are refused.
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
        let durable_at = self.enqueue_image(at);
        self.wait_for_commit(durable_at, AdminChange::Request { at, token });
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
