//! The reactor's part in what nodes' administration says to each other, and an administrator's commands to parts.

use std::sync::mpsc::TrySendError;

use dyad_mirror::{Command, CommandError, LossReport, OpId, PartEvent};
use dyad_scsi::NodeOp;
use dyad_units::{NodeId, VolumeId};

use super::message::Reply;
use super::run::{Reactor, guarded};
use crate::talk::{Ask, Caller, Refused, Told, encode};

/// Questions to one node that may be without an answer.
pub(super) const ASKED_MAX: usize = 64;

/// How a command to a part ended.
pub(crate) type Commanded = Result<Option<Box<LossReport>>, CommandError>;

/// Who waits for an answer.
pub(super) enum Asker<T> {
    /// Another thread.
    Thread(Reply<T>),
    /// A host's command, which may be over when it comes.
    Host(Waiting),
}

/// A host's command that waits for something that is not its volume's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) volume: VolumeId,
    pub(super) id: OpId,
    pub(super) op: NodeOp,
}

impl Reactor {
    /// Asks a node. Without a connection, or when it breaks, nobody answers: the reply is dropped.
    pub(super) fn ask_node(&mut self, node: NodeId, body: &[u8], reply: Reply<Vec<u8>>) {
        self.ask_node_as(node, body, Asker::Thread(reply));
    }

    /// Asks a node for whoever it is; whether that was possible. A thread that cannot be answered learns it from the reply
    /// that is dropped.
    pub(super) fn ask_node_as(&mut self, node: NodeId, body: &[u8], asker: Asker<Vec<u8>>) -> bool {
        let id = self.fresh_id();
        let Some(index) = self.peer_of(node) else { return false };
        let Some(peer) = self.peers[index].as_deref_mut() else { return false };
        if peer.asked.len() >= ASKED_MAX {
            return false;
        }
        let sender = &mut peer.link.sender;
        let Ok(Ok(())) = guarded(|| sender.question(id, body)) else { return false };
        peer.asked.push((id, asker));
        self.soil_peer(index);
        true
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
        // What a host waits for is answered here, without a thread in between.
        if let Ok(Ask::Look { volume, look }) = serde_json::from_slice(&body) {
            return self.on_look_asked(node, id, volume, look);
        }
        if let Err(TrySendError::Full(_)) = self.callers.try_send(Caller { node, id, body }) {
            let why = "too many questions of other nodes are waiting".to_owned();
            let told = Told::Refused(Refused { why, owner: None, is_passing: true });
            self.tell_node(node, id, &encode(&told));
        }
    }

    pub(super) fn on_node_answer(&mut self, index: usize, id: u64, body: Vec<u8>) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        // One that came too late is of nobody any more.
        let Some(at) = peer.asked.iter().position(|(asked, _)| *asked == id) else { return };
        match peer.asked.swap_remove(at).1 {
            Asker::Thread(reply) => drop(reply.try_send(body)),
            Asker::Host(waiting) => self.on_told(waiting, serde_json::from_slice(&body).unwrap_or(Told::Unknown)),
        }
    }

    /// An administrator's command to the part of a volume. If the volume is not in service here, the reply is dropped.
    pub(super) fn command_volume(&mut self, volume: VolumeId, command: Command, reply: Reply<Commanded>) {
        if let Some(index) = self.volume_with_id(volume) {
            self.command_as(index, command, Asker::Thread(reply));
        }
    }

    pub(super) fn command_as(&mut self, index: u32, command: Command, asker: Asker<Commanded>) {
        // Never 0, which is the command that nobody waits for.
        let id = self.fresh_id();
        if let Some(volume) = self.volume_mut(index) {
            volume.commands.push((id, asker));
        }
        self.volume_event(index, PartEvent::Command { id, command });
    }

    /// A part answered a command; `false` if nobody waits for it.
    pub(super) fn commanded(&mut self, index: u32, id: u64, result: Commanded) -> bool {
        let Some(volume) = self.volume_mut(index) else { return false };
        let Some(at) = volume.commands.iter().position(|(asked, _)| *asked == id) else { return false };
        match volume.commands.swap_remove(at).1 {
            Asker::Thread(reply) => drop(reply.try_send(result)),
            Asker::Host(waiting) => self.on_commanded(waiting, result),
        }
        true
    }
}
