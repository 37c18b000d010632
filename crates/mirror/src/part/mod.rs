//! One node's part in one segment: the front of its sessions, the owner's side while it is owner, its images' side
//! always, and the decision to take over. Performs no I/O, waits for nothing, reads no clock.
//!
//! ```text
//!  sessions ── Op, Abort ─▶ ┌───────────────────────── Part ─────────────────────────┐
//!                           │ front: mine to order? ── else Forward to the owner     │
//!  peers ── messages ─────▶ │ owner::Mirror, only while owner                        │ ─▶ requests to local pools
//!                           │ image::Image, one per image of this node (M3)          │ ─▶ messages to peers
//!  store ── Outcome, Seen ▶ │ claim: whose turn is it when the owner is silent (M9)? │ ─▶ Propose, Read
//!                           └────────────────────────────────────────────────────────┘
//!                              asks lease::Leases, the node's table, in every call
//! ```
//!
//! Invariants:
//!
//! - as owner it answers only what it may answer: after the promise of this node ran out (M6), after every image of the
//!   set adopted the epoch (M3), and while it holds the leases (M5, in the mirror);
//! - a host's operation is executed by at most one owner, and after its answer by none (M18, M19);
//! - an image obeys one stream at a time, the newest (M3).

mod claim;
mod command;
mod event;
mod front;
mod inbox;
mod links;
mod local;
mod loss;
mod message;
#[expect(clippy::module_inception, reason = "the room is named after the machine in it")]
mod part;
mod peers;
mod reign;
mod returns;
mod route;
mod setup;
mod status;
mod store;

pub use event::{Command, CommandError, PartAction, PartEvent, PartNote};
pub use loss::{LOSS_RANGES_MAX, LossForecast, LossList, LossRanges, LossReport, OtherImage};
pub use message::PeerMessage;
pub use part::Part;
pub use setup::{PartSetup, PartTuning};
pub use status::{PartCounters, PartImage, PartRole, PartStatus};
