//! The node's REST interface: what an administrator can see and change.
//!
//! ```text
//!  dyad CLI ──HTTP──▶ router ──▶ trait Control ──▶ the node (bound by the binary)
//!                       │
//!                       └─ OpenAPI 3.1, generated from the same handlers and types
//! ```
//!
//! This crate knows nothing of how a node works: it checks what comes in, asks a [`Control`], and answers with
//! plain data ([`model`]) or a problem (RFC 9457) that says what failed and what to do.

mod control;
pub mod model;

pub use control::{Control, ControlError, Kind};
