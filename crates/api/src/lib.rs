//! The node's REST interface: what an administrator can see and change.
//!
//! ```text
//!  dyad CLI ──HTTP──▶ Server ──▶ guard ──▶ router ──▶ trait Control ──▶ the node (bound by the binary)
//!                     bounds     token     handlers
//!                                            └─ OpenAPI 3.1, generated from the same handlers and types
//! ```
//!
//! This crate knows nothing of how a node works: it checks what comes in, asks a [`Control`], and answers with
//! plain data ([`model`]) or a [`Problem`] (RFC 9457) that says what failed and what to do.

mod check;
mod control;
mod extract;
mod guard;
pub mod model;
mod openapi;
mod problem;
mod router;
mod routes;
mod server;

pub use control::{Control, ControlError, Kind};
pub use guard::{Guard, ParseTokenHashError, TokenHash};
pub use openapi::openapi_json;
pub use problem::{PROBLEM_JSON, Problem};
pub use router::{BODY_BYTES_MAX, Desk};
pub use server::{CONNECTIONS_MAX, Listener, Server};
