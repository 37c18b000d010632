//! What the nodes' administration says to each other: questions and answers as JSON, on the connection that the parts
//! use too, so that a node needs no other way to another one.
//!
//! ```text
//!  NodeHandle ─Ask─▶ reactor ═══ peer connection ═══▶ reactor ─Caller─▶ desk ─▶ NodeHandle of the other node
//!             ◀─Told──────────── ═══════════════════ ◀──────────────────┘
//! ```
//!
//! JSON, because the nodes of a cluster are not updated at the same moment: what one does not know it leaves out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dyad_mirror::Command;
use dyad_units::{ImageId, NodeId, PoolId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::control::{LossInfo, NodeStatus};
use crate::reactor::{Mailbox, Message};
use crate::{NodeHandle, control};

/// How long another node may take to describe itself: it does so within milliseconds, and whoever looks at a screen does
/// not wait for one that hangs.
pub(crate) const STATUS_MAX: Duration = Duration::from_secs(1);
/// How long an order may take: longer than a part gives an administrator's command (30 s).
pub(crate) const ORDER_MAX: Duration = Duration::from_secs(35);
/// Questions of other nodes that may wait to be begun.
pub(crate) const CALLERS_MAX: usize = 16;
/// Questions of other nodes under way at a time; more are told to come again.
const WORKERS_MAX: usize = 8;
/// An answer is put together and encoded, no deeper.
const STACK_BYTES: usize = 512 * 1024;

/// What one node asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// How it is.
    Status,
    /// Something of its part in a volume.
    Order { volume: VolumeId, order: Order },
    /// Export a detached image of its own, or end that.
    Export { volume: VolumeId, image: ImageId, is_wanted: bool },
    /// Close a session of a host.
    CloseSession { id: u64 },
    /// Which blocks of a volume were ever written, as its owner knows it; a host of the asking node wants to know.
    Look { volume: VolumeId, look: Look },
    /// A test has the answer fail, or be so long.
    #[cfg(test)]
    Break { bytes: Option<usize> },
}

/// Part of a volume, and the SCSI state that the host's command was checked against (M20).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Look {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) epoch: u32,
    pub(crate) changes: u64,
}

/// An administrator's command to a part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    HandOver { to: NodeId },
    TakeOut { image: ImageId },
    Resync { image: ImageId },
    Detach { image: ImageId },
    Reattach { image: ImageId },
    Add { image: ImageId, node: NodeId, pool: PoolId, replaces: Option<ImageId> },
    Remove { image: ImageId },
    Drop { image: ImageId },
    Promote { image: ImageId },
    ForecastLoss { image: ImageId },
    ListLoss { image: ImageId },
    ForgetReservations { is_forced: bool },
}

impl Order {
    /// Whether it ends in a change of the segment's record.
    pub(crate) const fn changes_record(self) -> bool {
        !matches!(self, Self::ForecastLoss { .. } | Self::ListLoss { .. } | Self::ForgetReservations { .. })
    }

    /// What the part is asked; none: it is the unit that has to do it.
    pub(crate) const fn command(self) -> Option<Command> {
        Some(match self {
            Self::HandOver { to } => Command::HandOver { to },
            Self::TakeOut { image } => Command::TakeOut { image },
            Self::Resync { image } => Command::Resync { image },
            Self::Detach { image } => Command::Detach { image },
            Self::Reattach { image } => Command::Reattach { image },
            Self::Add { image, node, pool, replaces } => Command::Add { image, node, pool, replaces },
            Self::Remove { image } => Command::Remove { image },
            Self::Drop { image } => Command::Drop { image },
            Self::Promote { image } => Command::Promote { image },
            Self::ForecastLoss { image } => Command::ForecastLoss { image },
            Self::ListLoss { image } => Command::ListLoss { image },
            Self::ForgetReservations { .. } => return None,
        })
    }
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Status(Box<NodeStatus>),
    Done,
    Loss(Box<LossInfo>),
    /// Blocks of 4 KiB that are alike, and whether they were never written.
    Looked(Vec<(u32, bool)>),
    Refused(Refused),
    /// It does not know the question: it runs an older program.
    Unknown,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Half a sentence.
    pub(crate) why: String,
    /// Who owns the volume, where somebody else does.
    pub(crate) owner: Option<NodeId>,
    /// It may work in a moment.
    pub(crate) is_passing: bool,
    /// What to do, where there is something special.
    #[serde(default)]
    pub(crate) advice: Option<String>,
}

