//! Making it go wrong, and well again.

use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::kind::Kind;
use crate::cluster::Cluster;
use crate::net::Net;
use crate::process::finish;

/// How long a program that is used here may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Writes to files beyond this fail when a disk is made to fail: most slots of a pool lie beyond, and nothing else.
const FILE_BYTES: u64 = 16 << 20;

impl Kind {
    /// Put before the command that starts a node: a write that is refused for the size of a file is an error then, and
    /// not the end of the process.
    pub(super) fn prefix(self) -> Vec<String> {
        match self {
            Self::DiskOwner | Self::DiskOther => vec!["env".to_owned(), "--ignore-signal=XFSZ".to_owned()],
            _ => Vec::new(),
        }
    }

    /// Whether the node that it hits can serve nobody meanwhile.
    pub(super) fn is_victim_away(self) -> bool {
        !matches!(self, Self::MoveOwner | Self::LinkDown | Self::DeafOwner | Self::DeafOther)
    }

    /// The node that it hits.
    pub(super) fn victim(self, owner: usize) -> usize {
        match self {
            Self::Kill9Owner
            | Self::Kill9OwnerBehind
            | Self::Kill9OwnerAndArbiter
            | Self::MoveOwner
            | Self::TermOwner
            | Self::StopOwner
            | Self::LinkDown
            | Self::NodeCutOwner
            | Self::DeafOwner
            | Self::DiskOwner => owner,
            Self::Kill9Other
            | Self::StopOther
            | Self::NodeCutOther
            | Self::DeafOther
            | Self::DiskOther
            | Self::FullPool => 1 - owner,
        }
    }

    /// It goes wrong.
    pub(super) fn begin(self, cluster: &mut Cluster, owner: usize) -> anyhow::Result<()> {
        let victim = self.victim(owner);
        match self {
            Self::Kill9Owner | Self::Kill9OwnerBehind | Self::Kill9Other | Self::FullPool => {
                cluster.nodes[victim].kill()
            }
            Self::Kill9OwnerAndArbiter => {
                cluster.arbiter.kill()?;
                cluster.nodes[victim].kill()?;
                cluster.arbiter.launch()
            }
            Self::MoveOwner => cluster.move_owner(),
            Self::TermOwner => cluster.nodes[victim].stop(),
            Self::StopOwner | Self::StopOther => signal(cluster, victim, Signal::STOP),
            Self::LinkDown => net(cluster)?.set_peer_link(false),
            Self::NodeCutOwner | Self::NodeCutOther => net(cluster)?.set_node(victim, false),
            Self::DeafOwner | Self::DeafOther => net(cluster)?.deafen(victim),
            Self::DiskOwner | Self::DiskOther => {
                let pid = cluster.nodes[victim].pid()?.to_string();
                let args = ["--pid", &pid, &format!("--fsize={FILE_BYTES}")];
                finish("prlimit", &args, LIMIT)?.expect_success("prlimit").map(drop)
            }
        }
    }

    /// It is well again; the nodes have to do the rest.
    pub(super) fn end(self, cluster: &mut Cluster, owner: usize) -> anyhow::Result<()> {
        let victim = self.victim(owner);
        match self {
            Self::Kill9Owner
            | Self::Kill9OwnerBehind
            | Self::Kill9OwnerAndArbiter
            | Self::Kill9Other
            | Self::TermOwner
            | Self::FullPool => cluster.nodes[victim].start(),
            Self::MoveOwner => Ok(()),
            Self::StopOwner | Self::StopOther => signal(cluster, victim, Signal::CONT),
            Self::LinkDown => net(cluster)?.set_peer_link(true),
            Self::NodeCutOwner | Self::NodeCutOther => net(cluster)?.set_node(victim, true),
            Self::DeafOwner | Self::DeafOther => net(cluster)?.hear(victim),
            Self::DiskOwner | Self::DiskOther => {
                // A pool whose disk failed is out of use until the node is restarted with a disk that works (P11).
                cluster.nodes[victim].kill()?;
                cluster.nodes[victim].start()
            }
        }
    }
}

fn net(cluster: &Cluster) -> anyhow::Result<&Net> {
    cluster.net.as_ref().context("the nodes have no networks of their own")
}

fn signal(cluster: &Cluster, node: usize, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(cluster.process_id(node)?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}
