//! A blocking iSCSI initiator at ErrorRecoveryLevel 0 (RFC 7143): one session, one connection, any queue depth.

pub mod cdb;
pub mod chap;
mod login;
mod options;
pub mod pdu;
mod session;
mod stream;
mod task;
mod text;

pub use cdb::Cdb;
pub use login::{LoginError, Negotiated};
pub use options::{Credentials, Digests, Options};
pub use session::{ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET, Session, SessionError, TmfOutcome};
pub use stream::{Stream, StreamError};
pub use task::{Completion, Transfer};
pub use text::Keys;