/// Where the answer of another node goes.
pub(crate) struct AnswerTo {
    answer: SyncSender<Vec<u8>>,
    waits: Weak<()>,
}

impl AnswerTo {
    /// Whether somebody waits for it still.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waits.strong_count() > 0
    }

    /// Hands it over, if so.
    pub(crate) fn give(self, body: Vec<u8>) {
        let _ = self.answer.try_send(body);
    }
}

/// Where the answer of another node comes. Whoever drops it waits no more.
pub(crate) struct AnswerOf {
    answer: Receiver<Vec<u8>>,
    _waits: Arc<()>,
}

impl AnswerOf {
    /// Waits for it so long; there is none if the connection broke.
    pub(crate) fn wait(&self, patience: Duration) -> Result<Vec<u8>, RecvTimeoutError> {
        self.answer.recv_timeout(patience)
    }
}

/// Both ends of an answer.
pub(crate) fn answer_channel() -> (AnswerTo, AnswerOf) {
    let (to, of) = sync_channel(1);
    let waits = Arc::new(());
    (AnswerTo { answer: to, waits: Arc::downgrade(&waits) }, AnswerOf { answer: of, _waits: waits })
}

/// A question of another node.
pub(crate) struct Caller {
    pub(crate) node: NodeId,
    pub(crate) id: u64,
    pub(crate) body: Vec<u8>,
}

/// Plain data always becomes JSON.
pub(crate) fn encode(what: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(what).unwrap_or_default()
}

/// Why a node does not answer what it was asked; it may in a moment.
pub(crate) fn refusal(why: &str) -> Told {
    Told::Refused(Refused { why: why.to_owned(), owner: None, is_passing: true, advice: None })
}

/// Answers other nodes until the reactor ends. Each question has a thread of its own, for an order may take its time.
pub(crate) fn run(handle: &NodeHandle, callers: &Receiver<Caller>) {
    let busy = Arc::new(AtomicUsize::new(0));
    for Caller { node, id, body } in callers {
        let is_full = busy.fetch_add(1, Ordering::AcqRel) >= WORKERS_MAX;
        let call = Call { mailbox: handle.mailbox.clone(), busy: busy.clone(), node, id, told: None };
        if is_full {
            call.answer(&refusal("too many questions of other nodes are waiting"));
            continue;
        }
        let handle = handle.clone();
        let thread = std::thread::Builder::new().name("desk".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || call.answer(&answer(&handle, &body)));
        if let Err(error) = spawned {
            tracing::warn!(%error, "another node's question is not answered");
        }
    }
}

/// A question that is answered here, however that ends: whoever asked keeps a place for the answer until it comes or the
/// connection breaks, and has few of them.
struct Call {
    mailbox: Arc<Mailbox>,
    busy: Arc<AtomicUsize>,
    node: NodeId,
    id: u64,
    /// None: there is no thread for it, or the one there was had a fault of ours.
    told: Option<Vec<u8>>,
}

impl Call {
    fn answer(mut self, told: &Told) {
        self.told = Some(encode(told));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        let told = self.told.take();
        let body = told.unwrap_or_else(|| encode(&refusal("it had a fault while it answered, or no thread for that")));
        self.mailbox.post(Message::TellNode { node: self.node, id: self.id, body });
    }
}

fn answer(handle: &NodeHandle, body: &[u8]) -> Told {
    let refuse = |error: control::QueryError| refusal(&error.to_string());
    match serde_json::from_slice(body) {
        Ok(Ask::Status) => handle.own_status().map_or_else(refuse, |status| Told::Status(Box::new(status))),
        Ok(Ask::Order { volume, order }) => handle.orders().here(volume, order),
        Ok(Ask::Export { volume, image, is_wanted }) => handle.export_here(volume, image, is_wanted),
        Ok(Ask::CloseSession { id }) => handle.close_session_here(id),
        #[cfg(test)]
        Ok(Ask::Break { bytes }) => refusal(&"x".repeat(bytes.expect("a test broke it"))),
        // The reactor answers looks.
        Ok(Ask::Look { .. }) | Err(_) => Told::Unknown,
    }
}
