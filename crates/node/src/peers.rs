//! Connections to the other nodes of the cluster: dialing, accepting, greeting. What is said on them afterwards is the
//! reactor's (segments) and the beat thread's (beats) business.
//!
//! ```text
//!  the node with the lower id dials, one thread per node and kind ─┐              ┌─▶ reactor's mailbox   (segments)
//!  the other accepts, one thread per greeting, few at a time ──────┴─▶ Link ──────┴─▶ beat thread's inbox (beats)
//! ```
//!
//! A [`Link`] holds a guard: when it is dropped, whoever dialed it hears of that and dials again.

mod accept;
mod dial;
mod greet;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dyad_cluster::{Incarnation, Name, NodeRecord, NodeState};
use dyad_payload::Slab;
use dyad_units::{NodeId, StoreId};
use dyad_wire::{ConnectionKind, Local, Receiver, Sender};

pub(crate) use accept::Door;

use self::tls::{PeerTls, Records};
use crate::beats::Beats;
use crate::join::Reception;
use crate::reactor::{Mailbox, Message};

/// Of the one reactor that there is: connections of segments go from it to the other side's.
const REACTORS: ConnectionKind = ConnectionKind::Segments { from: 0, to: 0 };

/// A connection after its greeting.
pub(crate) struct Link {
    pub(crate) socket: OwnedFd,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    /// Where the connection is encrypted: what came out of the sender and is not sent yet is in there, too.
    pub(crate) records: Option<Box<Records>>,
    /// The last read took less than there was room for, so the socket was empty: the next one waits until there is
    /// something again, which saves a system call. Only where the connection is not encrypted.
    pub(crate) is_drained: bool,
    /// Who is at the other end.
    pub(crate) node: NodeId,
    /// Which life of it, as it said (M11).
    pub(crate) incarnation: Incarnation,
    /// The other end's address.
    pub(crate) address: SocketAddr,
    /// Dropped with the link: whoever dialed hears of its end.
    pub(crate) _guard: Option<SyncSender<()>>,
}

impl Link {
    /// Whether all that was said went to the socket.
    pub(crate) fn is_sent(&self) -> bool {
        self.sender.is_empty() && self.records.as_ref().is_none_or(|records| records.output().is_empty())
    }
}

/// How connections between nodes are made.
pub(crate) enum Transport {
    /// Encrypted, each side with a certificate.
    Tls(PeerTls),
    /// As they are: on this machine, or where the administrator allows it.
    Plain {
        /// It does.
        is_allowed: bool,
    },
}

/// Another node, as far as its record and its greetings tell.
struct Neighbour {
    record: NodeRecord,
    /// The newest life that it proved (M11).
    life: Incarnation,
    /// Why the last attempt to connect to it failed.
    trouble: Option<String>,
}

/// A connection that was not let in.
struct TurnedAway {
    from: SocketAddr,
    why: String,
    at: Instant,
}

/// So long a connection that was turned away is told in the status: it comes again within a second, if it is a node.
const TURNED_AWAY_TOLD: Duration = Duration::from_secs(60);
/// At most so often such a connection is told in the log: anybody may come.
const TURNED_AWAY_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Book {
    neighbours: BTreeMap<NodeId, Neighbour>,
    dialers: Vec<JoinHandle<()>>,
    turned_away: Option<TurnedAway>,
    is_stopping: bool,
}

/// Who the other nodes are, and the threads that connect to them.
pub(crate) struct Peers {
    local: Local,
    transport: Transport,
    reception: Arc<Reception>,
    slab: Slab,
    mailbox: Arc<Mailbox>,
    beats: Arc<Beats>,
    book: Mutex<Book>,
    changed: Condvar,
}

