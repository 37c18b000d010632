//! The first words of a connection: who is there, in which life, which version of the protocol both speak.
//!
//! ```text
//!  dialing side                          accepting side
//!   Local::hello ──── Hello ───────────▶ Local::answer
//!   Local::check ◀─── Welcome (version) ─┘ or Refusal (reason, versions, a sentence), then it closes
//! ```
//!
//! These frames have version 0 in their header. Their fields never move; newer software adds fields behind them, which
//! older software does not look at.

mod bytes;
mod judge;

use std::fmt;

use dyad_cluster::{Incarnation, Name};
use dyad_units::{ClusterId, NodeId, Period, StoreId};

pub(crate) use bytes::{decode_bye, decode_hello, decode_refusal, decode_welcome};
pub use judge::{Local, WelcomeError};

/// From the connection to the end of the greeting, for both sides: then the connection is closed. Longer than any
/// handshake of TLS takes on a busy node, shorter than anybody watches.
pub const GREETING_WITHIN: Period = Period::from_secs(5);

/// Longest sentence in a refusal or a bye, in bytes.
pub const TEXT_BYTES_MAX: usize = 400;

/// Versions of the protocol that a node speaks, all between these two included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// The oldest, at least 1.
    pub oldest: u16,
    /// The newest, at most 255.
    pub newest: u16,
}

/// What this software speaks.
pub const VERSIONS: Versions = Versions { oldest: 5, newest: 5 };

impl Versions {
    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest) && newest > 0 && newest <= u16::from(u8::MAX)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.oldest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConnectionKind {
    /// Beats and their answers, on a thread of its own on both sides, so that load never delays them (M5).
    Beats,
    /// Messages of segments, between a reactor of each side.
    Segments {
        /// Reactor of the dialing side.
        from: u16,
        /// Reactor of the accepting side.
        to: u16,
    },
}

/// The dialing side's first word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Which versions it speaks.
    pub versions: Versions,
    /// Of which cluster it is.
    pub cluster: ClusterId,
    /// Who it is.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// Which life of it (M11).
    pub incarnation: Incarnation,
    /// The config store that it uses (design section 8).
    pub store: StoreId,
    /// How many reactors it has.
    pub reactors: u16,
    /// Whom it looks for.
    pub to: NodeId,
    /// What the connection is for.
    pub kind: ConnectionKind,
}

/// The accepting side's consent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The version of everything that follows.
    pub version: u16,
    /// Of which cluster it is.
    pub cluster: ClusterId,
    /// Who it is.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// Which life of it (M11).
    pub incarnation: Incarnation,
    /// The config store that it uses.
    pub store: StoreId,
    /// How many reactors it has.
    pub reactors: u16,
}

macro_rules! reasons {
    ($(#[$enum_doc:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A reason of newer software; the sentence says it.
            Other(u8),
        }

        impl $name {
            /// Its number on the wire.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            pub(crate) const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

reasons! {
    /// Why a node does not accept a connection.
    RefusalReason {
        /// No version is spoken by both.
        Versions = 1,
        /// It is of another cluster.
        OtherCluster = 2,
        /// It is not the node that was looked for.
        OtherNode = 3,
        /// It does not know the node as one of its cluster.
        Unknown = 4,
        /// The certificate names another node.
        Certificate = 5,
        /// It knows of a newer life of the node (M11).
        OlderLife = 6,
        /// It has no such reactor.
        NoSuchReactor = 7,
        /// It stops.
        Stopping = 8,
        /// It has no room for another connection.
        Overloaded = 9,
    }
}

reasons! {
    /// Why a connection is closed.
    ByeReason {
        /// The sender stops.
        Stopping = 1,
        /// The sender cannot follow the stream: damaged, or against the protocol.
        Protocol = 2,
        /// Another connection of the same kind has taken its place.
        Replaced = 3,
        /// The other side did not take what was queued for it.
        Overrun = 4,
        /// Nothing was heard for too long.
        Silence = 5,
        /// The node was removed from the cluster.
        Removed = 6,
    }
}

/// The accepting side's refusal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the node refused the connection: {text}")]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// What it speaks.
    pub versions: Versions,
    /// One sentence for people, at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// Last word before a connection is closed. It may be missing: a node that is killed says nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bye {
    /// Why.
    pub reason: ByeReason,
    /// One sentence for people, at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
}
