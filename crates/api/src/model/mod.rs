//! What goes over the wire: plain data, the same for server, command line and OpenAPI.
//!
//! Sizes are in bytes, spans of time in seconds unless the name says otherwise. Requests refuse unknown fields;
//! answers may gain fields within `/v1`, so readers ignore what they do not know.

mod activity;
mod hosts;
mod node;
mod pool;
mod redundancy;
mod session;
mod volume;

pub use activity::Activity;
pub use hosts::{Access, ChangeAccess, Grant, Limits, Right};
pub use node::{ChangeNode, DiskAccess, Drain, JoinToken, Node, NodeState, Severity, Status, Trouble};
pub use pool::{CreateDisk, CreatePool, Disk, DiskKind, Health, Orphan, Pool, PoolCounters};
pub use redundancy::{Redundancy, RedundancyState};
pub use session::Session;
pub use volume::{
    AcceptLoss, AddImage, Chap, CreateAccess, CreateVolume, ForgetReservations, Image, ImageState, Loss, NewOwner,
    Place, PreferredOwner, Progress, Range, Volume, VolumeState, WhenFew,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A list. An object, so that it can gain fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// What is in it.
    pub items: Vec<T>,
}
