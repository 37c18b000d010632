//! iSCSI sessions.

use dyad_units::VolumeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Activity;

/// A host logged in to a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Number of the session on this node, not reused while the process lives.
    pub id: u64,
    /// The volume's name.
    pub volume: String,
    /// The volume's identity.
    #[schema(value_type = String, format = "uuid")]
    pub volume_id: VolumeId,
    /// iSCSI name of the host's initiator.
    pub initiator: String,
    /// The host's `address:port`.
    pub host: String,
    /// The portal that it came to.
    pub portal: String,
    /// Seconds since it logged in.
    pub age_seconds: u64,
    /// Whether headers carry a CRC32C digest.
    pub header_digest: bool,
    /// Whether data carries a CRC32C digest.
    pub data_digest: bool,
    /// Commands in flight.
    pub in_flight: u32,
    /// What it did since it logged in.
    pub activity: Activity,
}
