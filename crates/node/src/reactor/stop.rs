//! The end of a reactor: drain, flush, close, in bounded time.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use dyad_iscsi::CloseReason;
use dyad_units::{Moment, Period};
use rustix::event::epoll;

use super::message::{Message, Reply};
use super::run::Reactor;

/// How often an end under way is looked at.
const LOOK: Period = Period::from_millis(20);

/// How long a node that ends waits for a config store that answers nothing: longer than the longest call of either kind of
/// store, so that one that changes its own members is not given up.
const STORE_PATIENCE: Period = Period::from_secs(5);

/// An end under way.
pub(super) struct Stopping {
    begun: Moment,
    deadline: Moment,
    /// Pools that are being closed.
    pools: Option<Vec<Receiver<bool>>>,
    /// Everything was closed cleanly so far.
    is_clean: bool,
}

impl Reactor {
    /// A message from another thread.
    pub(super) fn on_message(&mut self, message: Message) {
        match message {
            Message::AddPool { pool, file, reply } => {
                let added = self.add_pool(*pool, file);
                let _ = reply.try_send(added);
            }
            Message::ClosePool { pool, reply } => self.close_pool(pool, reply),
            Message::CreateImage { pool, meta, reply } => self.create_image(pool, *meta, reply),
            Message::DeleteImage { pool, image, reply } => self.delete_image(pool, image, reply),
            Message::HasImage { pool, image, reply } => {
                let _ = reply.try_send(self.has_image(pool, image));
            }
            Message::AddVolume { volume, segment, reply } => {
                self.add_volume(*volume, *segment, reply);
            }
            Message::VolumeChanged(volume) => self.change_volume(*volume),
            Message::RemoveVolume { volume, reply } => self.remove_volume(volume, Some(reply)),
            Message::Answer { volume, part, answer } => self.on_store_answer(volume, part, answer),
            Message::Peer(link) => self.add_peer(*link),
            Message::Watched(segment, record) => {
                if let Some(&volume) = self.segments.get(&segment) {
                    self.volume_event(volume, dyad_mirror::PartEvent::Seen(record));
                }
            }
            Message::Removed(node) => self.forget_peer(node),
            Message::Nodes(nodes) => self.learn_nodes(nodes),
            Message::Ways(ways) => self.learn_ways(ways),
            Message::Look(reply) => {
                let _ = reply.try_send(self.look());
            }
            Message::IsHalfFilled { pool, image, reply } => {
                let _ = reply.try_send(self.is_half_filled(pool, image));
            }
            Message::ReadImage { of, piece, reply } => self.read_image(of, piece, reply),
            Message::ExportImage { volume, image, is_new, reply } => {
                let _ = reply.try_send(self.export_image(volume, image, is_new));
            }
            Message::UnexportImage { image, reply } => {
                let _ = reply.try_send(self.unexport_image(image));
            }
            Message::Command { volume, command, reply } => self.command_volume(volume, command, reply),
            Message::ForgetReservations { volume, is_forced, reply } => {
                self.forget_reservations(volume, is_forced, reply);
            }
            Message::AskNode { node, body, reply } => self.ask_node(node, &body, reply),
            Message::TellNode { node, id, body } => self.tell_node(node, id, &body),
            Message::CloseSession { id, reply } => {
                let _ = reply.try_send(self.close_session(id));
            }
            Message::Open => self.is_open = true,
            Message::Stop => self.begin_stop(),
            #[cfg(test)]
            Message::Break(part) => self.break_part(part),
        }
    }

    #[cfg(test)]
    fn break_part(&mut self, part: super::message::Part) {
        use super::message::Part;
        match part {
            Part::Mend { pool, image, piece, bytes, reply } => self.mend(pool, image, piece, &bytes, reply),
            Part::Reactor(until) => drop(until.recv()),
            Part::Session(id) => {
                let is_it = |session: &super::conns::Session| session.id == id;
                let found = self.conns.iter().find(|(_, conn)| conn.session.as_deref().is_some_and(is_it));
                if let Some((at, _)) = found {
                    self.fail_conn(at, "a test");
                }
            }
            Part::Volume(id) => {
                if let Some(index) = self.volume_with_id(id) {
                    self.fail_volume(index, "a test");
                }
            }
            Part::Pool(id) => {
                if let Some(index) = self.pool_with_id(id) {
                    self.fail_pool(index, "a test");
                }
            }
            Part::Filling(id, image) => {
                let token = dyad_contract::image::Token(u64::MAX - self.fresh_id());
                let Some(index) = self.pool_with_id(id) else { return };
                let Some(room) = self.room_mut(index) else { return };
                let Some(handle) = room.pool.find(image) else { return };
                let (cursor, complete) = (Some(dyad_units::Extent(1)), dyad_units::Stamp::NEVER);
                room.pool.submit(handle, token, dyad_contract::image::Request::Progress { cursor, complete });
                self.soil_pool(index);
            }
            Part::Stick(id, is_stuck) => {
                if let Some(index) = self.pool_with_id(id)
                    && let Some(room) = self.room_mut(index)
                {
                    room.is_stuck = is_stuck;
                    self.soil_pool(index);
                }
            }
        }
    }