impl Peers {
    pub(crate) fn new(
        local: Local,
        transport: Transport,
        reception: Arc<Reception>,
        slab: Slab,
        mailbox: Arc<Mailbox>,
        beats: Arc<Beats>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            transport,
            reception,
            slab,
            mailbox,
            beats,
            book: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The config store that this node uses.
    pub(crate) fn store(&self) -> StoreId {
        self.local.store
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Why a node is not connected, as far as is known here.
    pub(crate) fn trouble_of(&self, node: NodeId) -> Option<String> {
        let book = self.book();
        let trouble = book.neighbours.get(&node).and_then(|known| known.trouble.clone());
        // Who was turned away is not known for sure: told of nodes that dial this one.
        let away = book.turned_away.as_ref().filter(|away| away.at.elapsed() < TURNED_AWAY_TOLD);
        let away = away.filter(|_| node < self.local.node);
        trouble
            .or_else(|| away.map(|away| format!("a connection from {} was turned away: {}", away.from.ip(), away.why)))
    }

    /// A connection was not let in.
    fn turn_away(&self, from: SocketAddr, why: String) {
        let mut book = self.book();
        let is_told = book.turned_away.as_ref().is_some_and(|last| {
            last.at.elapsed() < TURNED_AWAY_EVERY || last.why == why && last.at.elapsed() < TURNED_AWAY_TOLD
        });
        if is_told {
            return;
        }
        tracing::warn!(%from, reason = why, "a connection to the port of the nodes was turned away");
        book.turned_away = Some(TurnedAway { from, why, at: Instant::now() });
    }

    /// An attempt to connect to the node failed.
    fn note_trouble(&self, node: NodeId, why: &str) {
        if let Some(known) = self.book().neighbours.get_mut(&node) {
            known.trouble = Some(why.to_owned());
        }
    }

    /// A node of the cluster, as its newest record says. It is connected to from now on.
    pub(crate) fn learn(self: &Arc<Self>, record: &NodeRecord) {
        let me = self.local.node;
        if record.id == me {
            return;
        }
        let mut book = self.book();
        if book.is_stopping {
            return;
        }
        if record.state == NodeState::Removed {
            // Whoever dials it sees that it is gone, and ends.
            if book.neighbours.remove(&record.id).is_some() {
                tracing::info!(node = %record.name, "the node was removed from the cluster");
                self.mailbox.post(Message::Removed(record.id));
                self.beats.forget(record.id);
            }
            drop(book);
            self.changed.notify_all();
            return;
        }
        match book.neighbours.get_mut(&record.id) {
            Some(known) => {
                if record.incarnation.start > known.life.start {
                    known.life = record.incarnation;
                }
                known.record = record.clone();
            }
            None => {
                let neighbour = Neighbour { record: record.clone(), life: record.incarnation, trouble: None };
                book.neighbours.insert(record.id, neighbour);
                // One side dials, so that there is one connection of a kind: the one with the lower id.
                if me < record.id {
                    for kind in [ConnectionKind::Beats, REACTORS] {
                        match dial::spawn(self.clone(), record.id, kind) {
                            Ok(thread) => book.dialers.push(thread),
                            Err(error) => tracing::error!(node = %record.name, %error, "node cannot be connected to"),
                        }
                    }
                }
            }
        }
        drop(book);
        self.changed.notify_all();
    }

    /// Ends the threads.
    pub(crate) fn stop(&self) {
        let dialers = {
            let mut book = self.book();
            book.is_stopping = true;
            std::mem::take(&mut book.dialers)
        };
        self.changed.notify_all();
        for dialer in dialers {
            let _ = dialer.join();
        }
    }

    fn is_stopping(&self) -> bool {
        self.book().is_stopping
    }

    /// Sleeps so long, or until there are news of the nodes.
    fn rest(&self, pause: Duration) {
        let book = self.book();
        if !book.is_stopping {
            drop(self.changed.wait_timeout(book, pause).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The newest life of a node that is known; none: it is no node of this cluster.
    fn life_of(&self, node: NodeId) -> Option<Incarnation> {
        self.book().neighbours.get(&node).map(|neighbour| neighbour.life)
    }

    fn addresses_of(&self, node: NodeId) -> Option<Vec<String>> {
        self.book().neighbours.get(&node).map(|neighbour| neighbour.record.peers.clone())
    }

    fn record_name_of(&self, node: NodeId) -> Option<Name> {
        self.book().neighbours.get(&node).map(|neighbour| neighbour.record.name.clone())
    }

    fn name_of(&self, node: NodeId) -> String {
        self.book().neighbours.get(&node).map_or_else(|| node.to_string(), |known| known.record.name.to_string())
    }

    /// A greeting is over: the connection goes to whoever uses it.
    fn deliver(&self, link: Link, kind: ConnectionKind) {
        // Held until it is delivered: a node that is removed right now is known no more, or its connection is closed after.
        let mut book = self.book();
        let Some(known) = book.neighbours.get_mut(&link.node) else { return };
        known.trouble = None;
        if link.incarnation.start > known.life.start {
            known.life = link.incarnation;
        }
        tracing::debug!(node = %known.record.name, address = %link.address, ?kind, "connected");
        match kind {
            ConnectionKind::Beats => self.beats.add(link),
            ConnectionKind::Segments { .. } => self.mailbox.post(Message::Peer(Box::new(link))),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is one insertion or assignment.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({} nodes)", self.book().neighbours.len())
    }
}
