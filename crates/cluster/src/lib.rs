//! What the cluster knows: its records, how they may change, and the store that keeps them.
//!
//! ```text
//!   volume ──names──▶ segment ──names──▶ images, each in a pool of a node
//!      │                 │
//!      └──── plan ───────┤ creating and deleting, one record at a time
//!                        └ change: epoch + 1, or refused
//! ```
//!
//! Pure: a new record is computed from an old one; a [`Store`] keeps it by compare-and-set. Rules that hold
//! whatever the caller does:
//!
//! - every change of a segment's record raises its epoch by one, so equal epochs mean equal content (§8);
//! - the last in-sync image is never taken out, and only an in-sync image's node may own (M8, M9);
//! - creating and deleting go through states, so that whoever finds them half done can go on (section 6).

mod access;
mod change;
mod earlier;
mod forks;
mod limits;
mod name;
mod node;
pub mod placement;
mod plan;
mod pool;
mod propose;
mod record;
mod segment;
mod state;
mod store;
pub mod takeover;
#[cfg(test)]
mod testing;
mod turns;
mod volume;

pub use access::{
    Access, AccessError, Chap, ChapPair, Grant, Hosts, INITIATORS_MAX, InitiatorName, Right, Secret, Whom,
};
pub use change::{Change, ChangeError};
pub use forks::{FORKS_MAX, Fork};
pub use limits::{BANDWIDTH_MIN, BURST_SECS_MAX, IOPS_MIN, LimitError, Limits};
pub use name::{NAME_BYTES_MAX, Name, ParseNameError};
pub use node::{Incarnation, NodeRecord, NodeState, PEERS_MAX};
pub use plan::{Presence, Step, StepOrder, next_step};
pub use pool::{DiskRecord, PoolRecord};
pub use propose::{Outcome, propose};
pub use record::{DecodeError, Key, Kind, RECORD_VERSION, Record, STORED_BYTES_MAX};
pub use segment::{IMAGES_MAX, ImageRecord, NewSegment, SegmentRecord};
pub use state::{ImageAct, ImageState, OutReason};
pub use store::{Changed, Listed, SetError, Store, StoreError, Version, Versioned, Watcher};
pub use turns::{Line, RESYNCS_AT_ONCE, Turns, Wish};
pub use volume::{AckPolicy, LogicalBlock, OnFew, PreferredOwner, ShapeError, VolumeRecord, VolumeState};
