//! Connections to the other nodes' reactors: messages of parts in both directions.
//!
//! Each side announces the segments of which it has a part. A part hears that a node is there when both have announced
//! the segment on one connection: what is said before that would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use dyad_contract::volume::{Edition, VolumeError};
use dyad_mirror::{PartEvent, PeerMessage};
use dyad_units::{NodeId, Period, SegmentId};
use dyad_wire::{Bye, ByeReason, Incoming, Polled, SegmentNumber, SendError, Sender};
use rustix::event::epoll;

use super::run::{Reactor, guarded};
use super::talk::Asker;
use crate::beats::{receive_some, send};
use crate::peers::Link;
use crate::talk::AnswerTo;

/// Messages taken from one node per turn, so that one node does not keep everybody else waiting; epoll comes back.
const MESSAGES_PER_TURN: usize = 512;
/// Names in epoll for these connections: below those of listeners.
pub(super) const PEERS: u64 = u64::MAX - 2048;
/// Other nodes at most, by the names there are.
const PEERS_MAX: usize = 1024;
/// A node of which no beat was heard for so long counts as not connected, whatever TCP says: it is stopped, or the network
/// between is gone. Longer than a lease (M5), after which it grants nothing and others may follow it.
const SILENCE_MAX: Period = Period::from_millis(1000);
/// How often that is looked at.
const SILENCE_LOOK: Period = Period::from_millis(100);
/// Until a connection that used up its turn has the next one: after everybody else.
const TURN: Period = Period::from_nanos(1);
/// More than this that waits is sent before the turn is over, as far as the socket takes it: one step of a volume may want
/// hundreds of MiB sent, and the other node could have begun. As much as a socket takes at once.
const EARLY_BYTES: u64 = 4 << 20;
/// Pause of a connection that found no buffer.
const STARVED_PAUSE: Period = Period::from_millis(1);

/// A connection to another node's reactor.
pub(crate) struct Peer {
    pub(super) link: Link,
    /// Our numbers of segments on it.
    announced: BTreeMap<SegmentId, SegmentNumber>,
    /// Segments that the other side announced.
    theirs: BTreeSet<SegmentId>,
    /// What epoll watches for.
    watched: epoll::EventFlags,
    is_dirty: bool,
    /// With so many bytes in the queue it is sent early.
    early_at: u64,
    /// Questions of this node's administration without an answer, and who waits for it.
    pub(super) asked: Vec<(u64, Asker<AnswerTo>)>,
    /// No buffer was left to receive into, or more was there than is taken in a turn: what is received already, epoll
    /// does not tell again.
    is_starved: bool,
}

impl Reactor {
    /// A connection after its greeting; it takes the place of an older one to the same node.
    pub(super) fn add_peer(&mut self, link: Link) {
        let (node, incarnation) = (link.node, link.incarnation);
        if let Some(older) = self.peer_of(node) {
            self.close_peer(older, "another connection took its place");
        }
        let index = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        let name = epoll::EventData::new_u64(PEERS + index as u64);
        if self.stopping.is_some()
            || index >= PEERS_MAX
            || epoll::add(&self.epoll, link.socket.as_fd(), name, epoll::EventFlags::IN).is_err()
        {
            return; // closed; the other side comes again
        }
        tracing::info!(%node, address = %link.address, "node connected");
        self.beats.leases().hello(node, incarnation, crate::clock::now());
        if index == self.peers.len() {
            self.peers.push(None);
        }
        self.peers[index] = Some(Box::new(Peer {
            link,
            announced: BTreeMap::new(),
            theirs: BTreeSet::new(),
            watched: epoll::EventFlags::IN,
            is_dirty: false,
            early_at: EARLY_BYTES,
            asked: Vec::new(),
            is_starved: false,
        }));
        let segments: Vec<SegmentId> = self.segments.keys().copied().collect();
        for segment in segments {
            self.announce_to(index, segment);
        }
        self.doubt_all_paths();
        self.ask_to_leave();
        // What came with the greeting is in the receiver already.
        self.receive_from(index);
        self.wake_in(SILENCE_LOOK);
    }

    /// Ends connections to nodes that are silent.
    pub(super) fn end_silent_peers(&mut self) {
        let now = crate::clock::now();
        for index in 0..self.peers.len() {
            let Some(node) = self.peers[index].as_deref().map(|peer| peer.link.node) else { continue };
            let heard = self.beats.leases().heard(node);
            if heard.is_none_or(|at| now.since(at) > SILENCE_MAX) {
                if let Some(peer) = self.peers[index].as_deref_mut() {
                    let text = "nothing was heard of this node for too long".to_owned();
                    peer.link.sender.bye(&Bye { reason: ByeReason::Silence, text });
                    let _ = send(&mut peer.link);
                }
                self.close_peer(index, "nothing was heard of it for too long");
            }
        }
        if self.peers.iter().any(Option::is_some) {
            self.wake_in(SILENCE_LOOK);
        }
    }

