//! What the API asks of a node. The binary binds it to the running node; tests bind it to a fake.

use std::fmt;

use dyad_units::{ImageId, PoolId, VolumeId};

use crate::model::{
    AddImage, ChangeAccess, CreatePool, CreateVolume, Disk, Drain, ForgetReservations, Image, JoinToken, Limits, Loss,
    NewOwner, Node, Place, Pool, PreferredOwner, Session, Status, Volume,
};

/// Everything that an administrator can ask of one node.
///
/// Calls block until the node has answered and are made from threads that may block. Each must end in bounded
/// time: an implementation gives up with [`ControlError::Timeout`] or [`ControlError::Busy`] by itself.
/// A change that was answered `Ok` is durable in the config store.
///
/// The API looks names up in the lists, so that an implementation only ever gets ids; an id may be gone by
/// then ([`ControlError::NotFound`]).
pub trait Control: Send + Sync + 'static {
    /// One consistent glance at everything: node, volumes with their images, pools, disks, problems.
    fn status(&self) -> Result<Status, ControlError>;

    /// The nodes known here, this one first.
    fn nodes(&self) -> Result<Vec<Node>, ControlError>;

    /// A token with which another machine joins the cluster.
    fn make_token(&self) -> Result<JoinToken, ControlError>;

    /// Lets a node (name or id) give its volumes to others, or serve again; says what is still there.
    fn drain_node(&self, node: &str, is_wanted: bool) -> Result<Drain, ControlError>;

    /// Takes a node (name or id) without images out of the cluster.
    fn remove_node(&self, node: &str) -> Result<(), ControlError>;

    /// All pools, this node's first, each node's by name.
    fn pools(&self) -> Result<Vec<Pool>, ControlError>;

    /// Formats the disks and opens the new pool. Refuses a disk that is not empty or in use.
    fn create_pool(&self, request: CreatePool) -> Result<Pool, ControlError>;

    /// Opens a pool that could not be opened before. One that is open is no error.
    fn open_pool(&self, pool: PoolId) -> Result<Pool, ControlError>;

    /// Closes a pool without images and forgets it. `force`: although it holds images that belong to no known volume.
    fn delete_pool(&self, pool: PoolId, force: bool) -> Result<(), ControlError>;

    /// Deletes an image in an open pool of this node that no record names.
    fn delete_orphan(&self, pool: PoolId, image: ImageId) -> Result<(), ControlError>;

    /// All disks of all pools.
    fn disks(&self) -> Result<Vec<Disk>, ControlError>;

    /// All volumes, by name, with their images.
    fn volumes(&self) -> Result<Vec<Volume>, ControlError>;

    /// Creates a volume with one image in each of the named pools and serves it.
    fn create_volume(&self, request: CreateVolume) -> Result<Volume, ControlError>;

    /// Stops serving the volume and frees all of its images. `force` closes sessions that are still logged in;
    /// without it they are a reason to refuse ([`ControlError::InUse`]).
    fn delete_volume(&self, volume: VolumeId, force: bool) -> Result<(), ControlError>;

    /// All images of all volumes.
    fn images(&self) -> Result<Vec<Image>, ControlError>;

    /// Adds an image to a volume in use.
    fn add_image(&self, request: AddImage) -> Result<Image, ControlError>;

    /// Moves an image in use: another one is added there, which takes its place once it is in-sync.
    fn move_image(&self, image: ImageId, to: Place) -> Result<Image, ControlError>;

    /// Takes an image out of its volume; its node deletes it. `force`: although one image only is left. `forget`: without
    /// its node, which never comes back.
    fn remove_image(&self, image: ImageId, force: bool, forget: bool) -> Result<(), ControlError>;

    /// Detaches an image: it stays as it is.
    fn detach_image(&self, image: ImageId) -> Result<Image, ControlError>;

    /// Lets an image that is detached or taken out catch up.
    fn reattach_image(&self, image: ImageId, accept_loss: bool) -> Result<Image, ControlError>;

    /// Exports a detached image as a read-only target of its own, at its node.
    fn export_image(&self, image: ImageId) -> Result<Image, ControlError>;

    /// Exports it no more.
    fn unexport_image(&self, image: ImageId) -> Result<(), ControlError>;

    /// Up to 1 MiB of a detached image of this node, from a multiple of 256 KiB on; nothing behind its end.
    fn read_image(&self, image: ImageId, offset: u64) -> Result<Vec<u8>, ControlError>;

    /// What a forced promotion of the image would lose, or what only a detached image has.
    fn loss(&self, image: ImageId) -> Result<Loss, ControlError>;

    /// Forced promotion (rule M10). Without `accept_loss` it is refused, and says what would be lost.
    fn promote(&self, image: ImageId, accept_loss: bool) -> Result<Volume, ControlError>;

    /// Hands a volume over to another node.
    fn move_owner(&self, volume: VolumeId, to: NewOwner) -> Result<Volume, ControlError>;

    /// Says which node should own a volume.
    fn prefer_owner(&self, volume: VolumeId, wish: PreferredOwner) -> Result<Volume, ControlError>;

    /// Says who may use a volume, and for what.
    fn change_access(&self, volume: VolumeId, change: ChangeAccess) -> Result<Volume, ControlError>;

    /// Lets a volume's owner forget all reservations of its hosts that nobody can read. Without `accept_loss` it is refused,
    /// and says what is lost; without `force` where they can be read.
    fn forget_reservations(&self, volume: VolumeId, word: ForgetReservations) -> Result<Volume, ControlError>;

    /// Limits what a volume's hosts may ask of it.
    fn limit_volume(&self, volume: VolumeId, limits: Limits) -> Result<Volume, ControlError>;

    /// All iSCSI sessions of the cluster that are known here.
    fn sessions(&self) -> Result<Vec<Session>, ControlError>;

    /// Closes a session at the node of this name: the host is asked to log out, then disconnected. Most hosts log in again
    /// by themselves.
    fn delete_session(&self, node: &str, session: u64) -> Result<(), ControlError>;
}

