//! Data syncs, never two at a time: of two, one would be told of an error and the other would not (P11).

use crate::disk::DiskOp;
use crate::engine::Pool;
use crate::engine::ops::Completion;

/// Who waits for a sync that begins now or later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SyncFor {
    /// A flush round.
    pub(super) round: bool,
    /// The checkpoint; apart from the rounds, because a round may wait for room in the journal, which only the
    /// checkpoint makes.
    pub(super) checkpoint: bool,
}

#[derive(Default)]
pub(super) struct Syncs {
    running: Option<SyncFor>,
    next: SyncFor,
}

impl Pool {
    pub(super) fn sync_for_round(&mut self) {
        self.syncs.next.round = true;
        self.pump_sync();
    }

    pub(super) fn sync_for_checkpoint(&mut self) {
        self.syncs.next.checkpoint = true;
        self.pump_sync();
    }

    fn pump_sync(&mut self) {
        let is_wanted = self.syncs.next.round || self.syncs.next.checkpoint;
        if self.syncs.running.is_none() && is_wanted && !self.poison.is_poisoned() {
            self.syncs.running = Some(std::mem::take(&mut self.syncs.next));
            self.counters.syncs += 1;
            self.disk_ops.push(DiskOp::Sync { token: Completion::Sync.token() });
        }
    }

    pub(super) fn sync_done(&mut self, ok: bool) {
        let Some(done) = self.syncs.running.take() else { return };
        if !ok {
            return self.poison_now();
        }
        if self.poison.is_poisoned() {
            return;
        }
        if done.round {
            self.round_is_synced();
        }
        if done.checkpoint {
            self.checkpoint_is_durable();
        }
        self.pump_sync();
    }
}
