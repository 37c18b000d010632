//! What a connection tells the node, and what the node answers.

use core::net::SocketAddr;

use dyad_payload::Payload;
use dyad_units::Period;

/// Something the node must know or decide. Taken with [`Connection::poll_event`](crate::Connection::poll_event).
#[derive(Debug)]
pub enum Event {
    /// An initiator asks in. Answer at once with `admit` or `refuse`: whether the target exists and how the
    /// initiator proves who it is. It has proved nothing yet.
    Login(Box<LoginRequest>),
    /// The initiator proved what it had to, and the parameters are agreed. End an older session with the same key
    /// (its tasks included: they took effect or never will, M19), then answer with `start` or `refuse`. Nothing of
    /// this session is executed before.
    SessionReady(Box<SessionKey>),
    /// SendTargets: answer at once with `discovered`.
    Discover(DiscoveryScope),
    /// A SCSI command. Answer with `solicit` (then [`Event::DataOut`] follows) or `respond`.
    Command(Command),
    /// The data that `solicit` asked for: as much of it as the host's expected length allows.
    DataOut {
        /// Whose.
        task: TaskTag,
        /// In order, as slices of the receive buffers.
        data: Payload,
    },
    /// The data of a command did not come as it must (a digest, a gap, an amount). The host gets its answer from the
    /// connection; the node forgets the task, which it had not begun: no answer is expected.
    DataOutFailed {
        /// Which.
        task: TaskTag,
    },
    /// A task management function: abort what it names (`abort_task` for each task of this connection), and answer
    /// with `management_done` when those commands have taken effect or never will (M19).
    Management(Management),
    /// The host logs out. End its tasks as for an abort, then call `logout_done`. No command follows.
    Logout,
    /// The connection is over: send what is still to be sent, close the socket, end the tasks. The last event.
    Closed(CloseReason),
}

/// What the first login request says. Text is already checked for form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoginRequest {
    /// The initiator's iSCSI name. Claimed, not proved.
    pub initiator: String,
    /// The initiator's alias, if it sent one.
    pub initiator_alias: Option<String>,
    /// What it wants.
    pub kind: SessionKind,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
}

/// Normal with a target, or discovery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionKind {
    /// SendTargets only.
    Discovery,
    /// SCSI commands to this target.
    Normal {
        /// The target's iSCSI name.
        target: String,
    },
}

/// What makes a session one: a second login with an equal key replaces the first session (RFC 7143 §6.3.5).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionKey {
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// The target's iSCSI name; `None` for discovery.
    pub target: Option<String>,
    /// Target portal group.
    pub portal_group: u16,
}

/// The initiator may go on with its login.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Target portal group tag of the portal it came to.
    pub portal_group: u16,
    /// TargetAlias to show, if any (at most 255 bytes; cut otherwise).
    pub alias: Option<String>,
    /// How it has to prove who it is.
    pub auth: Auth,
}

/// Proof of identity that a login needs.
#[derive(Clone, Debug)]
pub enum Auth {
    /// None.
    None,
    /// CHAP (RFC 1994, RFC 7143 §12.1.3).
    Chap(Box<ChapAuth>),
}

/// What CHAP needs of the node.
#[derive(Clone, Debug)]
pub struct ChapAuth {
    /// Name and secret that the initiator must have.
    pub initiator: ChapSecret,
    /// Name and secret by which we prove ourselves if the initiator asks. Its secret must differ from the other.
    pub target: Option<ChapSecret>,
    /// Fresh random bytes: one becomes the identifier, the others the challenge.
    pub random: [u8; 17],
}

/// A CHAP name with its secret. Shows only the name.
#[derive(Clone, Eq, PartialEq)]
pub struct ChapSecret {
    /// CHAP_N.
    pub name: String,
    /// The secret; 12 to 255 bytes are sensible.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for ChapSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChapSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a login may not go on: status class and detail of RFC 7143 §11.13.5.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoginRefusal {
    /// 0101: come to this address for now.
    MovedTemporarily(PortalAddress),
    /// 0102: come to this address from now on.
    MovedPermanently(PortalAddress),
    /// 0200: the request makes no sense.
    InitiatorError,
    /// 0201: no or wrong proof.
    AuthenticationFailed,
    /// 0202: proved, but not allowed to use this target.
    NotAllowed,
    /// 0203: no such target here.
    TargetNotFound,
    /// 0204: the target is gone for good.
    TargetRemoved,
    /// 0205: no common protocol version.
    UnsupportedVersion,
    /// 0206: the target takes no more connections.
    TooManyConnections,
    /// 0207: a key that must be there is missing.
    MissingParameter,
    /// 0208: the target cannot include this connection in the session.
    CannotIncludeInSession,
    /// 0209: discovery or normal, whichever was asked, is not offered here.
    SessionTypeNotSupported,
    /// 020A: there is no session with the TSIH of the request.
    SessionDoesNotExist,
    /// 020B: the kind of request is not allowed in this phase.
    InvalidRequest,
    /// 0300: the target failed.
    TargetError,
    /// 0301: the target cannot serve now; come back.
    ServiceUnavailable,
    /// 0302: out of sessions, connections or memory; come back.
    OutOfResources,
}