/// What an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A node.
    Node,
    /// A pool.
    Pool,
    /// A disk.
    Disk,
    /// A volume.
    Volume,
    /// An image.
    Image,
    /// An image that no record names.
    Orphan,
    /// A session.
    Session,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Pool => "pool",
            Self::Disk => "disk",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Orphan => "orphaned image",
            Self::Session => "session",
        })
    }
}

/// Why a node refused or failed a request. The sentence says what failed and on which object;
/// [`ControlError::advice`] says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// There is no such object.
    #[error("there is no {kind} `{name}`")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its name or id.
        name: String,
    },
    /// The name is taken.
    #[error("there is already a {kind} `{name}`")]
    Exists {
        /// What was to be created.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// A value of the request cannot be accepted.
    #[error("`{field}` cannot be accepted: {reason}")]
    Invalid {
        /// The request's field.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// Something depends on the object.
    #[error("{kind} `{name}` is in use: {by}")]
    InUse {
        /// What was to be changed.
        kind: Kind,
        /// Its name or id.
        name: String,
        /// What uses it, as a half sentence: "2 images are in it".
        by: String,
    },
    /// It would not be safe, or makes no sense now.
    #[error("{what}")]
    Refused {
        /// A sentence without full stop.
        what: String,
        /// What the administrator can do.
        advice: String,
    },
    /// The disk cannot be given to a pool.
    #[error("disk {path} cannot be used: {reason}")]
    Disk {
        /// Path of the device or file.
        path: String,
        /// Why not.
        reason: String,
        /// What the administrator can do.
        advice: String,
    },
    /// A part of the node that the request needs does not work.
    #[error("{what}")]
    Unavailable {
        /// A sentence without full stop: "pool `a` is out of use since its disk failed a sync".
        what: String,
        /// What the administrator can do.
        advice: String,
    },
    /// This version cannot do it.
    #[error("{what} is not possible in this version")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The node has too many requests waiting.
    #[error("the node has too many administration requests waiting")]
    Busy,
    /// The node did not answer in time; what was asked for may still happen.
    #[error("the node did not answer within {seconds} s")]
    Timeout {
        /// The bound that ran out.
        seconds: u64,
    },
    /// The config store failed, or another fault inside of the node.
    #[error("{what}")]
    Failed {
        /// A sentence without full stop, the whole chain of causes in it.
        what: String,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Stopping,
}

impl ControlError {
    /// What to do about it: one sentence without full stop.
    pub fn advice(&self) -> String {
        match self {
            Self::NotFound { kind: Kind::Orphan, .. } => {
                "`dyad pool show` names them; an image of a volume goes with `dyad image remove`".into()
            }
            Self::NotFound { kind, .. } => format!("`dyad {kind} list` shows what there is"),
            Self::Exists { kind, .. } => format!("choose another name, or delete that {kind} first"),
            Self::Invalid { .. } => "correct the value and send the request again".into(),
            Self::InUse { kind: Kind::Volume, .. } => {
                "log the hosts out first, or add --force (`force=true`) to disconnect them".into()
            }
            Self::InUse { .. } => "remove what uses it first".into(),
            Self::Refused { advice, .. } | Self::Disk { advice, .. } | Self::Unavailable { advice, .. } => {
                advice.clone()
            }
            Self::Unsupported { .. } => "the changelog says what later versions can do".into(),
            Self::Busy => "try again in a moment".into(),
            Self::Timeout { .. } => "look at `dyad status` and the node's log before you try again".into(),
            Self::Failed { .. } => {
                "look at the node's log; nothing was left half done that the next start does not finish".into()
            }
            Self::Stopping => "try again when the node is running".into(),
        }
    }
}