    fn close_session(&mut self, id: u64) -> bool {
        let is_it = |session: &super::conns::Session| session.id == id;
        let found = self.conns.iter().find(|(_, conn)| conn.session.as_deref().is_some_and(is_it));
        let Some((at, _)) = found else { return false };
        self.close(at, CloseReason::Node("an administrator closed the session"), false);
        true
    }

    /// No new sessions; volumes drain, flush and close.
    fn begin_stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        tracing::info!(volumes = self.volumes.iter().flatten().count(), "stopping");
        let (begun, deadline) = (self.now, self.now + self.settings.stop_timeout);
        self.stopping = Some(Stopping { begun, deadline, pools: None, is_clean: true });
        for listener in self.listeners.drain(..) {
            let _ = epoll::delete(&self.epoll, &listener.socket);
        }
        let volumes: Vec<_> = self.volumes.iter().flatten().map(|volume| volume.record.id).collect();
        for id in volumes {
            self.remove_volume(id, None);
        }
    }

    /// Takes an end under way as far as it goes.
    pub(super) fn advance_stop(&mut self) {
        let Some(stopping) = &self.stopping else { return };
        let (is_late, begun, is_closing) = (self.now >= stopping.deadline, stopping.begun, stopping.pools.is_some());
        if self.now.since(begun.max(self.store_heard)) >= STORE_PATIENCE {
            self.abandon_volumes();
        }
        if self.volumes.iter().any(Option::is_some) && !is_late {
            return self.wake_in(LOOK);
        }
        if !is_closing {
            tracing::debug!(late = is_late, "volumes are closed");
            let closing = self.close_pools();
            if let Some(stopping) = &mut self.stopping {
                stopping.pools = Some(closing);
            }
            self.settle();
        }
        let Some(stopping) = &mut self.stopping else { return };
        let pools = stopping.pools.get_or_insert_default();
        let is_clean = &mut stopping.is_clean;
        pools.retain(|pool| match pool.try_recv() {
            Ok(clean) => {
                *is_clean &= clean;
                false
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => true,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => false,
        });
        if (pools.is_empty() && self.disks.in_flight() == 0 && self.conns.len() == 0) || is_late {
            self.end(is_late);
        } else {
            self.disks.flush();
            self.wake_in(LOOK);
        }
    }

    /// What only the config store could bring to an end, and it does not answer, ends as it would with the process: nothing
    /// of it is acknowledged to anybody, and everything acknowledged is kept. The pools are closed in good order.
    fn abandon_volumes(&mut self) {
        for index in 0..self.volumes.len() as u32 {
            let Some(volume) = self.volume(index).filter(|volume| volume.waits_for_store()) else { continue };
            let (name, epoch) = (&volume.record.name, volume.part.record().epoch);
            let unanswered = volume.ops.len();
            tracing::warn!(
                volume = %name, %epoch, unanswered,
                "the config store does not answer: the change of the volume's record that is under way, as when an image is \
                 away, is left undone, and what hosts were not answered meanwhile with it; the next owner compares the images"
            );
            self.take_out_of_service(index, "the node stops");
        }
    }

    fn close_pools(&mut self) -> Vec<Receiver<bool>> {
        let pools: Vec<_> = self.pools.iter().flatten().map(|room| room.id).collect();
        let close = |id| {
            let (reply, answer): (Reply<bool>, _) = sync_channel(1);
            self.close_pool(id, reply);
            answer
        };
        pools.into_iter().map(close).collect()
    }

    fn end(&mut self, is_late: bool) {
        self.say_bye();
        if is_late {
            // The last bytes may still go out; nothing acknowledged depends on them.
            self.drain_disks(Duration::from_millis(100));
            self.left =
                self.disks.in_flight() + self.volumes.iter().flatten().map(|volume| volume.ops.len()).sum::<usize>();
            self.left += self.pools.iter().flatten().count();
        }
        self.is_done = true;
    }

    /// Operations that did not end in time; after [`Self::run`](super::Reactor::run).
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}
