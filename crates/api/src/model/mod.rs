//! What goes over the wire: plain data, the same for server, command line and OpenAPI.
//!
//! Sizes are in bytes, spans of time in seconds unless the name says otherwise. Requests refuse unknown fields;
//! answers may gain fields within `/v1`, so readers ignore what they do not know.

mod node;
mod pool;
mod redundancy;
mod session;
mod volume;

pub use node::{DiskAccess, Node, NodeState, Problem, Severity, Status};
pub use pool::{CreateDisk, CreatePool, Disk, Health, Pool, PoolCounters};
pub use redundancy::{Redundancy, RedundancyState};
pub use session::Session;
pub use volume::{Access, Activity, Chap, CreateAccess, CreateVolume, Image, ImageState, Volume, VolumeState};
