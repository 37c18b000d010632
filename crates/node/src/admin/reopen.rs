//! Pools that could not be opened when the node started, or later went: tried again by themselves when their disk is
//! there, and at once when an administrator asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use dyad_cluster::{PoolRecord, VolumeState};
use dyad_units::{Period, PoolId};

use super::{Admin, chain};
use crate::catalog::{KnownPool, KnownVolume};
use crate::control::{NodePhase, OpenPoolError, QueryError};
use crate::reactor::{Message, Snapshot};

/// How soon a missing disk is noticed when it is back: a look costs one system call per pool.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// A disk that is there and cannot be used is tried less and less often, for reading it may take long: at last so.
const TRY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long a try waits for a lock; the thread has other things to do.
const TRY_LOCK: Period = Period::from_millis(100);

/// When which pool is tried again.
#[derive(Default)]
pub(super) struct Retries {
    next_look: Option<Instant>,
    pools: BTreeMap<PoolId, (Instant, Duration)>,
}

impl Retries {
    /// How long until the next look.
    pub(super) fn pause(&mut self) -> Duration {
        let next = *self.next_look.get_or_insert_with(|| Instant::now() + LOOK_PAUSE);
        next.saturating_duration_since(Instant::now())
    }
}

impl Admin {
    /// Tries the pools that are not in use and whose disk is there, if it is time to.
    pub(super) fn retry_pools(&self, retries: &mut Retries) {
        let now = Instant::now();
        if retries.next_look.is_some_and(|next| next > now) {
            return;
        }
        retries.next_look = Some(now + LOOK_PAUSE);
        let waiting: Vec<KnownPool> = {
            let known = self.catalog.lock();
            if known.phase == NodePhase::Stopping {
                return;
            }
            known.pools.iter().filter(|pool| pool.fault.is_some()).cloned().collect()
        };
        retries.pools.retain(|id, _| waiting.iter().any(|pool| pool.record.id == *id));
        for KnownPool { record, fault, .. } in waiting {
            if !record.disks.iter().all(|disk| Path::new(&disk.path).exists()) {
                retries.pools.remove(&record.id);
                continue;
            }
            let (next, pause) = retries.pools.get(&record.id).copied().unwrap_or((now, LOOK_PAUSE));
            if next > now {
                continue;
            }
            retries.pools.insert(record.id, (now + pause, (pause * 2).min(TRY_PAUSE_MAX)));
            // The reason stays in the status; the log says only what is new.
            let _ = self.try_pool(record, TRY_LOCK, fault.as_deref());
        }
    }

    /// Opens a pool that is not in use, now.
    pub(super) fn open_again(&self, which: &str) -> Result<(), OpenPoolError> {
        let known = self.catalog.lock().pool(which).cloned();
        let KnownPool { record, fault, .. } =
            known.ok_or_else(|| QueryError::Unknown { kind: "pool", name: which.into() })?;
        let pool = record.name.to_string();
        let snapshot = self.ask(Message::Look)?;
        match snapshot.pools.iter().find(|look| look.id == record.id) {
            Some(look) if look.usage.poisoned => return Err(OpenPoolError::Poisoned { pool }),
            Some(_) => return Ok(()),
            None => {}
        }
        let tried = self.try_pool(record, self.settings.disk.lock_timeout, fault.as_deref());
        tried.map_err(|reason| OpenPoolError::Disk { pool, reason })
    }

    fn try_pool(&self, record: PoolRecord, lock_timeout: Period, fault_before: Option<&str>) -> Result<(), String> {
        let id = record.id;
        match self.open_pool(&record, lock_timeout) {
            Ok(log) => {
                self.catalog.lock().put_pool(KnownPool { record, fault: None, log: Some(log) });
                self.bring_back_volumes(id);
                Ok(())
            }
            Err(error) => {
                let reason = chain(&*error);
                if fault_before != Some(&reason) {
                    tracing::error!(pool = %record.name, reason, "pool not in use");
                }
                let fault = Some(reason.clone());
                self.catalog.lock().put_pool(KnownPool { record, fault, log: None });
                Err(reason)
            }
        }
    }

    /// Volumes that are served hear of their images in the pool by themselves, and let them catch up (M13). Those that
    /// were never started, or stopped half made or half deleted, go on now.
    pub(super) fn bring_back_volumes(&self, pool: PoolId) {
        let is_there = |volume: &&KnownVolume| {
            volume.segment.iter().flat_map(|segment| &segment.images).any(|image| image.pool == pool)
        };
        let volumes: Vec<KnownVolume> = self.catalog.lock().volumes.iter().filter(is_there).cloned().collect();
        let Ok(snapshot) = self.ask(Message::Look) else { return };
        for volume in volumes.into_iter().filter(|volume| needs_start(&snapshot, volume)) {
            let outcome = self.carry(volume.record.id);
            self.settle(volume.record.id, outcome.err().map(|halt| chain(&halt)));
        }
    }
}

fn needs_start(snapshot: &Snapshot, volume: &KnownVolume) -> bool {
    let id = volume.record.id;
    // After a fault of this program only a new process is to be believed.
    let has_failed = snapshot.failed_volumes.iter().any(|(failed, _)| *failed == id);
    let is_served = snapshot.volumes.iter().any(|look| look.id == id);
    !has_failed && !is_served && (volume.record.state != VolumeState::Ready || volume.fault.is_some())
}
