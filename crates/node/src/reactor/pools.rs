//! Pools: each with its disk, and the volumes whose images it holds.

use std::sync::Arc;

use dyad_cluster::{ImageRecord, OutReason};
use dyad_mirror::PartEvent;
use dyad_pool::{AdminReply, AdminToken, ImageHandle, ImageMeta, Pool};
use dyad_units::{ImageId, Moment, Period, PoolId};

use super::copy::PieceRead;
use super::message::{ImageFault, Reply};
use super::run::{Reactor, guarded};
use super::timers::Timer;
use super::volumes::Place;
use crate::disk::{DiskFile, DiskIndex};

/// How often a pool that is in use sees to what can be done at leisure.
const HOUSEKEEPING: Period = Period::from_millis(100);

/// A pool in use.
pub(crate) struct PoolRoom {
    pub(super) id: PoolId,
    pub(super) pool: Pool,
    pub(super) disk: DiskIndex,
    /// Whose images these are, ordered by handle.
    routes: Vec<(ImageHandle, u32, ImageId)>,
    /// Changes under way, and who waits for them.
    changes: Vec<(AdminToken, Change)>,
    /// Pieces of detached images that are read, and who waits for them.
    pub(super) reads: Vec<PieceRead>,
    pub(super) is_dirty: bool,
    /// A test has its disk hang: what it is asked is not begun.
    #[cfg(test)]
    pub(super) is_stuck: bool,
    /// Something happened since the last housekeeping.
    pub(super) is_active: bool,
    timer: Option<Moment>,
}

/// Who waits for a change of a pool.
enum Change {
    Image(Reply<Result<(), ImageFault>>),
    Close(Reply<bool>),
}

impl Reactor {
    pub(super) fn pool_with_id(&self, id: PoolId) -> Option<u32> {
        let at = self.pools.iter().position(|slot| slot.as_ref().is_some_and(|room| room.id == id))?;
        Some(at as u32)
    }

    pub(super) fn room_mut(&mut self, index: u32) -> Option<&mut PoolRoom> {
        self.pools.get_mut(index as usize)?.as_deref_mut()
    }

    /// Takes over an opened pool.
    pub(super) fn add_pool(&mut self, pool: Pool, file: Arc<DiskFile>) -> std::io::Result<()> {
        let disk = self.disks.add(file)?;
        self.failed_pools.retain(|(id, _)| *id != pool.id());
        let room = PoolRoom {
            id: pool.id(),
            pool,
            disk,
            routes: Vec::new(),
            changes: Vec::new(),
            reads: Vec::new(),
            is_dirty: false,
            #[cfg(test)]
            is_stuck: false,
            is_active: true,
            timer: None,
        };
        let free = self.pools.iter().position(Option::is_none).unwrap_or(self.pools.len());
        if free == self.pools.len() {
            self.pools.push(None);
        }
        self.pools[free] = Some(Box::new(room));
        // What opening left to do is begun at once.
        self.soil_pool(free as u32);
        self.find_images_in(free as u32);
        Ok(())
    }

    /// Where an image is, if its pool is here and has it.
    pub(super) fn place_of(&self, image: &ImageRecord) -> Option<Place> {
        if image.node != self.node {
            return None;
        }
        let index = self.pool_with_id(image.pool)?;
        let handle = self.pools[index as usize].as_ref()?.pool.find(image.id)?;
        Some(Place { image: image.id, pool: index, handle })
    }

    /// Replies of an image go to this volume from now on.
    pub(super) fn route(&mut self, place: Place, volume: u32) {
        let Place { image, pool, handle } = place;
        let Some(room) = self.room_mut(pool) else { return };
        let at = room.routes.binary_search_by_key(&handle, |route| route.0);
        match at {
            Ok(at) => room.routes[at] = (handle, volume, image),
            Err(at) => room.routes.insert(at, (handle, volume, image)),
        }
    }

