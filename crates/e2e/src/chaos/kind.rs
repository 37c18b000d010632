//! What may go wrong.

use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// kill -9 of the owner, to which the host is connected.
    Kill9Owner,
    /// kill -9 of the owner; the host is connected to the other node, which forwards.
    Kill9OwnerBehind,
    /// kill -9 of the node that is not the owner.
    Kill9Other,
    /// kill -9 of the owner and of the arbiter in the same moment; the arbiter is started again at once.
    Kill9OwnerAndArbiter,
    /// An administrator's word: the other node becomes the owner.
    MoveOwner,
    /// SIGTERM to the owner: it hands over in good order.
    TermOwner,
    /// SIGSTOP of the owner for longer than the lease, then SIGCONT.
    StopOwner,
    /// SIGSTOP of the node that is not the owner, then SIGCONT.
    StopOther,
    /// The link between the nodes goes down; both reach the arbiter and the hosts.
    LinkDown,
    /// All links of the owner go down.
    NodeCutOwner,
    /// All links of the other node go down.
    NodeCutOther,
    /// What the other node sends no longer reaches the owner.
    DeafOwner,
    /// What the owner sends no longer reaches the other node.
    DeafOther,
    /// Writes to the owner's disk fail.
    DiskOwner,
    /// Writes to the other node's disk fail.
    DiskOther,
    /// Both pools are full, and the node that is not the owner is killed.
    FullPool,
}

/// What the pause has to keep to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Goal {
    /// Half of the pauses.
    pub p50: Option<Duration>,
    /// 99 of 100.
    pub p99: Duration,
}

impl Kind {
    /// All of them, in the order in which a campaign runs them.
    pub const ALL: [Self; 16] = [
        Self::Kill9Owner,
        Self::Kill9OwnerBehind,
        Self::Kill9Other,
        Self::Kill9OwnerAndArbiter,
        Self::MoveOwner,
        Self::TermOwner,
        Self::StopOwner,
        Self::StopOther,
        Self::LinkDown,
        Self::NodeCutOwner,
        Self::NodeCutOther,
        Self::DeafOwner,
        Self::DeafOther,
        Self::DiskOwner,
        Self::DiskOther,
        Self::FullPool,
    ];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill9Owner => "kill9-owner",
            Self::Kill9OwnerBehind => "kill9-owner-behind",
            Self::Kill9Other => "kill9-other",
            Self::Kill9OwnerAndArbiter => "kill9-owner-and-arbiter",
            Self::MoveOwner => "move-owner",
            Self::TermOwner => "term-owner",
            Self::StopOwner => "stop-owner",
            Self::StopOther => "stop-other",
            Self::LinkDown => "link-down",
            Self::NodeCutOwner => "node-cut-owner",
            Self::NodeCutOther => "node-cut-other",
            Self::DeafOwner => "deaf-owner",
            Self::DeafOther => "deaf-other",
            Self::DiskOwner => "disk-owner",
            Self::DiskOther => "disk-other",
            Self::FullPool => "full-pool",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the nodes need networks of their own, and so root.
    pub fn needs_net(self) -> bool {
        matches!(self, Self::LinkDown | Self::NodeCutOwner | Self::NodeCutOther | Self::DeafOwner | Self::DeafOther)
    }

    /// Whether the host is connected to the owner when it happens. Where the owner falls silent it is not: then the
    /// host's own time-out would be measured.
    pub fn is_host_at_owner(self) -> bool {
        !matches!(self, Self::Kill9OwnerBehind | Self::StopOwner | Self::NodeCutOwner)
    }

    /// What the pause has to keep to, where something was promised.
    pub fn goal(self) -> Option<Goal> {
        let goal =
            |p50: Option<u64>, p99| Some(Goal { p50: p50.map(Duration::from_millis), p99: Duration::from_millis(p99) });
        match self {
            Self::Kill9Owner => goal(Some(1000), 2000),
            Self::Kill9Other => goal(None, 200),
            Self::Kill9OwnerAndArbiter => goal(None, 4000),
            Self::StopOther => goal(None, 1500),
            Self::MoveOwner => goal(None, 50),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn every_kind_is_found_by_its_name() {
        assert!(Kind::ALL.iter().all(|kind| Kind::named(kind.name()) == Some(*kind)));
    }
}
