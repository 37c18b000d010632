//! Between the rooms: what a part wants goes to pools, what a pool wants goes to disks, and back, until
//! nothing moves any more.

use std::sync::mpsc::TrySendError;

use dyad_cluster::Outcome;
use dyad_contract::image::{Request, Token};
use dyad_mirror::{Note, PartAction, PartEvent, PartNote};
use dyad_units::{ImageId, VolumeId};

use super::message::{Asked, Question, StoreAnswer};
use super::pools::PoolRoom;
use super::run::{Reactor, guarded};
use super::volumes::Place;
use crate::clock;
use crate::disk::End;

impl Reactor {
    pub(super) fn pump(&mut self) {
        loop {
            if let Some(volume) = self.dirty_volumes.pop() {
                self.pump_volume(volume);
            } else if !self.dirty_peers.is_empty() {
                // Before this node's own disks: the other images work at the same time.
                self.flush_peers();
            } else if let Some(pool) = self.dirty_pools.pop() {
                self.pump_pool(pool);
            } else {
                return;
            }
        }
    }

    /// Carries out what a volume's part wants.
    fn pump_volume(&mut self, index: u32) {
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        volume.is_dirty = false;
        let mut actions = std::mem::replace(&mut volume.actions, std::mem::take(&mut self.scratch.actions));
        for action in actions.drain(..) {
            self.carry_out(index, action);
        }
        self.scratch.actions = actions;
        self.tell_paths(index);
        self.look_at_exports(index);
        self.time_volume(index);
        self.report_start(index);
        self.finish_stopped(index);
    }

    fn carry_out(&mut self, index: u32, action: PartAction) {
        match action {
            PartAction::Answer { id, result } => self.answer(index, id, result),
            PartAction::Pool { image, token, request } => self.ask_image(index, image, token, request),
            PartAction::Send { to, message } => self.send_of_part(index, to, &message),
            PartAction::Propose { record, expected } => self.ask_store(index, Asked::Propose { record, expected }),
            PartAction::Read => {
                if let Some(volume) = self.volume(index) {
                    let segment = volume.part.record().id;
                    self.ask_store(index, Asked::Read(segment));
                }
            }
            // M19: its hosts may have gone on elsewhere, if there is another node.
            PartAction::CloseSessions => {
                if self.has_neighbours {
                    self.close_sessions(index, "this node was not running for a while");
                    self.give_up_errands(index, None, &mut Vec::new());
                    self.paused_at = Some(clock::now());
                }
                self.volume_event(index, PartEvent::SessionsClosed);
            }
            PartAction::Note(note) => {
                self.tell(index, note);
                if let PartNote::Mirror(Note::Serving { .. } | Note::IntentVoided) = note {
                    self.look_at_state(index);
                }
                if let Some(volume) = self.volume_mut(index) {
                    volume.paths.is_stale = true; // told as soon as all actions are carried out
                }
            }
            PartAction::Done { id, result } => {
                let told = result.clone().map(|()| None);
                if !self.commanded(index, id, told)
                    && let Err(error) = result
                {
                    tracing::debug!(%error, "a part does not end in good order");
                    self.note_stopped(index);
                }
            }
            PartAction::Loss { id, report } => {
                self.commanded(index, id, Ok(Some(Box::new(report))));
            }
            PartAction::Stopped => self.note_stopped(index),
        }
    }

    /// The part of a volume on its way out has ended.
    fn note_stopped(&mut self, index: u32) {
        if let Some(stop) = self.volume_mut(index).and_then(|volume| volume.stop.as_mut()) {
            stop.is_stopped = true;
        }
    }

    fn ask_image(&mut self, index: u32, image: ImageId, token: Token, request: Request) {
        self.before_asking(image, &request);
        let places = self.volume(index).map(|volume| &volume.places[..]).unwrap_or_default();
        // The part was told that the image is down: it waits for no reply.
        let Some(&Place { pool, handle, .. }) = places.iter().find(|place| place.image == image) else { return };
        let Some(room) = self.pools[pool as usize].as_deref_mut() else { return };
        let part = &mut room.pool;
        match guarded(|| part.submit(handle, token, request)) {
            Ok(()) => self.soil_pool(pool),
            Err(fault) => self.fail_pool(pool, &fault.0),
        }
    }

    fn ask_store(&mut self, index: u32, what: Asked) {
        let Some(volume) = self.volume_mut(index) else { return };
        let is_read = matches!(what, Asked::Read(_));
        if !is_read {
            volume.proposed_at = Some(volume.part.record().epoch);
        }
        let question = Question { volume: volume.record.id, part: volume.part_no, what };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.questions.try_send(question) {
            // Nobody knows (M7): the part asks again.
            let answer = if is_read { PartEvent::Unseen } else { PartEvent::Outcome(Outcome::Unknown) };
            self.volume_event(index, answer);
        }
    }

    /// The store answered, or could not be asked.
    pub(super) fn on_store_answer(&mut self, volume: VolumeId, part: u64, answer: StoreAnswer) {
        if answer.is_known() {
            self.store_heard = clock::now();
        }
        let index = self.volume_with_id(volume);
        let asked = |index: &u32| self.volume(*index).is_some_and(|volume| volume.part_no == part);
        let Some(index) = index.filter(asked) else { return };
        if let (StoreAnswer::Outcome(_), true, Some(volume)) = (&answer, answer.is_known(), self.volume_mut(index)) {
            volume.proposed_at = None;
        }
        self.volume_event(index, answer.event());
    }

