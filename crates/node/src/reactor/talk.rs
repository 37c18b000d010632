//! The reactor's part in what nodes' administration says to each other, and an administrator's commands to parts.

use std::sync::mpsc::TrySendError;

use dyad_mirror::{Command, CommandError, LossReport, PartEvent};
use dyad_units::{NodeId, VolumeId};

use super::message::Reply;
use super::run::{Reactor, guarded};
use crate::talk::{Caller, Refused, Told, encode};

/// Questions to one node that may be without an answer.
pub(super) const ASKED_MAX: usize = 64;

/// How a command to a part ended.
pub(crate) type Commanded = Result<Option<Box<LossReport>>, CommandError>;

impl Reactor {
    /// Asks a node. Without a connection, or when it breaks, nobody answers: the reply is dropped.
    pub(super) fn ask_node(&mut self, node: NodeId, body: &[u8], reply: Reply<Vec<u8>>) {
        let id = self.fresh_id();
        let Some(index) = self.peer_of(node) else { return };
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        if peer.asked.len() >= ASKED_MAX {
            return;
        }
        let sender = &mut peer.link.sender;
        if let Ok(Ok(())) = guarded(|| sender.question(id, body)) {
            peer.asked.push((id, reply));
            self.soil_peer(index);
        }
    }

    /// The answer to another node's question; it may have gone meanwhile.
    pub(super) fn tell_node(&mut self, node: NodeId, id: u64, body: &[u8]) {
        let Some(index) = self.peer_of(node) else { return };
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let sender = &mut peer.link.sender;
        match guarded(|| sender.answer(id, body)) {
            Ok(Ok(())) => self.soil_peer(index),
            Ok(Err(error)) => tracing::warn!(%node, %error, "another node's question is not answered"),
            Err(_) => self.faults += 1,
        }
    }

    pub(super) fn on_question(&mut self, node: NodeId, id: u64, body: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.callers.try_send(Caller { node, id, body }) {
            let why = "too many questions of other nodes are waiting".to_owned();
            let told = Told::Refused(Refused { why, owner: None, is_passing: true });
            self.tell_node(node, id, &encode(&told));
        }
    }

    pub(super) fn on_node_answer(&mut self, index: usize, id: u64, body: Vec<u8>) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        // One that came too late is of nobody any more.
        if let Some(at) = peer.asked.iter().position(|(asked, _)| *asked == id) {
            let _ = peer.asked.swap_remove(at).1.try_send(body);
        }
    }

    /// An administrator's command to the part of a volume. If the volume is not in service here, the reply is dropped.
    pub(super) fn command_volume(&mut self, volume: VolumeId, command: Command, reply: Reply<Commanded>) {
        let Some(index) = self.volume_with_id(volume) else { return };
        // Never 0, which is the command that nobody waits for.
        let id = self.fresh_id();
        if let Some(volume) = self.volume_mut(index) {
            volume.commands.push((id, reply));
        }
        self.volume_event(index, PartEvent::Command { id, command });
    }

    /// A part answered a command; `false` if nobody waits for it.
    pub(super) fn commanded(&mut self, index: u32, id: u64, result: Commanded) -> bool {
        let Some(volume) = self.volume_mut(index) else { return false };
        let Some(at) = volume.commands.iter().position(|(asked, _)| *asked == id) else { return false };
        let _ = volume.commands.swap_remove(at).1.try_send(result);
        true
    }
}
