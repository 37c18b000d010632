//! How a machine becomes a node of the cluster: a token of one use, made by a node that has the authority's private key,
//! and a short talk at that node's port for peers.
//!
//! ```text
//!  new machine                                     node with the authority's key
//!   TLS, the node's authority known by fingerprint ─────▶ (no certificate is asked for here)
//!   Ask: the token's secret, name, public key ──────────▶ secret good, not used, not too old; name free
//!   ◀──────────────────── Answer: certificate, authority, config store
//! ```
//!
//! Nothing of the cluster's data is reachable on such a connection, and it never becomes one of a node's.

mod guest;
mod host;
mod talk;
mod token;

pub use guest::{Admitted, JoinError, join};
pub use host::TokenError;
pub(crate) use host::{JoinRefused, Reception};
pub use talk::{Password, StoreWay};
pub use token::{ParseTokenError, Token};

/// First bytes of a connection of a machine that wants to join.
pub(crate) const MAGIC: [u8; 8] = *b"Joindyad";
