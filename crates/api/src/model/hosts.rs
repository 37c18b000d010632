//! What hosts may do with a volume, and how much.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a host may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Only read: the volume is write protected for it.
    ReadOnly,
}

/// Who may log in to a volume. Secrets are never shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// What every host may do; left out: only the initiators that are listed may log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everybody: Option<Right>,
    /// Initiators that may log in, if not everybody may.
    pub initiators: Vec<Grant>,
    /// User name that hosts must prove by CHAP; none: no proof is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_user: Option<String>,
    /// User name under which the target proves itself to hosts that ask (mutual CHAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual_chap_user: Option<String>,
}

/// One initiator's right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Its iSCSI name.
    pub initiator: String,
    /// What it may do.
    pub right: Right,
}

/// A change of who may use a volume. Hosts that are logged in feel it at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccess {
    /// iSCSI name of the initiator; left out: everybody. The first name that is let in closes the volume to all others.
    #[serde(default)]
    pub initiator: Option<String>,
    /// What it may do from now on; null: it may use the volume no more. It has to be said, so that nobody is shut out by a
    /// field that was forgotten.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub right: Option<Right>,
}

/// How much the hosts of a volume may ask of it, all together, at each node that they use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Commands that read or write, per second; 0: no limit.
    #[serde(default)]
    pub iops: u32,
    /// Bytes read and written per second; 0: no limit.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// For so many seconds an unused share is saved up, to be used at once later.
    #[serde(default)]
    pub burst_seconds: u16,
}