    /// The node is of the cluster no more.
    pub(super) fn forget_peer(&mut self, node: NodeId) {
        let Some(index) = self.peer_of(node) else { return };
        if let Some(peer) = self.peers[index].as_deref_mut() {
            let text = "this node was removed from the cluster".to_owned();
            peer.link.sender.bye(&Bye { reason: ByeReason::Removed, text });
            let _ = send(&mut peer.link);
        }
        self.close_peer(index, "it was removed from the cluster");
    }

    pub(super) fn peer_of(&self, node: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.as_ref().is_some_and(|peer| peer.link.node == node))
    }

    /// The nodes that are connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().flatten().map(|peer| peer.link.node)
    }

    /// There is a part of this segment now: every node is told, and the part of every node that has one.
    pub(super) fn announce(&mut self, volume: u32, segment: SegmentId) {
        self.segments.insert(segment, volume);
        for index in 0..self.peers.len() {
            self.announce_to(index, segment);
            let Some(peer) = self.peers[index].as_deref().filter(|peer| peer.theirs.contains(&segment)) else {
                continue;
            };
            let (node, incarnation) = (peer.link.node, peer.link.incarnation);
            self.volume_event(volume, PartEvent::PeerUp { node, incarnation });
        }
    }

    fn announce_to(&mut self, index: usize, segment: SegmentId) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        match peer.link.sender.announce(segment) {
            Ok(number) => {
                peer.announced.insert(segment, number);
                self.soil_peer(index);
            }
            Err(error) => self.close_peer(index, &error.to_string()),
        }
    }

    /// There is no part of this segment any more.
    pub(super) fn withdraw(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers[index].as_deref_mut() else { continue };
            let Some(number) = peer.announced.remove(&segment) else { continue };
            match peer.link.sender.withdraw(number) {
                Ok(()) => self.soil_peer(index),
                Err(error) => self.close_peer(index, &error.to_string()),
            }
        }
    }

    /// A part says something to another node's; of an operation of a host, with the SCSI state that it was checked against.
    /// Without a connection it is dropped.
    pub(super) fn tell_peer(
        &mut self,
        to: NodeId,
        segment: SegmentId,
        message: &PeerMessage,
        edition: Option<Edition>,
    ) {
        self.say_to(to, segment, |sender, number| sender.send_checked(number, message, edition));
    }

    /// Says something of a segment to another node. Without a connection it is dropped.
    pub(super) fn say_to(
        &mut self,
        to: NodeId,
        segment: SegmentId,
        say: impl FnOnce(&mut Sender, SegmentNumber) -> Result<(), SendError>,
    ) {
        let Some(index) = self.peer_of(to) else { return };
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let Some(&number) = peer.announced.get(&segment) else { return };
        let sender = &mut peer.link.sender;
        match guarded(|| say(sender, number)) {
            Ok(Ok(())) => {
                self.soil_peer(index);
                self.send_early(index);
            }
            // A message is missing: nothing may follow it (M3).
            Ok(Err(error)) => self.close_peer(index, &error.to_string()),
            Err(fault) => {
                self.faults += 1;
                self.close_peer(index, &fault.0);
            }
        }
    }

    fn send_early(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        if peer.link.sender.queued() < peer.early_at {
            return;
        }
        let is_up = send(&mut peer.link);
        peer.early_at = peer.link.sender.queued() + EARLY_BYTES;
        if !is_up {
            self.close_peer(index, "the connection broke");
        }
    }

    pub(super) fn soil_peer(&mut self, index: usize) {
        if let Some(peer) = self.peers[index].as_deref_mut()
            && !peer.is_dirty
        {
            peer.is_dirty = true;
            self.dirty_peers.push(index);
        }
    }

    /// Sends what is queued, as far as sockets take it.
    pub(super) fn flush_peers(&mut self) {
        while let Some(index) = self.dirty_peers.pop() {
            let Some(peer) = self.peers[index].as_deref_mut() else { continue };
            peer.is_dirty = false;
            if !send(&mut peer.link) {
                self.close_peer(index, "the connection broke");
                continue;
            }
            peer.early_at = peer.link.sender.queued() + EARLY_BYTES;
            self.watch_peer(index);
        }
    }

    /// Tells epoll what is wanted, if that is something else than before.
    fn watch_peer(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::OUT, !peer.link.is_sent());
        flags.set(epoll::EventFlags::IN, !peer.is_starved);
        if std::mem::replace(&mut peer.watched, flags) == flags {
            return;
        }
        let name = epoll::EventData::new_u64(PEERS + index as u64);
        if epoll::modify(&self.epoll, peer.link.socket.as_fd(), name, flags).is_err() {
            self.close_peer(index, "the event loop refused it");
        }
    }

    /// Something happened at a connection.
    pub(super) fn on_peer(&mut self, index: usize, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            if index < self.peers.len() {
                self.soil_peer(index);
            }
            self.flush_peers();
        }
        self.receive_from(index);
    }

    fn receive_from(&mut self, index: usize) {
        let was_starved = self.peers.get(index).and_then(Option::as_deref).is_some_and(|peer| peer.is_starved);
        let mut is_drained = false;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) else { return };
            let receiver = &mut peer.link.receiver;
            match guarded(|| receiver.poll()) {
                Ok(Ok(Polled::Incoming(incoming))) => self.on_incoming(index, incoming),
                Ok(Ok(Polled::NeedsBytes)) => match receive_some(&mut peer.link) {
                    Ok(true) => {}
                    Ok(false) => {
                        is_drained = true;
                        break;
                    }
                    Err(error) => return self.close_peer(index, &error.to_string()),
                },
                Ok(Ok(Polled::NeedsMemory)) => {
                    peer.is_starved = true;
                    self.watch_peer(index);
                    return self.wake_in(STARVED_PAUSE);
                }
                Ok(Err(error)) => {
                    let bye = Bye { reason: ByeReason::Protocol, text: error.to_string() };
                    peer.link.sender.bye(&bye);
                    let _ = send(&mut peer.link);
                    return self.close_peer(index, &bye.text);
                }
                Err(fault) => {
                    self.faults += 1;
                    return self.close_peer(index, &fault.0);
                }
            }
        }
        if !is_drained {
            if let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
                peer.is_starved = true;
                self.wake_in(TURN);
            }
            return;
        }
        if was_starved && let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
            peer.is_starved = false;
            self.watch_peer(index);
        }
    }

    /// Connections that found no buffer try again.
    pub(super) fn wake_starved_peers(&mut self) {
        for index in 0..self.peers.len() {
            if self.peers[index].as_deref().is_some_and(|peer| peer.is_starved) {
                self.receive_from(index);
            }
        }
    }

    fn on_incoming(&mut self, index: usize, incoming: Incoming) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        let (node, incarnation) = (peer.link.node, peer.link.incarnation);
        match incoming {
            Incoming::Message { segment, message, edition, .. } => {
                if let Some(&volume) = self.segments.get(&segment) {
                    if let PeerMessage::Forward { id, op, .. } = &message
                        && !self.admits_forward(volume, node, (*id, op), edition)
                    {
                        return;
                    }
                    self.volume_event(volume, PartEvent::Peer { from: node, message });
                }
            }
            Incoming::Announced { segment, .. } => {
                peer.theirs.insert(segment);
                if let Some(&volume) = self.segments.get(&segment) {
                    self.volume_event(volume, PartEvent::PeerUp { node, incarnation });
                }
            }
            Incoming::Withdrawn { segment, .. } => {
                peer.theirs.remove(&segment);
                if let Some(&volume) = self.segments.get(&segment) {
                    self.lose_writer(volume, node);
                    self.volume_event(volume, PartEvent::PeerDown { node });
                }
            }
            Incoming::Stale { segment, id, edition } => {
                if let Some(&volume) = self.segments.get(&segment) {
                    self.on_stale(volume, node, id, edition);
                }
            }
            Incoming::StateChanged { segment, edition } => {
                if let Some(&volume) = self.segments.get(&segment) {
                    self.on_state_changed(volume, edition);
                }
            }
            Incoming::Question { id, body } => self.on_question(node, id, body),
            Incoming::Answer { id, body } => self.on_node_answer(index, id, body),
            Incoming::Bye(bye) => self.close_peer(index, &bye.text),
            // The receiver lets nothing else through on such a connection.
            _ => self.close_peer(index, "it said what has no place here"),
        }
    }

    /// Ends a connection; parts hear that the node is gone.
    pub(super) fn close_peer(&mut self, index: usize, why: &str) {
        let Some(peer) = self.peers[index].take() else { return };
        let node = peer.link.node;
        tracing::info!(%node, why, "node not connected any more");
        let _ = epoll::delete(&self.epoll, peer.link.socket.as_fd());
        self.doubt_all_paths();
        for (_, asker) in peer.asked {
            if let Asker::Host(waiting) = asker {
                self.end_waiting(waiting, Err(VolumeError::Busy));
            }
        }
        for segment in peer.theirs {
            if let Some(&volume) = self.segments.get(&segment) {
                self.lose_writer(volume, node);
                self.volume_event(volume, PartEvent::PeerDown { node });
            }
        }
    }

    /// The node ends: the others are told, so that they wait for nothing.
    pub(super) fn say_bye(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            peer.link.sender.bye(&Bye { reason: ByeReason::Stopping, text: "the node stops".into() });
            let _ = send(&mut peer.link);
        }
    }
}