    /// Replies for a volume that is gone go nowhere.
    pub(super) fn unroute(&mut self, volume: u32) {
        for room in self.pools.iter_mut().flatten() {
            room.routes.retain(|route| route.1 != volume);
        }
    }

    /// Something happens in a pool: it is looked at before the turn ends, and kept in order afterwards.
    pub(super) fn soil_pool(&mut self, index: u32) {
        self.look_at_pool(index);
        let Some(room) = self.pools.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        room.is_active = true;
        let deadline = Some(self.now + HOUSEKEEPING);
        if room.timer.is_none() {
            self.timers.want(Timer::Pool(index), &mut room.timer, deadline);
        }
    }

    fn look_at_pool(&mut self, index: u32) {
        let Some(room) = self.pools.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        if !room.is_dirty {
            room.is_dirty = true;
            self.dirty_pools.push(index);
        }
    }

    pub(super) fn on_pool_timer(&mut self, index: u32, deadline: Moment) {
        let Some(room) = self.room_mut(index).filter(|room| room.timer == Some(deadline)) else { return };
        room.timer = None;
        let was_active = std::mem::take(&mut room.is_active);
        let pool = &mut room.pool;
        let looked = guarded(|| {
            pool.housekeeping();
            pool.usage().over_budget
        });
        match looked {
            Err(fault) => return self.fail_pool(index, &fault.0),
            Ok(is_over_budget) => {
                if is_over_budget {
                    self.close_intervals_of(index);
                }
            }
        }
        self.tell_space(index);
        self.look_at_pool(index);
        let deadline = Some(self.now + HOUSEKEEPING);
        if let Some(room) = self.pools.get_mut(index as usize).and_then(Option::as_deref_mut).filter(|_| was_active) {
            // Once more after the last activity, so that nothing is left half done.
            self.timers.want(Timer::Pool(index), &mut room.timer, deadline);
        }
    }

    fn close_intervals_of(&mut self, index: u32) {
        let routes = self.room_mut(index).map(|room| room.routes.clone()).unwrap_or_default();
        for (_, volume, image) in routes {
            self.volume_event(volume, PartEvent::MarksOverBudget { image });
        }
    }

    /// Whose image this is.
    pub(super) fn routed(room: &PoolRoom, handle: ImageHandle) -> Option<(u32, ImageId)> {
        let at = room.routes.binary_search_by_key(&handle, |route| route.0).ok()?;
        Some((room.routes[at].1, room.routes[at].2))
    }

    pub(super) fn has_image(&self, pool: PoolId, image: ImageId) -> Option<bool> {
        let index = self.pool_with_id(pool)?;
        Some(self.pools[index as usize].as_ref()?.pool.find(image).is_some())
    }

    /// Whether a resync of the image began and never came to its end: it has some extents of one moment, some of another (M15).
    pub(super) fn is_half_filled(&self, pool: PoolId, image: ImageId) -> bool {
        let room = self.pool_with_id(pool).and_then(|index| self.pools[index as usize].as_ref());
        let mut images = room.into_iter().flat_map(|room| room.pool.images());
        images.any(|(_, meta)| meta.id == image && meta.cursor.is_some())
    }

    pub(super) fn create_image(&mut self, pool: PoolId, meta: ImageMeta, reply: Reply<Result<(), ImageFault>>) {
        self.change(pool, reply, |pool, token| pool.create_image(token, meta));
    }

    pub(super) fn delete_image(&mut self, pool: PoolId, image: ImageId, reply: Reply<Result<(), ImageFault>>) {
        if self.has_image(pool, image) == Some(false) {
            // Done before, and the answer was lost with a crash.
            let _ = reply.try_send(Ok(()));
            return;
        }
        self.unexport_image(image);
        self.overlays.forget(image);
        self.give_up_image(pool, image);
        self.change(pool, reply, |pool, token| {
            if let Some(handle) = pool.find(image) {
                pool.delete_image(token, handle, image);
            }
        });
    }

