//! What an initiator asks for at login.

use std::net::SocketAddr;
use std::time::Duration;

/// Name and secret of one side of CHAP. Its `Debug` hides the secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// CHAP_N.
    pub user: String,
    /// The shared secret.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Which CRC32C digests to insist on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Digests {
    /// Over headers.
    pub header: bool,
    /// Over data segments.
    pub data: bool,
}

/// One login.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the target listens.
    pub portal: SocketAddr,
    /// InitiatorName.
    pub initiator: String,
    /// TargetName; `None` for a discovery session.
    pub target: Option<String>,
    /// Number of the logical unit that commands go to, below 256.
    pub lun: u8,
    /// Who we are, for a target that wants to know (one-way CHAP).
    pub chap: Option<Credentials>,
    /// CHAP_A: numbers of the hashes, the preferred one first.
    pub chap_algorithms: String,
    /// Who the target must prove to be (mutual CHAP).
    pub mutual: Option<Credentials>,
    /// Digests to insist on.
    pub digests: Digests,
    /// Offer of ImmediateData.
    pub immediate_data: bool,
    /// Offer of InitialR2T; `false` asks for unsolicited data.
    pub initial_r2t: bool,
    /// Our MaxRecvDataSegmentLength.
    pub max_recv: u32,
    /// Offer of FirstBurstLength.
    pub first_burst: u32,
    /// Offer of MaxBurstLength.
    pub max_burst: u32,
    /// Offer of MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// Distinguishes sessions of one initiator; the last four bytes of the ISID.
    pub session: u32,
    /// How long to wait for the target at any point.
    pub patience: Duration,
}

impl Options {
    /// A normal session with `target` at `portal`, with the values that the Linux initiator offers.
    pub fn new(portal: SocketAddr, target: &str) -> Self {
        Self { target: Some(target.to_owned()), ..Self::discovery(portal) }
    }

    /// A discovery session.
    pub fn discovery(portal: SocketAddr) -> Self {
        Self {
            portal,
            initiator: "iqn.2026-11.example:bench".to_owned(),
            target: None,
            lun: 0,
            chap: None,
            chap_algorithms: "5".to_owned(),
            mutual: None,
            digests: Digests::default(),
            immediate_data: true,
            initial_r2t: false,
            max_recv: 262_144,
            first_burst: 262_144,
            max_burst: 16_776_192,
            max_outstanding_r2t: 1,
            session: std::process::id(),
            patience: Duration::from_secs(30),
        }
    }
}
