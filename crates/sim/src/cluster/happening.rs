//! What can happen next in a run.

use dyad_cluster::{Outcome, SegmentRecord};
use dyad_contract::volume::{VolumeOp, VolumeResult};
use dyad_mirror::{Beat, BeatAnswer};
use dyad_units::Epoch;

use super::net::NetEvent;
use crate::disk::Answer;

/// Number of a host's session, unique in the run.
pub type SessionNo = u32;

/// What a host sends to a node.
#[derive(Debug)]
pub enum ToNode {
    /// A new session, in the place of the host's older one on this node.
    Login,
    /// A command.
    Command {
        /// Its number at the host.
        op: u64,
        /// Which try.
        attempt: u32,
        /// What it wants.
        command: VolumeOp,
    },
    /// ABORT TASK.
    Abort {
        /// Its number at the host.
        op: u64,
        /// Which try: the next one may overtake this on its way.
        attempt: u32,
    },
}

/// What a node sends to a host.
#[derive(Debug)]
pub enum ToHost {
    /// The session is open; whatever the older one asked is over (M19).
    LoggedIn,
    /// The session is over.
    Closed,
    /// A command was answered.
    Answer {
        /// Its number at the host.
        op: u64,
        /// Which try.
        attempt: u32,
        /// How it ended.
        result: VolumeResult,
    },
}

/// What is asked of the config store.
#[derive(Debug)]
pub enum StoreQuestion {
    /// A compare-and-set.
    Propose(Box<SegmentRecord>, Epoch),
    /// A linearizable read.
    Read,
}

/// What it answered, or that it did not in time.
#[derive(Debug)]
pub enum StoreAnswer {
    /// To a proposal.
    Outcome(Outcome),
    /// To a read.
    Record(Option<Box<SegmentRecord>>),
    /// To either: nobody knows.
    Silence,
}

/// What a beat connection carries.
#[derive(Debug)]
pub enum BeatMessage {
    /// A beat.
    Beat(Beat),
    /// Its answer.
    Answer(BeatAnswer),
}

/// Something that happens to one process, and waits while that is stopped.
#[derive(Debug)]
pub enum Local {
    /// The disk may get one step further.
    Disk,
    /// The disk answered while the process was stopped.
    DiskAnswer(Box<Answer>),
    /// A part wanted to be called at this time.
    Tick,
    /// The thread that beats wakes up.
    Beat,
    /// What a reactor does every 100 ms.
    Housekeeping,
    /// The process has read the records and may begin.
    Records(Vec<Option<Box<SegmentRecord>>>),
    /// Something on a beat connection.
    Beats {
        /// From which node.
        from: usize,
        /// Its life when it sent this.
        life: u32,
        /// What.
        message: Box<BeatMessage>,
    },
    /// The store answered.
    Store {
        /// Of which segment.
        segment: usize,
        /// Which question.
        question: u64,
        /// What it answered.
        answer: StoreAnswer,
    },
    /// The store's watch tells of a record.
    Watched {
        /// Of which segment.
        segment: usize,
        /// The record.
        record: Box<SegmentRecord>,
    },
    /// Something of a host.
    Host {
        /// Which host.
        host: usize,
        /// On which session.
        session: SessionNo,
        /// What.
        message: ToNode,
    },
    /// A host is gone: its connection was reset.
    HostGone {
        /// Of which session.
        session: SessionNo,
    },
    /// Something of the net that concerns this process.
    Net(NetEvent),
}

/// Anything that happens.
#[derive(Debug)]
pub enum Happening {
    /// To a process.
    Node {
        /// Which machine.
        node: usize,
        /// Which life of it.
        life: u32,
        /// What.
        what: Local,
    },
    /// On the net, whatever becomes of processes.
    Net(NetEvent),
    /// A question reaches the store.
    Asked {
        /// Who asks.
        node: usize,
        /// Which life of it.
        life: u32,
        /// Of which segment.
        segment: usize,
        /// Its number.
        question: u64,
        /// What.
        what: StoreQuestion,
    },
    /// A machine's process is started, unless one runs.
    Boot(usize),
    /// A process asks the store for all records, until it gets them.
    FirstRead {
        /// Which machine.
        node: usize,
        /// Which life of it.
        life: u32,
    },
    /// A host looks what it has to do.
    HostWakes(usize),
    /// Something reaches a host.
    ToHost {
        /// Which.
        host: usize,
        /// From which node.
        node: usize,
        /// On which session.
        session: SessionNo,
        /// What.
        message: ToHost,
    },
    /// A fault strikes, or looks whether it may.
    Fault {
        /// Its number in the plan.
        fault: usize,
        /// When it stops waiting.
        until: u64,
    },
    /// What a fault did is over.
    Mended(super::faults::Mend),
}
