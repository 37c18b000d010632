//! Faults of real processes, links and disks under a host that remembers what was acknowledged (issue: nothing is lost,
//! stale or torn, both images are equal after every round).
//!
//! ```text
//!  one round:  host writes, witnesses log in at both nodes ─▶ fault ─▶ one image is taken out, the host goes on
//!   ─▶ witnesses: a new value is written where it is served, then asked for, and another one written, on the sessions
//!      of before (fencing: M5, M19) ─▶ heal ─▶ both images in sync ─▶ all read from one image, then from the other
//! ```
//!
//! The pause is the longest time between two acknowledged writes around the fault, as the host sees it: detection,
//! change of the record, and its own new login where it needs one.

mod fault;
mod kind;
mod stage;
mod table;
mod witness;

pub use kind::{Goal, Kind};
pub use stage::{Round, Stage};
pub use table::{Line, table};
