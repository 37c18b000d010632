//! iSCSI sessions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Activity;

/// A host logged in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Number of the session at its node, not reused while the process there lives.
    pub id: u64,
    /// Name of the node that it is at.
    pub node: String,
    /// The volume's name; none for a discovery session.
    pub volume: Option<String>,
    /// iSCSI name of the target; none for a discovery session.
    pub target: Option<String>,
    /// iSCSI name of the host's initiator.
    pub initiator: String,
    /// The host's `address:port`.
    pub host: String,
    /// The portal that it came to.
    pub portal: String,
    /// Seconds since it logged in.
    pub age_seconds: u64,
    /// Commands in flight.
    pub in_flight: u32,
    /// What it did since it logged in.
    pub activity: Activity,
}
