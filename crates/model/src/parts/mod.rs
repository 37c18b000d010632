//! Whole parts of one segment: what was acknowledged is on every image in sync, and what is read is what was written last
//! (A1, A3, M1 to M17).
//!
//! ```text
//!  host ──op──▶ Part (real) ──PeerMessage──▶ Part (real)     each: Leases (real), one image in memory
//!                 │    └──propose──▶ store ◀── propose ──┘
//!                 └──request──▶ image
//! ```
//!
//! Connections are streams of messages, each delivered at any later time; what is proposed to the store may be answered,
//! stored without an answer, or come late; processes end and start, connections break, nodes stand still. What takes no
//! decision happens at once, so that there is no interleaving of it: an image in memory replies, a read of the store
//! answers, beats of connected nodes that run are exchanged at every step of time (`leases` takes those apart). Time goes
//! on without an end, in steps of half a lease; times for which nobody waits in so small a case (intervals, slow images)
//! are endless.

mod action;
mod case;
mod deliver;
mod history;
mod image;
mod node;
mod rules;
mod world;

pub(crate) use case::{Case, Fault, Script};
pub(crate) use history::HostOp;
pub(crate) use rules::Reached;