/// An address as TargetAddress shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortalAddress {
    /// Where.
    pub socket: SocketAddr,
}

/// What SendTargets asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DiscoveryScope {
    /// All targets this initiator may see (discovery sessions only).
    All,
    /// This target.
    Target(String),
}

/// One target and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiscoveredTarget {
    /// iSCSI name.
    pub name: String,
    /// Portals with their groups.
    pub portals: Vec<(PortalAddress, u16)>,
}

/// Names a task of a connection until it is answered or aborted; a later task gets another tag.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TaskTag {
    pub(crate) slot: u16,
    pub(crate) serial: u32,
}

impl TaskTag {
    /// A small number, unique among the tasks in flight of the connection: less than its queue depth + 16.
    pub fn slot(self) -> usize {
        usize::from(self.slot)
    }

    /// Tells tasks apart that used the same slot one after the other.
    pub fn serial(self) -> u32 {
        self.serial
    }
}

/// RFC 7143 §11.3.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskAttribute {
    /// 0: untagged, treated as simple.
    Untagged,
    /// 1.
    Simple,
    /// 2.
    Ordered,
    /// 3.
    HeadOfQueue,
    /// 4.
    Aca,
}

/// A SCSI command as the transport saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Command {
    /// Names it from now on.
    pub task: TaskTag,
    /// Eight bytes of SAM-5 §4.7, big endian.
    pub lun: u64,
    /// The CDB; shorter ones are padded by the host.
    pub cdb: [u8; 16],
    /// Ordering attribute.
    pub attribute: TaskAttribute,
    /// Expected data transfer length; 0 where neither `read` nor `write`.
    pub expected_len: u32,
    /// The host has a buffer for data-in.
    pub read: bool,
    /// The host has data-out.
    pub write: bool,
    /// Sent for immediate delivery.
    pub immediate: bool,
}

/// Names a task management request of a connection until it is answered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ManagementTag {
    pub(crate) slot: u8,
    pub(crate) serial: u32,
}

/// A task management request that the node must carry out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Management {
    /// Names it until `management_done`.
    pub tag: ManagementTag,
    /// What to do.
    pub function: ManagementFunction,
    /// On which unit; 0 for target resets.
    pub lun: u64,
}

/// RFC 7143 §11.5.1. TASK REASSIGN and CLEAR ACA are refused by the connection itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManagementFunction {
    /// Abort this one task, which is in flight on this connection.
    AbortTask(TaskTag),
    /// Abort all tasks of this session on the unit.
    AbortTaskSet,
    /// Abort all tasks on the unit, whoever sent them.
    ClearTaskSet,
    /// Reset the unit.
    LogicalUnitReset,
    /// Reset all units of the target.
    TargetWarmReset,
    /// As warm; afterwards the connection closes itself. The node closes the target's other sessions.
    TargetColdReset,
}

/// RFC 7143 §11.6.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManagementOutcome {
    /// 0.
    Complete,
    /// 1: no such task, or it was answered meanwhile.
    TaskDoesNotExist,
    /// 2.
    LunDoesNotExist,
    /// 5.
    NotSupported,
    /// 255.
    Rejected,
}

/// RFC 7143 §11.9.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AsyncEvent {
    /// 1: the target asks the host to log out within this time (and to come back through discovery or its known
    /// portal). The connection drops after its own logout timeout.
    LogoutRequested(Period),
    /// 3: all connections of the session are about to be dropped; reconnect after `wait`, tasks are kept for
    /// `retain` (0 at ErrorRecoveryLevel 0). Whole seconds.
    SessionDropped {
        /// Time2Wait.
        wait: Period,
        /// Time2Retain.
        retain: Period,
    },
    /// 4: the target asks for a negotiation of parameters.
    NegotiationRequested(Period),
}

/// Why a connection is over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The host logged out.
    #[error("the host logged out")]
    LoggedOut,
    /// The login was refused; the response says why.
    #[error("the login was refused: {0:?}")]
    LoginRefused(LoginRefusal),
    /// The host broke the protocol in a way that ErrorRecoveryLevel 0 cannot mend.
    #[error("the host broke the protocol: {0}")]
    Protocol(&'static str),
    /// A digest did not match, and the PDU cannot be asked for again at ErrorRecoveryLevel 0.
    #[error("a digest of a PDU from the host does not match: {0}")]
    Digest(&'static str),
    /// Login took too long.
    #[error("the login was not finished in time")]
    LoginTimeout,
    /// The host sent nothing, not even an answer to a ping.
    #[error("the host is silent and did not answer a ping")]
    Silent,
    /// The host does not read what is sent to it.
    #[error("the host does not take what is sent to it")]
    NotReading,
    /// The host stopped within a PDU or did not send the data it was asked for.
    #[error("the host stopped in the middle of its data")]
    Stalled,
    /// The host was asked to log out and did not.
    #[error("the host did not log out when asked")]
    LogoutTimeout,
    /// A cold reset of the target.
    #[error("the target was reset")]
    TargetReset,
    /// The node said so: the session was replaced, the target removed, the node stops.
    #[error("{0}")]
    Node(&'static str),
}
