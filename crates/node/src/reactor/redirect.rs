//! Logins that another node should take: a host that comes to a node which is being drained is sent on (RFC 7143 §6.3.1,
//! status 0101), so that the node can be stopped without its hosts waiting for a timeout.
//!
//! A host is sent only where it can come for sure: to a node that is connected and not drained itself, at an address of its
//! own (not "all addresses": which of them the host can reach nobody knows here) and of the kind that the host used. If there
//! is none, this node takes the session, and forwards its commands (M18). Discovery goes on everywhere.
//!
//! Sessions that are here when the node is drained are asked to log out (Asynchronous Message, event 1, RFC 7143 §11.9.1),
//! where their login would be sent on; whoever does not is dropped after the time that it was given, its commands given up as
//! at every loss of a session (M19). Its host comes back and is sent on. What may be an address for us need not be one for
//! every host: who was sent away and comes back all the same cannot reach it, is taken, and is left in peace until the next
//! drain.

use std::net::SocketAddr;

use dyad_cluster::NodeState;
use dyad_iscsi::{AsyncEvent, LoginRefusal, PortalAddress};
use dyad_units::{Moment, NodeId, Period, VolumeId};

use super::conns::{Conn, ConnRef};
use super::run::Reactor;

/// How long a host that is asked to log out may take: longer than any command of it may (M19), and than hosts wait before
/// they do it.
const LEAVE_WITHIN: Period = Period::from_secs(30);
/// A host is sent on so often within [`RETURNS_WITHIN`], then it is taken: it came back every time. Once is too few, as a
/// connection may break by chance. Each costs a host that cannot get there the time for one connection (15 s, Linux), and
/// its commands wait for no more than a minute (Windows).
const SENT_MAX: u8 = 2;
/// Long enough for that many connections that nobody answers.
const RETURNS_WITHIN: Period = Period::from_secs(300);
/// Hosts that are remembered; over it the first one is forgotten, and sent on once more than it should be.
const SENT_KEPT: usize = 1024;

/// A host that was sent on: its initiator port and the volume.
#[derive(Debug)]
pub(super) struct Sent {
    initiator: String,
    isid: [u8; 6],
    volume: VolumeId,
    since: Moment,
    times: u8,
}

/// What the config store says of how hosts come to a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    pub(crate) node: NodeId,
    pub(crate) state: NodeState,
    /// Addresses that it listens on.
    pub(crate) portals: Vec<SocketAddr>,
}

impl Sent {
    fn is_of(&self, volume: VolumeId, initiator: &str, isid: [u8; 6]) -> bool {
        self.volume == volume && self.isid == isid && self.initiator.eq_ignore_ascii_case(initiator)
    }
}

impl Reactor {
    /// The ways to all nodes of the cluster, this one included.
    pub(super) fn learn_ways(&mut self, ways: Vec<Way>) {
        self.ways = ways;
        self.ask_to_leave();
    }

    /// Asks hosts that another node should serve to log out, if this one is drained; each once.
    pub(super) fn ask_to_leave(&mut self) {
        if self.ways.iter().any(|way| way.node == self.node && way.state == NodeState::Active) {
            // The next drain is another one.
            self.sent.clear();
            self.conns.sessions_mut().for_each(|session| session.is_settled = false);
            return;
        }
        let goes = |(at, conn): (ConnRef, &Conn)| {
            let session = conn.session.as_ref().filter(|session| !session.is_settled)?;
            let (index, _) = session.use_of?;
            self.redirection(index, conn.portal).map(|_| at)
        };
        let leaving: Vec<ConnRef> = self.conns.iter().filter_map(goes).collect();
        if !leaving.is_empty() {
            tracing::info!(sessions = leaving.len(), "hosts are asked to log out, and to come back by another node");
        }
        for at in leaving {
            let Some(conn) = self.conns.get_mut(at) else { continue };
            if let Some(session) = &mut conn.session {
                session.is_settled = true;
            }
            conn.iscsi.announce(self.now, AsyncEvent::LogoutRequested(LEAVE_WITHIN));
            self.list(at);
        }
    }

    /// A host was sent on.
    pub(super) fn note_sent(&mut self, index: u32, initiator: &str, isid: [u8; 6]) {
        let now = self.now;
        let Some(volume) = self.volume(index).map(|volume| volume.record.id) else { return };
        self.sent.retain(|sent| now.since(sent.since) < RETURNS_WITHIN);
        match self.sent.iter_mut().find(|sent| sent.is_of(volume, initiator, isid)) {
            Some(sent) => sent.times = sent.times.saturating_add(1),
            None => {
                if self.sent.len() >= SENT_KEPT {
                    self.sent.remove(0);
                }
                let initiator = initiator.to_owned();
                self.sent.push(Sent { initiator, isid, volume, since: now, times: 1 });
            }
        }
    }

    /// Whether a host was sent on as often as it may be.
    pub(super) fn came_back(&self, index: u32, initiator: &str, isid: [u8; 6]) -> bool {
        let Some(volume) = self.volume(index).map(|volume| volume.record.id) else { return false };
        let sent = self.sent.iter().find(|sent| sent.is_of(volume, initiator, isid));
        sent.is_some_and(|sent| sent.times >= SENT_MAX && self.now.since(sent.since) < RETURNS_WITHIN)
    }

    /// Where a host that came to `here` for this volume should go instead, if it should.
    pub(super) fn redirection(&self, index: u32, here: SocketAddr) -> Option<LoginRefusal> {
        let mine = self.ways.iter().find(|way| way.node == self.node)?;
        if mine.state == NodeState::Active {
            return None;
        }
        let owner = self.volume(index).and_then(|volume| volume.part.record().owner);
        let portal_of = |way: &Way| {
            let may = way.state == NodeState::Active && way.node != self.node && self.peer_of(way.node).is_some();
            let fits = |portal: &&SocketAddr| {
                let (ip, came) = (portal.ip(), here.ip());
                !ip.is_unspecified() && ip.is_loopback() == came.is_loopback() && ip.is_ipv4() == came.is_ipv4()
            };
            way.portals.iter().find(fits).copied().filter(|_| may)
        };
        // The owner's path is the short one.
        let owners = self.ways.iter().find(|way| Some(way.node) == owner).and_then(portal_of);
        let socket = owners.or_else(|| self.ways.iter().find_map(portal_of))?;
        let address = PortalAddress { socket };
        Some(match mine.state {
            NodeState::Removed => LoginRefusal::MovedPermanently(address),
            NodeState::Active | NodeState::Draining => LoginRefusal::MovedTemporarily(address),
        })
    }
}