    /// A volume that is in service loses an image of this node: it must not be asked any more.
    fn give_up_image(&mut self, pool: PoolId, image: ImageId) {
        let Some(room) = self.pool_with_id(pool).and_then(|index| self.room_mut(index)) else { return };
        let Some(at) = room.routes.iter().position(|route| route.2 == image) else { return };
        let (_, volume, _) = room.routes.remove(at);
        self.image_down(volume, image, OutReason::Removed);
    }

    fn change(&mut self, id: PoolId, reply: Reply<Result<(), ImageFault>>, act: impl FnOnce(&mut Pool, AdminToken)) {
        let Some(index) = self.pool_with_id(id) else {
            let _ = reply.try_send(Err(ImageFault::NoPool));
            return;
        };
        let token = AdminToken(self.fresh_id());
        let Some(room) = self.room_mut(index) else { return };
        room.changes.push((token, Change::Image(reply)));
        let pool = &mut room.pool;
        match guarded(|| act(pool, token)) {
            Ok(()) => self.soil_pool(index),
            Err(fault) => self.fail_pool(index, &fault.0),
        }
    }

    /// Flushes and closes a pool, then gives up its disk.
    pub(super) fn close_pool(&mut self, id: PoolId, reply: Reply<bool>) {
        let Some(index) = self.pool_with_id(id) else {
            let _ = reply.try_send(true);
            return;
        };
        let token = AdminToken(self.fresh_id());
        let Some(room) = self.room_mut(index) else { return };
        room.changes.push((token, Change::Close(reply)));
        let pool = &mut room.pool;
        match guarded(|| pool.stop(token)) {
            Ok(()) => self.soil_pool(index),
            Err(fault) => self.fail_pool(index, &fault.0),
        }
    }

    /// A change of a pool ended.
    pub(super) fn on_change(&mut self, index: u32, token: AdminToken, result: AdminReply) {
        let Some(room) = self.room_mut(index) else { return };
        let Some(at) = room.changes.iter().position(|change| change.0 == token) else { return };
        match room.changes.swap_remove(at).1 {
            Change::Image(reply) => {
                let result = match result {
                    AdminReply::Failed(error) => Err(ImageFault::Refused(error)),
                    AdminReply::Created(_) | AdminReply::Deleted | AdminReply::Stopped => Ok(()),
                };
                self.find_images_in(index);
                let _ = reply.try_send(result);
            }
            Change::Close(reply) => {
                tracing::debug!(pool = index, ?result, "pool closed");
                self.give_up_pool(index, OutReason::Absent);
                let _ = reply.try_send(result == AdminReply::Stopped);
            }
        }
    }

    /// A fault of ours in a pool: it goes out of use, and its images with it; the others stay.
    pub(super) fn fail_pool(&mut self, index: u32, fault: &str) {
        self.faults += 1;
        if let Some(room) = self.room_mut(index) {
            tracing::error!(pool = %room.id, fault, "pool out of use after a fault of this program; restart the node");
            let id = room.id;
            self.failed_pools.push((id, fault.to_owned()));
        }
        self.give_up_pool(index, OutReason::WriteFailed);
    }

    /// Forgets a pool. Its disk stays locked until the last operation on it has ended.
    fn give_up_pool(&mut self, index: u32, reason: OutReason) {
        let Some(room) = self.pools[index as usize].take() else { return };
        self.end_exports_of(None, Some(room.id));
        self.leaving.push(room.disk);
        self.sweep_disks();
        for (_, change) in room.changes {
            match change {
                Change::Image(reply) => drop(reply.try_send(Err(ImageFault::NoPool))),
                Change::Close(reply) => drop(reply.try_send(false)),
            }
        }
        for (_, volume, image) in room.routes {
            // Another pool may take the place; nothing for this image may ever reach that.
            self.image_down(volume, image, reason);
        }
    }

    /// Gives up the disks of pools that are gone, as far as they are at rest.
    pub(super) fn sweep_disks(&mut self) {
        let disks = &mut self.disks;
        self.leaving.retain(|&disk| !disks.remove(disk));
    }
}