    /// Carries out what a pool wants, and hands its replies to the parts.
    fn pump_pool(&mut self, index: u32) {
        let Some(room) = self.pools.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        room.is_dirty = false;
        #[cfg(test)]
        if room.is_stuck {
            return self.deliver(index);
        }
        let (disks, ops, now, disk) = (&mut self.disks, &mut self.scratch.disk_ops, self.now, room.disk);
        let pool = &mut room.pool;
        let worked = guarded(|| {
            loop {
                pool.take_disk_ops(ops);
                if ops.is_empty() {
                    return;
                }
                disks.execute(now, disk, ops, |token, result| pool.complete(token, result));
            }
        });
        if let Err(fault) = worked {
            self.scratch.disk_ops.clear();
            return self.fail_pool(index, &fault.0);
        }
        self.deliver(index);
    }

    fn deliver(&mut self, index: u32) {
        let mut replies = std::mem::take(&mut self.scratch.replies);
        let mut changes = Vec::new();
        if let Some(room) = self.room_mut(index) {
            let PoolRoom { pool, .. } = room;
            let taken = guarded(|| {
                pool.take_replies(&mut replies);
                pool.take_admin_replies(&mut changes);
            });
            if let Err(fault) = taken {
                self.fail_pool(index, &fault.0);
            }
        }
        let copies = self.room_mut(index).is_some_and(|room| !room.reads.is_empty());
        for (handle, token, reply) in replies.drain(..) {
            if copies && self.was_copy(index, token, &reply) {
                continue;
            }
            let route = self.pools[index as usize].as_deref().and_then(|room| Self::routed(room, handle));
            if let Some((volume, image)) = route {
                self.volume_event(volume, PartEvent::Pool { image, token, reply });
            }
        }
        self.scratch.replies = replies;
        for (token, result) in changes {
            self.on_change(index, token, result);
        }
    }

    /// Takes what ended on the disks to the pools.
    pub(super) fn collect_disks(&mut self) {
        let mut ends = std::mem::take(&mut self.scratch.ends);
        self.disks.collect(self.now, &mut ends);
        self.complete_disks(&mut ends);
        self.scratch.ends = ends;
    }

    pub(super) fn complete_disks(&mut self, ends: &mut Vec<End>) {
        if ends.is_empty() {
            return;
        }
        for (disk, token, result) in ends.drain(..) {
            let is_its = |slot: &Option<Box<PoolRoom>>| slot.as_ref().is_some_and(|room| room.disk == disk);
            let Some(index) = self.pools.iter().position(is_its) else { continue };
            let Some(room) = self.room_mut(index as u32) else { continue };
            let pool = &mut room.pool;
            match guarded(|| pool.complete(token, result)) {
                Ok(()) => self.soil_pool(index as u32),
                Err(fault) => self.fail_pool(index as u32, &fault.0),
            }
        }
        if !self.leaving.is_empty() {
            self.sweep_disks();
        }
    }

    /// News of a part, for the log.
    fn tell(&self, index: u32, note: PartNote) {
        let Some(volume) = self.volume(index) else { return };
        let name = &volume.record.name;
        match note {
            PartNote::Mirror(note) => self.tell_of_mirror(index, note),
            PartNote::Claiming { epoch, after } => {
                let after = after.map(|node| node.to_string());
                tracing::debug!(volume = %name, %epoch, after, "taking the volume over");
            }
            PartNote::Adopted { image, epoch } => {
                tracing::debug!(volume = %name, %image, %epoch, "image obeys an owner")
            }
            PartNote::RefusedOwner { image, epoch } => {
                tracing::info!(volume = %name, %image, %epoch, "an owner of before was refused");
            }
            PartNote::AwaitsTurn { image } => {
                tracing::info!(volume = %name, %image, "catches up when its turn comes: as many images as may do so at once");
            }
            PartNote::Paused => tracing::warn!(volume = %name, "this process was not running for longer than a lease"),
        }
    }

    fn tell_of_mirror(&self, index: u32, note: Note) {
        let Some(volume) = self.volume(index) else { return };
        let name = &volume.record.name;
        let image = |image| volume.part.image_at(image).map(|image| image.to_string());
        match note {
            Note::Serving { epoch, suspect } => tracing::info!(volume = %name, %epoch, suspect, "volume in service"),
            Note::Equalised { mended, adopted } => {
                tracing::info!(volume = %name, mended, adopted, "images are equal again after a crash");
            }
            Note::TakenOut { image: which, reason } => {
                tracing::warn!(volume = %name, image = image(which), reason = reason.text(), "image out of sync");
            }
            Note::LastImageFailed { image: which, reason } => {
                tracing::error!(volume = %name, image = image(which), reason = reason.text(), "the last image failed");
            }
            Note::Healed { image: which, blocks } => {
                tracing::warn!(volume = %name, image = image(which), blocks, "damaged blocks rewritten from another image");
            }
            Note::ResyncBegan { image: which } => tracing::info!(volume = %name, image = image(which), "resync began"),
            Note::ResyncEnded { image: which, reason } => {
                tracing::warn!(volume = %name, image = image(which), reason = reason.text(), "resync ended early");
            }
            Note::Joined { image: which } => tracing::info!(volume = %name, image = image(which), "image is in sync"),
            Note::Unreadable { blocks } => {
                tracing::error!(volume = %name, blocks, "blocks of which no good copy is left")
            }
            Note::IntentVoided => {
                tracing::error!(volume = %name, "an atomic write that was under way cannot be read any more: it may be half done, or its blocks are bad")
            }
            Note::HandOverFailed => tracing::warn!(volume = %name, "the volume was not handed over"),
            Note::SteppedDown { epoch } => tracing::warn!(volume = %name, %epoch, "volume is served elsewhere"),
        }
    }
}
