//! Volumes, their images, and whether the data is redundant.

use std::fmt;

use dyad_units::{ImageId, NodeId, PoolId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Access, Activity, Limits, Redundancy};

/// What a host sees as a LUN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Identity; also in the volume's SCSI names.
    #[schema(value_type = String, format = "uuid")]
    pub id: VolumeId,
    /// Name, unique in the cluster.
    pub name: String,
    /// iSCSI target name; the volume is its LUN 0.
    pub target: String,
    /// What it is doing.
    pub state: VolumeState,
    /// Why it does not serve, one sentence without full stop; empty if it serves.
    pub reason: String,
    /// Size as the host sees it, in bytes.
    pub size_bytes: u64,
    /// Logical block as the host sees it: 512 or 4096.
    pub block_bytes: u32,
    /// Write cache on (rule A1): a write is answered when it is in the memory of every in-sync image;
    /// off (A2): when it is durable there.
    pub write_cache: bool,
    /// Fewest in-sync images with which writes are answered (rule A4).
    pub min_in_sync: u32,
    /// Who may log in.
    pub access: Access,
    /// How much its hosts may ask of it.
    #[serde(default)]
    pub limits: Limits,
    /// Name of the node that orders its writes; none before it was first served.
    pub owner: Option<String>,
    /// The node that should be that, if there is a wish.
    pub preferred_owner: Option<PreferredOwner>,
    /// Its copies.
    pub images: Vec<Image>,
    /// Whether the data is redundant, by [`Redundancy::judge`].
    pub redundancy: Redundancy,
    /// Extents still to be compared between the images after a crash; hosts wait for those that they touch.
    pub comparing_extents: u64,
    /// How many hosts are logged in.
    pub sessions: u32,
    /// Commands in flight.
    pub in_flight: u32,
    /// What it did since the node started.
    pub activity: Activity,
}

/// What a volume is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Being created; finished by itself after a crash.
    Creating,
    /// Hosts can read and write.
    Serving,
    /// Hosts get errors.
    Unavailable,
    /// Being deleted; finished by itself after a crash.
    Deleting,
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Serving => "serving",
            Self::Unavailable => "unavailable",
            Self::Deleting => "deleting",
        })
    }
}

/// One copy of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: ImageId,
    /// The volume's name.
    pub volume: String,
    /// The volume's identity.
    #[schema(value_type = String, format = "uuid")]
    pub volume_id: VolumeId,
    /// The node that holds it.
    #[schema(value_type = String, format = "uuid")]
    pub node: NodeId,
    /// That node's name.
    pub node_name: String,
    /// Name of its pool, of another node as `node/pool`.
    pub pool: String,
    /// Identity of its pool.
    #[schema(value_type = String, format = "uuid")]
    pub pool_id: PoolId,
    /// State in the segment's record.
    pub state: ImageState,
    /// Why it is not in-sync, one sentence without full stop; empty if it is.
    pub reason: String,
    /// Space that it takes in its pool, in bytes; none while the pool cannot be used.
    pub allocated_bytes: Option<u64>,
    /// Seconds for which it has not been in-sync, as far as the volume's owner has seen; none if it is.
    pub out_seconds: Option<u64>,
    /// How far its catching up is, while it does.
    pub progress: Option<Progress>,
    /// The image whose place it takes once it is in-sync.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub replaces: Option<ImageId>,
    /// The read-only target under which its node exports it, of a detached image; none: it is not exported.
    pub export: Option<String>,
}

/// How far an image's catching up is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// `beginning`, `listing`, `copying` or `joining`.
    pub stage: String,
    /// Looked at in this run, in bytes.
    pub done_bytes: u64,
    /// Still to be looked at: what was written while it was away, in whole extents.
    pub left_bytes: u64,
    /// What differed and was sent.
    pub sent_bytes: u64,
    /// Looked at per second; zero at the beginning.
    pub bytes_per_second: u64,
    /// Seconds until the copying ends at this rate; none: nobody knows yet.
    pub seconds_left: Option<u64>,
}

/// The node that should own a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferredOwner {
    /// Its name; in a request left out: no wish.
    #[serde(default)]
    pub node: Option<String>,
    /// It gets the volume back by itself when it has been well for so long; none: by hand.
    #[serde(default)]
    pub automatic_after_seconds: Option<u32>,
}

