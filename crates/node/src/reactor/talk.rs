//! The reactor's part in what nodes' administration says to each other, and an administrator's commands to parts.

use std::sync::mpsc::TrySendError;

use dyad_mirror::{Command, CommandError, LossReport, OpId, PartEvent};
use dyad_scsi::NodeOp;
use dyad_units::{NodeId, VolumeId};
use dyad_wire::SendError;

use super::message::Reply;
use super::run::{Reactor, guarded};
use crate::talk::{AnswerTo, Ask, Caller, Told, encode, refusal};

/// Questions to one node that may be without an answer.
pub(super) const ASKED_MAX: usize = 64;

/// How a command to a part ended.
pub(crate) type Commanded = Result<Option<Box<LossReport>>, CommandError>;

/// Who waits for an answer.
pub(super) enum Asker<T> {
    /// Another thread, there.
    Thread(T),
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
    pub(super) fn ask_node(&mut self, node: NodeId, body: &[u8], reply: AnswerTo) {
        self.ask_node_as(node, body, Asker::Thread(reply));
    }

    /// Asks a node for whoever it is; whether that was possible. A thread that cannot be answered learns it from the reply
    /// that is dropped.
    pub(super) fn ask_node_as(&mut self, node: NodeId, body: &[u8], asker: Asker<AnswerTo>) -> bool {
        let id = self.fresh_id();
        let Some(index) = self.peer_of(node) else { return false };
        if self.peers[index].as_deref().is_some_and(|peer| peer.asked.len() >= ASKED_MAX) {
            self.forget_askers(index);
        }
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

    /// Gives up the places of those who do not wait any more: threads have their patience, hosts give commands up.
    fn forget_askers(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let mut asked = std::mem::take(&mut peer.asked);
        asked.retain(|(_, asker)| match asker {
            Asker::Thread(reply) => reply.is_awaited(),
            Asker::Host(waiting) => {
                let volume = self.volume_with_id(waiting.volume).and_then(|index| self.volume(index));
                volume.is_some_and(|volume| volume.ops.get(waiting.id).is_some())
            }
        });
        if let Some(peer) = self.peers[index].as_deref_mut() {
            peer.asked = asked;
        }
    }

    /// The answer to another node's question; it may have gone meanwhile.
    pub(super) fn tell_node(&mut self, node: NodeId, id: u64, body: &[u8]) {
        let Some(index) = self.peer_of(node) else { return };
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let sender = &mut peer.link.sender;
        match guarded(|| sender.answer(id, body)) {
            Ok(Ok(())) => self.soil_peer(index),
            Ok(Err(error @ SendError::TooLong { .. })) => {
                tracing::warn!(%node, %error, "another node's question is not answered");
                // It is short.
                self.tell_node(node, id, &encode(&refusal("the answer is too long")));
            }
            // Who asked would wait for it as long as the connection lasts.
            Ok(Err(error)) => self.close_peer(index, &error.to_string()),
            Err(fault) => {
                self.faults += 1;
                self.close_peer(index, &fault.0);
            }
        }
    }

    pub(super) fn on_question(&mut self, node: NodeId, id: u64, body: Vec<u8>) {
        // What a host waits for is answered here, without a thread in between.
        if let Ok(Ask::Look { volume, look }) = serde_json::from_slice(&body) {
            return self.on_look_asked(node, id, volume, look);
        }
        if let Err(TrySendError::Full(_)) = self.callers.try_send(Caller { node, id, body }) {
            self.tell_node(node, id, &encode(&refusal("too many questions of other nodes are waiting")));
        }
    }

    pub(super) fn on_node_answer(&mut self, index: usize, id: u64, body: Vec<u8>) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        // One that came too late is of nobody any more.
        let Some(at) = peer.asked.iter().position(|(asked, _)| *asked == id) else { return };
        match peer.asked.swap_remove(at).1 {
            Asker::Thread(reply) => reply.give(body),
            Asker::Host(waiting) => self.on_told(waiting, serde_json::from_slice(&body).unwrap_or(Told::Unknown)),
        }
    }

    /// An administrator's command to the part of a volume. If the volume is not in service here, the reply is dropped.
    pub(super) fn command_volume(&mut self, volume: VolumeId, command: Command, reply: Reply<Commanded>) {
        if let Some(index) = self.volume_with_id(volume) {
            self.command_as(index, command, Asker::Thread(reply));
        }
    }

    pub(super) fn command_as(&mut self, index: u32, command: Command, asker: Asker<Reply<Commanded>>) {
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
