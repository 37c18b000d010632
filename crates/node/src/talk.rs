//! What the nodes' administration says to each other: questions and answers as JSON, on the connection that the parts
//! use too, so that a node needs no other way to another one.
//!
//! ```text
//!  NodeHandle ─Ask─▶ reactor ═══ peer connection ═══▶ reactor ─Caller─▶ desk ─▶ NodeHandle of the other node
//!             ◀─Told──────────── ═══════════════════ ◀──────────────────┘
//! ```
//!
//! JSON, because the nodes of a cluster are not updated at the same moment: what one does not know it leaves out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use dyad_mirror::Command;
use dyad_units::{ImageId, NodeId, PoolId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::control::{LossInfo, NodeStatus};
use crate::reactor::Message;
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
    /// Which blocks of a volume were ever written, as its owner knows it; a host of the asking node wants to know.
    Look { volume: VolumeId, look: Look },
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
}

impl From<Order> for Command {
    fn from(order: Order) -> Self {
        match order {
            Order::HandOver { to } => Self::HandOver { to },
            Order::TakeOut { image } => Self::TakeOut { image },
            Order::Resync { image } => Self::Resync { image },
            Order::Detach { image } => Self::Detach { image },
            Order::Reattach { image } => Self::Reattach { image },
            Order::Add { image, node, pool, replaces } => Self::Add { image, node, pool, replaces },
            Order::Remove { image } => Self::Remove { image },
            Order::Drop { image } => Self::Drop { image },
            Order::Promote { image } => Self::Promote { image },
            Order::ForecastLoss { image } => Self::ForecastLoss { image },
            Order::ListLoss { image } => Self::ListLoss { image },
        }
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

/// Answers other nodes until the reactor ends. Each question has a thread of its own, for an order may take its time.
pub(crate) fn run(handle: &NodeHandle, callers: &Receiver<Caller>) {
    let busy = Arc::new(AtomicUsize::new(0));
    for Caller { node, id, body } in callers {
        if busy.fetch_add(1, Ordering::AcqRel) >= WORKERS_MAX {
            busy.fetch_sub(1, Ordering::AcqRel);
            let why = "too many questions of other nodes are waiting".to_owned();
            let told = Told::Refused(Refused { why, owner: None, is_passing: true });
            handle.mailbox.post(Message::TellNode { node, id, body: encode(&told) });
            continue;
        }
        let place = Place(busy.clone());
        let handle = handle.clone();
        let thread = std::thread::Builder::new().name("desk".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let _place = place;
            let told = answer(&handle, &body);
            handle.mailbox.post(Message::TellNode { node, id, body: encode(&told) });
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "another node's question is not answered");
        }
    }
}

/// Given back however the answer ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn answer(handle: &NodeHandle, body: &[u8]) -> Told {
    let refuse =
        |error: control::QueryError| Told::Refused(Refused { why: error.to_string(), owner: None, is_passing: true });
    match serde_json::from_slice(body) {
        Ok(Ask::Status) => handle.own_status().map_or_else(refuse, |status| Told::Status(Box::new(status))),
        Ok(Ask::Order { volume, order }) => handle.orders().here(volume, order),
        Ok(Ask::Export { volume, image, is_wanted }) => handle.export_here(volume, image, is_wanted),
        // The reactor answers looks.
        Ok(Ask::Look { .. }) | Err(_) => Told::Unknown,
    }
}
