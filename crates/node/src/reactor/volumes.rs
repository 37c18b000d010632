//! Volumes: each is a unit, this node's part in its segment, and the images of it that are here.

use std::sync::Arc;

use dyad_cluster::{OutReason, SegmentRecord, VolumeRecord};
use dyad_iscsi::CloseReason;
use dyad_mirror::{Command, Leases, OpId, Part, PartAction, PartEvent, PartSetup, PartTuning};
use dyad_pool::ImageHandle;
use dyad_scsi::{BlockSize, Identity, LogicalUnit, Settings, Shape};
use dyad_units::{Epoch, ImageId, Moment, VolumeId};
use smallvec::SmallVec;

use super::conns::ConnRef;
use super::limit::Door;
use super::look::Looks;
use super::manage::Waiter;
use super::message::Reply;
use super::ops::Ops;
use super::paths::{Paths, port_number};
use super::run::{Reactor, guarded};
use super::service::Service;
use super::shared::Shared;
use super::talk::{Asker, Commanded, Waiting};
use super::timers::Timer;
use crate::clock;
use crate::control::IoCounters;

/// Where an image of this node is: which pool, and which image there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) image: ImageId,
    pub(super) pool: u32,
    pub(super) handle: ImageHandle,
}

/// A volume in service.
pub(crate) struct Volume {
    pub(super) record: VolumeRecord,
    pub(super) target: String,
    pub(super) unit: LogicalUnit,
    pub(super) part: Part,
    /// Names the part: an answer of the config store to an earlier one is not its own.
    pub(super) part_no: u64,
    /// Images that can be reached here.
    pub(super) places: SmallVec<[Place; 4]>,
    pub(super) paths: Paths,
    pub(super) ops: Ops,
    /// What is known of the state that all nodes share (M20).
    pub(super) shared: Shared,
    /// Looks at which blocks were written.
    pub(super) looks: Looks,
    pub(super) sessions: Vec<ConnRef>,
    /// Where commands wait that are over its limit; `None`: it has none.
    pub(super) door: Option<Box<Door>>,
    pub(super) waiters: Vec<Waiter>,
    /// Copies that wait before they ask again, and until when.
    pub(super) pauses: Vec<(Moment, Waiting)>,
    /// Operations of lost sessions, with the host that had sent them.
    pub(super) orphans: Vec<(OpId, Arc<str>)>,
    /// What the part wants done and has not been done yet.
    pub(super) actions: Vec<PartAction>,
    pub(super) io: IoCounters,
    pub(super) is_dirty: bool,
    pub(super) timer: Option<Moment>,
    /// Who wants to know when it is served, or known not to be.
    pub(super) started: Option<Reply<Result<(), String>>>,
    /// Commands of an administrator, or of a host, without an answer, and who waits for it.
    pub(super) commands: Vec<(u64, Asker<Reply<Commanded>>)>,
    /// Epoch of the record that the part last wanted changed: until there is a newer one, it is not known whether it was (M7).
    pub(super) proposed_at: Option<Epoch>,
    /// It is being closed; who wants to know the end.
    pub(super) stop: Option<Stop>,
}

/// A volume on its way out.
#[derive(Default)]
pub(super) struct Stop {
    pub(super) reply: Option<Reply<()>>,
    pub(super) is_stopped: bool,
}

impl Volume {
    /// Whether it wants its record changed and does not know whether it was.
    pub(super) fn waits_for_store(&self) -> bool {
        self.proposed_at == Some(self.part.record().epoch)
    }
}

impl Reactor {
    pub(super) fn volume(&self, index: u32) -> Option<&Volume> {
        self.volumes.get(index as usize)?.as_deref()
    }

