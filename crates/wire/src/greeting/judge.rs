//! Whether two nodes may talk to each other, and how.

use dyad_cluster::{Incarnation, Name};
use dyad_units::{ClusterId, NodeId, StoreId};

use crate::greeting::{ConnectionKind, Hello, Refusal, RefusalReason, Versions, Welcome};

/// This node, as it presents itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Local {
    /// [`VERSIONS`](crate::VERSIONS), but for tests.
    pub versions: Versions,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Who it is.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Its config store.
    pub store: StoreId,
    /// How many reactors it has.
    pub reactors: u16,
}

/// The accepting side's consent cannot be used: close the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WelcomeError {
    /// A version that was not offered.
    #[error("the node chose protocol version {0}, which was not offered")]
    Version(u16),
    /// It is of another cluster.
    #[error("the node is of another cluster, {0}")]
    OtherCluster(ClusterId),
    /// It is another node.
    #[error("another node answered at this address: {0}")]
    OtherNode(NodeId),
    /// A newer life of it is known, or another one of the same count (M11).
    #[error("the node answered as its start {start}, but start {known} of it is known: was an old copy of it started?")]
    OlderLife {
        /// What it says.
        start: u64,
        /// What is known.
        known: u64,
    },
}

/// Whether `life` may be of a node of which `known` is the newest life known: not an older one, and no other of the
/// same count (M11).
fn is_believable(life: Incarnation, known: Option<Incarnation>) -> bool {
    known.is_none_or(|known| life.start > known.start || life == known)
}

/// Whether two nodes are of one cluster, each as it names its cluster and its config store. A cluster has the name of its first
/// store. A node that came after another store took that one's place knows only the newer one, and while a store is being
/// replaced, nodes use the old one and the new one side by side (design section 8).
fn are_together(one: (ClusterId, StoreId), other: (ClusterId, StoreId)) -> bool {
    let named_by = |store: StoreId| ClusterId::from_bytes(store.to_bytes());
    one.0 == other.0 || one.1 == other.1 || one.0 == named_by(other.1) || other.0 == named_by(one.1)
}

impl Local {
    /// The first word to a node.
    pub fn hello(&self, to: NodeId, kind: ConnectionKind) -> Hello {
        Hello {
            versions: self.versions,
            cluster: self.cluster,
            node: self.node,
            name: self.name.clone(),
            incarnation: self.incarnation,
            store: self.store,
            reactors: self.reactors,
            to,
            kind,
        }
    }

    /// Answers a hello. `known`: the newest life of the node that is known. Whether it is a node of the cluster, and
    /// whether its certificate is its own, is for the caller to say ([`Self::refuse`]).
    ///
    /// # Errors
    /// The refusal to be sent.
    pub fn answer(&self, hello: &Hello, known: Option<Incarnation>) -> Result<Welcome, Refusal> {
        let refuse = |reason, text: String| Err(self.refuse(reason, text));
        if !are_together((hello.cluster, hello.store), (self.cluster, self.store)) {
            return refuse(RefusalReason::OtherCluster, format!("this node is of another cluster, {}", self.cluster));
        }
        if hello.to != self.node || hello.node == self.node {
            return refuse(RefusalReason::OtherNode, format!("this is node {} ({})", self.name, self.node));
        }
        let Some(version) = self.versions.common(hello.versions) else {
            let text =
                format!("this node speaks versions {}, you {}: upgrade the older", self.versions, hello.versions);
            return refuse(RefusalReason::Versions, text);
        };
        if !is_believable(hello.incarnation, known) {
            let (start, known) = (hello.incarnation.start, known.map_or(0, |life| life.start));
            let text =
                format!("you say start {start}, but start {known} of node {} is known: an old copy?", hello.name);
            return refuse(RefusalReason::OlderLife, text);
        }
        match hello.kind {
            ConnectionKind::Segments { to, .. } if to >= self.reactors => {
                let text = format!("this node has {} reactors, none with number {to}", self.reactors);
                refuse(RefusalReason::NoSuchReactor, text)
            }
            ConnectionKind::Segments { .. } | ConnectionKind::Beats => Ok(self.welcome(version)),
        }
    }

    fn welcome(&self, version: u16) -> Welcome {
        Welcome {
            version,
            cluster: self.cluster,
            node: self.node,
            name: self.name.clone(),
            incarnation: self.incarnation,
            store: self.store,
            reactors: self.reactors,
        }
    }

    /// A refusal for another reason.
    pub fn refuse(&self, reason: RefusalReason, text: String) -> Refusal {
        Refusal { reason, versions: self.versions, text }
    }

    /// Checks the consent to `hello`. `known`: the newest life of the node that is known.
    ///
    /// # Errors
    /// [`WelcomeError`].
    pub fn check(&self, hello: &Hello, welcome: &Welcome, known: Option<Incarnation>) -> Result<(), WelcomeError> {
        if !are_together((welcome.cluster, welcome.store), (hello.cluster, hello.store)) {
            return Err(WelcomeError::OtherCluster(welcome.cluster));
        }
        if welcome.node != hello.to {
            return Err(WelcomeError::OtherNode(welcome.node));
        }
        let chosen = Versions { oldest: welcome.version, newest: welcome.version };
        if hello.versions.common(chosen).is_none() {
            return Err(WelcomeError::Version(welcome.version));
        }
        if !is_believable(welcome.incarnation, known) {
            let known = known.map_or(0, |life| life.start);
            return Err(WelcomeError::OlderLife { start: welcome.incarnation.start, known });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broke once (review): after an arbiter was seeded anew, or left for etcd, no new node was let in any more.
    #[test]
    fn nodes_from_before_and_after_a_new_store_are_of_one_cluster() {
        let node = |cluster, store| (ClusterId::from_bytes([cluster; 16]), StoreId::from_bytes([store; 16]));
        // The cluster and its first store are 1. Store 2 takes its place, then 3.
        let together = [
            [node(1, 1), node(1, 1)],
            [node(1, 1), node(1, 2)],
            [node(1, 2), node(2, 2)],
            [node(2, 3), node(1, 2)],
            [node(2, 3), node(2, 2)],
            [node(2, 3), node(3, 3)],
        ];
        assert!(together.iter().all(|&[one, other]| are_together(one, other) && are_together(other, one)));
        let apart = [[node(1, 1), node(2, 2)], [node(1, 2), node(3, 3)]];
        assert!(apart.iter().all(|&[one, other]| !are_together(one, other) && !are_together(other, one)));
    }
}
