//! The target side of iSCSI (RFC 7143, ErrorRecoveryLevel 0). Opens nothing, waits for nothing, reads no clock.
//!
//! ```text
//!   bytes from the socket                                            bytes to the socket
//!      │ receive                                                        ▲ gather, transmitted
//!      ▼                                                                │
//!   +------+  header + data   +-----------------------+   PDUs    +--------+
//!   |  rx  | ───────────────▶ | login → full feature  | ────────▶ |   tx   |
//!   +------+                  +-----------------------+           +--------+
//!                               │ Event          ▲ admit, start, solicit, respond, …
//!                               ▼ poll_event     │
//!                             the node: targets, access, SCSI
//! ```
//!
//! One [`Connection`] is one TCP connection, and one session: MaxConnections is 1. Data segments stay slices of
//! the buffers that were received into; read data goes out as the slices that came from the disk. After login a
//! command allocates nothing.
//!
//! What the node owes a connection:
//! - after each [`Connection::receive`], [`Connection::transmitted`], [`Connection::tick`] and each answer it polls
//!   events until there is none;
//! - it reads from the socket only while [`Connection::wants_input`];
//! - after [`Event::Closed`] it ends the tasks it still has (none of them may take effect later, M19), goes on sending
//!   until [`Connection::is_finished`], and closes the socket.

mod chap;
mod connection;
mod event;
mod login;
mod login_text;
mod negotiate;
pub mod pdu;
mod rx;
mod session;
mod settings;
pub mod share;
mod tasks;
pub mod text;
mod timers;
mod tx;

#[doc(hidden)]
pub use chap::proof_for_initiator;
pub use connection::Connection;
pub use event::{
    Admission, AsyncEvent, Auth, ChapAuth, ChapSecret, CloseReason, Command, DiscoveredTarget, DiscoveryScope, Event,
    LoginRefusal, LoginRequest, Management, ManagementFunction, ManagementOutcome, ManagementTag, PortalAddress,
    SessionKey, SessionKind, TaskAttribute, TaskTag,
};
pub use negotiate::{NegotiationError, Offers, Parameters};
pub use settings::{DigestPolicy, SettingOutOfRange, Settings};