    pub(super) fn volume_mut(&mut self, index: u32) -> Option<&mut Volume> {
        self.volumes.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn volume_with_id(&self, id: VolumeId) -> Option<u32> {
        let at = self.volumes.iter().position(|slot| slot.as_ref().is_some_and(|volume| volume.record.id == id))?;
        Some(at as u32)
    }

    pub(super) fn volume_of_target(&self, target: &str) -> Option<u32> {
        let is_it = |volume: &Volume| volume.target.eq_ignore_ascii_case(target);
        let at = self.volumes.iter().position(|slot| slot.as_deref().is_some_and(is_it))?;
        Some(at as u32)
    }

    /// Begins to serve a volume. `started` is told when it is served, or when it is known why it is not.
    pub(super) fn add_volume(
        &mut self,
        record: VolumeRecord,
        segment: SegmentRecord,
        started: Reply<Result<(), String>>,
    ) {
        // What the one before was still asking of pools and nodes would be taken for answers to this one.
        if let Some((_, fault)) = self.failed_volumes.iter().find(|(failed, _)| *failed == record.id) {
            let refused = format!("it failed here by a fault of this program ({fault}); restart the node");
            return drop(started.try_send(Err(refused)));
        }
        if let Some(index) = self.volume_with_id(record.id) {
            // Asked for twice, by an administrator and by news of the config store: whoever asks last is told.
            if let Some(volume) = self.volume_mut(index) {
                volume.started = Some(started);
            }
            return self.report_start(index);
        }
        match self.make_volume(record, segment) {
            Ok(mut volume) => {
                volume.started = Some(started);
                let free = self.volumes.iter().position(Option::is_none).unwrap_or(self.volumes.len());
                if free == self.volumes.len() {
                    self.volumes.push(None);
                }
                let segment = volume.part.record().id;
                self.volumes[free] = Some(Box::new(volume));
                self.find_images(free as u32);
                self.announce(free as u32, segment);
            }
            Err(reason) => drop(started.try_send(Err(reason))),
        }
    }

    fn make_volume(&mut self, record: VolumeRecord, segment: SegmentRecord) -> Result<Volume, String> {
        let target = self.settings.iscsi.target_of(record.name.as_str());
        let block = BlockSize::from_bytes(record.block.bytes()).ok_or("its blocks have an odd size")?;
        let shape = Shape::new(block, record.size).map_err(|error| error.to_string())?;
        let identity = Identity {
            volume: record.id,
            target_name: target.clone(),
            target_port: port_number(self.node),
            target_port_group: port_number(self.node),
        };
        let settings = Settings { identity, shape, write_cache: record.cache, read_only: false };
        let setup = PartSetup {
            node: self.node,
            incarnation: self.incarnation,
            store: self.store,
            policy: record.policy,
            tuning: PartTuning { resyncs_at_once: self.settings.resyncs_at_once as usize, ..PartTuning::default() },
        };
        let part = Part::new(segment, setup, self.slab.clone()).map_err(|error| error.to_string())?;
        let mut unit = LogicalUnit::new(settings, self.slab.clone());
        unit.name_changes(u64::from_ne_bytes(clock::random_bytes()));
        Ok(Volume {
            door: Door::of(record.limits),
            record,
            target,
            unit,
            part,
            part_no: self.fresh_id(),
            places: SmallVec::new(),
            paths: Paths::UNTOLD,
            ops: Ops::default(),
            shared: Shared::default(),
            looks: Looks::default(),
            sessions: Vec::new(),
            waiters: Vec::new(),
            pauses: Vec::new(),
            orphans: Vec::new(),
            actions: Vec::new(),
            io: IoCounters::default(),
            is_dirty: false,
            timer: None,
            started: None,
            commands: Vec::new(),
            proposed_at: None,
            stop: None,
        })
    }

    /// Tells a volume's part which of its images on this node can be asked.
    fn find_images(&mut self, index: u32) {
        let Some(volume) = self.volume(index) else { return };
        let images: SmallVec<[_; 4]> =
            volume.part.record().images.iter().filter(|image| image.node == self.node).cloned().collect();
        for image in images {
            match self.place_of(&image) {
                Some(place) => self.image_up(index, place),
                None => {
                    self.volume_event(index, PartEvent::PoolDown { image: image.id, reason: OutReason::Absent });
                }
            }
        }
    }

    /// A pool was opened, or has a new image: parts whose images are there can ask them.
    pub(super) fn find_images_in(&mut self, pool: u32) {
        for index in 0..self.volumes.len() as u32 {
            let Some(volume) = self.volume(index) else { continue };
            let is_new = |image: &ImageId| volume.places.iter().all(|place| place.image != *image);
            let records = volume.part.record().images.iter();
            let images: SmallVec<[_; 4]> = records.filter(|image| is_new(&image.id)).cloned().collect();
            let places: SmallVec<[Place; 4]> = images.iter().filter_map(|image| self.place_of(image)).collect();
            for place in places.into_iter().filter(|place| place.pool == pool) {
                self.image_up(index, place);
            }
        }
    }

    fn image_up(&mut self, index: u32, place: Place) {
        self.route(place, index);
        let Some(volume) = self.volume_mut(index) else { return };
        volume.places.push(place);
        self.volume_event(index, PartEvent::PoolUp { image: place.image });
        self.tell_space(place.pool);
    }

    /// An image's pool is gone: what it was asked and did not answer has no effect any more.
    pub(super) fn image_down(&mut self, index: u32, image: ImageId, reason: OutReason) {
        if let Some(volume) = self.volume_mut(index) {
            volume.places.retain(|place| place.image != image);
        }
        self.volume_event(index, PartEvent::PoolDown { image, reason });
    }

    /// Tells a volume's part something.
    pub(super) fn volume_event(&mut self, index: u32, event: PartEvent) {
        let can_move = matches!(
            event,
            PartEvent::PeerUp { .. }
                | PartEvent::PeerDown { .. }
                | PartEvent::PoolUp { .. }
                | PartEvent::PoolDown { .. }
        );
        self.with_part(index, |part, now, leases, actions| part.handle(now, event, leases, actions));
        if can_move {
            self.doubt_paths(index);
        }
    }

    fn with_part(&mut self, index: u32, act: impl FnOnce(&mut Part, Moment, &mut Leases, &mut Vec<PartAction>)) {
        // Read anew: leases and promises are a matter of milliseconds, and a turn may be longer (M5).
        let now = clock::now();
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        let Volume { part, actions, .. } = &mut *volume;
        let before = actions.len();
        let beats = &self.beats;
        let acted = guarded(|| {
            let leases = &mut *beats.leases();
            let planned = leases.next_beat();
            act(part, now, leases, actions);
            leases.next_beat() < planned
        });
        match acted {
            Ok(true) => self.beats.ring(),
            Ok(false) => {}
            Err(fault) => return self.fail_volume(index, &fault.0),
        }
        let is_other_reign = volume.look_at_part(before, now, self.node);
        if !volume.is_dirty {
            volume.is_dirty = true;
            self.dirty_volumes.push(index);
        }
        if is_other_reign {
            self.withdraw_operations(index);
        }
    }

    pub(super) fn on_volume_timer(&mut self, index: u32, deadline: Moment) {
        let Some(volume) = self.volume_mut(index).filter(|volume| volume.timer == Some(deadline)) else { return };
        volume.timer = None;
        self.with_part(index, |part, now, leases, actions| part.tick(now, leases, actions));
    }

    /// Notes when the part wants to look at the clock again.
    pub(super) fn time_volume(&mut self, index: u32) {
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        let deadline = volume.part.next_deadline();
        self.timers.want(Timer::Volume(index), &mut volume.timer, deadline);
    }

    /// Begins to close a volume, sessions or not: whoever asks has counted them.
    pub(super) fn remove_volume(&mut self, id: VolumeId, reply: Option<Reply<()>>) {
        let Some(index) = self.volume_with_id(id) else {
            reply.map(|reply| reply.try_send(()));
            return;
        };
        let Some(volume) = self.volume_mut(index) else { return };
        if let Some(stop) = &mut volume.stop {
            stop.reply = reply.or(stop.reply.take());
            return;
        }
        volume.stop = Some(Stop { reply, is_stopped: false });
        self.close_sessions(index, "the volume is taken out of service");
        // Nobody waits for the answer: the end is told by an action of its own.
        self.volume_event(index, PartEvent::Command { id: 0, command: Command::Stop });
    }

    pub(super) fn close_sessions(&mut self, index: u32, reason: &'static str) {
        let sessions = self.volume(index).map(|volume| volume.sessions.clone()).unwrap_or_default();
        for at in sessions {
            self.close(at, CloseReason::Node(reason), false);
        }
    }

    /// Whoever waits for the volume's start is told how it is.
    pub(super) fn report_start(&mut self, index: u32) {
        let Some(volume) = self.volume_mut(index).filter(|volume| volume.started.is_some()) else { return };
        if Service::of(&volume.part.status(), &volume.places) != Service::Starting
            && let Some(reply) = volume.started.take()
        {
            let _ = reply.try_send(Ok(()));
        }
    }

    /// Forgets a volume whose part has ended.
    pub(super) fn finish_stopped(&mut self, index: u32) {
        let is_over = |volume: &Volume| volume.stop.as_ref().is_some_and(|stop| stop.is_stopped);
        if !self.volume(index).is_some_and(is_over) {
            return;
        }
        self.close_sessions(index, "the volume is taken out of service");
        if let Some(mut volume) = self.volumes[index as usize].take() {
            self.end_exports_of(Some(volume.record.id), None);
            self.budget.give_back_all(volume.ops.asked_bytes());
            self.scatter_errands(&mut volume.ops);
            self.refuse_looks(&volume.looks);
            self.unroute(index);
            self.withdraw(volume.part.record().id);
            if let Some(reply) = volume.stop.and_then(|stop| stop.reply) {
                let _ = reply.try_send(());
            }
        }
    }

    /// A fault of ours in a volume: it goes out of service with its sessions, the others stay.
    pub(super) fn fail_volume(&mut self, index: u32, fault: &str) {
        self.faults += 1;
        let Some(volume) = self.volume(index) else { return };
        tracing::error!(volume = %volume.record.name, fault, "volume out of service after a fault of this program; restart the node");
        self.failed_volumes.push((volume.record.id, fault.to_owned()));
        self.take_out_of_service(index, "the volume failed");
    }

    /// A volume goes as it is, its part unasked: for its neighbours, as if this process had ended.
    pub(super) fn take_out_of_service(&mut self, index: u32, why: &'static str) {
        let Some(mut volume) = self.volumes[index as usize].take() else { return };
        let sessions = std::mem::take(&mut volume.sessions);
        self.end_exports_of(Some(volume.record.id), None);
        // It answers nothing any more: this node neither owns the segment nor promises anything for it.
        let segment = volume.part.record().id;
        self.beats.leases().disown(segment);
        self.beats.leases().grant_for(segment, None);
        self.withdraw(segment);
        self.refuse_looks(&volume.looks);
        self.budget.give_back_all(volume.ops.asked_bytes());
        self.unroute(index);
        self.scatter_errands(&mut volume.ops);
        for at in sessions {
            self.close(at, CloseReason::Node(why), false);
        }
        if let Some(reply) = volume.stop.and_then(|stop| stop.reply) {
            let _ = reply.try_send(());
        }
    }
}