/// An image to be added to a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddImage {
    /// The volume, by name or id.
    pub volume: String,
    /// The node that gets it; left out: one that has none, with most room.
    #[serde(default)]
    pub node: Option<String>,
    /// The pool that gets it, as `node/pool` or, with a node, `pool`; left out: the one with most room.
    #[serde(default)]
    pub pool: Option<String>,
}

/// Where an image is moved to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The node; left out: the one of the pool, or the one with most room.
    #[serde(default)]
    pub node: Option<String>,
    /// The pool; left out: the one with most room.
    #[serde(default)]
    pub pool: Option<String>,
}

/// A word that what is lost was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptLoss {
    /// The loss is accepted.
    #[serde(default)]
    pub accept_loss: bool,
}

/// A word that all reservations of a volume's hosts are to be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetReservations {
    /// It is accepted that reservations, registrations and mode parameters are lost.
    #[serde(default)]
    pub accept_loss: bool,
    /// Although they can be read, so that hosts still rely on them.
    #[serde(default)]
    pub force: bool,
}

/// The node that is to own a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOwner {
    /// Its name or id; left out: another one that has an image in-sync.
    #[serde(default)]
    pub node: Option<String>,
}

/// What a forced promotion of an image would lose, or what only an image has that one left behind (rule M10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Loss {
    /// The answer in a sentence, without full stop.
    pub sentence: String,
    /// No more than this is lost, in bytes.
    pub bytes_max: u64,
    /// It is exactly this, not at most.
    pub is_exact: bool,
    /// Where, as far as it is known: the first few thousand ranges.
    pub ranges: Vec<Range>,
    /// There are more ranges than are named.
    pub is_cut: bool,
}

/// A range of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// State of an image in its segment's record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// Holds every acknowledged write.
    InSync,
    /// Is being brought up to date.
    Syncing,
    /// Is behind.
    Stale,
    /// Was taken out; kept untouched until somebody drops it.
    Detached,
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InSync => "in-sync",
            Self::Syncing => "syncing",
            Self::Stale => "stale",
            Self::Detached => "detached",
        })
    }
}

/// A volume to be created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Name, unique in the cluster: lower-case letters, digits, `-` and `.`, at most 63. It ends the target name.
    pub name: String,
    /// Size as the host sees it, in bytes: a multiple of 4 KiB. Space is taken as it is written.
    pub size_bytes: u64,
    /// Names of the pools that get an image each, in the order in which reads prefer them; of another node as
    /// `node/pool`. Left out: one on the node that is asked and one on another.
    #[serde(default)]
    pub pools: Vec<String>,
    /// Logical block as the host sees it: 512 (the default) or 4096.
    #[serde(default = "default_block_bytes")]
    pub block_bytes: u32,
    /// Write cache (see [`Volume::write_cache`]); on by default.
    #[serde(default = "default_write_cache")]
    pub write_cache: bool,
    /// Fewest in-sync images with which writes are answered (rule A4); 1 by default.
    #[serde(default = "default_min_in_sync")]
    pub min_in_sync: u32,
    /// What happens to writes while there are fewer; an error by default.
    #[serde(default)]
    pub when_few: WhenFew,
    /// Who may log in; by default everybody who reaches the portal.
    #[serde(default)]
    pub access: CreateAccess,
}

/// What happens to writes while fewer images are in-sync than the volume wants (rule A4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFew {
    /// They are answered with an error.
    #[default]
    Error,
    /// They wait.
    Wait,
}

/// Who may log in to a volume to be created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccess {
    /// iSCSI names of initiators that may log in; empty: all.
    #[serde(default)]
    pub initiators: Vec<String>,
    /// What hosts must prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// What the target proves to hosts that ask (mutual CHAP). Needs `chap`, with another secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual_chap: Option<Chap>,
}

/// A CHAP user name and secret.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chap {
    /// User name, at most 255 bytes.
    pub user: String,
    /// Secret, 12 to 255 bytes (RFC 7143 section 9.2.1 asks for 96 random bits at least).
    #[schema(write_only, format = Password)]
    pub secret: String,
}

impl fmt::Debug for Chap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chap").field("user", &self.user).field("secret", &"(hidden)").finish()
    }
}

const fn default_block_bytes() -> u32 {
    512
}

const fn default_write_cache() -> bool {
    true
}

const fn default_min_in_sync() -> u32 {
    1
}
