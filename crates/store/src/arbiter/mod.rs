//! The arbiter: a local store served to the nodes of a cluster, the tie-breaker of two.
//!
//! ```text
//!   ArbiterStore ──calls──▶ up to 4 connections: one request, one answer   ┐
//!                ──feed───▶ one connection: changes as they come           ├─▶ ArbiterServer ── LocalStore
//!                              mutual TLS 1.3, frames of postcard          ┘
//! ```
//!
//! A connection starts with a hello that settles the protocol's version and the store's identity, so a call never
//! reaches another store than the one that was agreed upon. A compare-and-set whose answer is lost is *unknown*
//! (M7): it may have happened, or may happen yet.
//!
//! The server keeps no state per client: its queue of changes is the store's own memory of them. It looks into no
//! record, so it serves nodes that are newer than itself.

mod calls;
mod client;
mod follow;
mod hello;
mod link;
mod outcast;
mod protocol;
mod server;
mod session;

pub use client::{ArbiterConfig, ArbiterStore};
pub use server::{ArbiterServer, ServeConfig};

#[doc(hidden)]
pub mod hostile {
    //! The decoders of everything that comes from outside, for tests with arbitrary bytes.

    use super::hello::{Hello, Welcome};
    use super::protocol::{Answer, Request, decode};

    /// Decodes the bytes as every message; true if one of them was understood.
    pub fn decode_all(bytes: &[u8]) -> bool {
        let messages = decode::<Request>(bytes).is_ok() | decode::<Answer>(bytes).is_ok();
        messages | decode::<Hello>(bytes).is_ok() | decode::<Welcome>(bytes).is_ok()
    }
}
