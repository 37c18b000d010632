//! Numbers and names that never meet as bare integers.
//!
//! Everything here is plain data: no I/O, no clock, no randomness. Design section 2 fixes the words.

mod ids;
mod place;
mod stamp;
mod time;

pub use ids::{
    BootId, ClusterId, DiskId, ImageId, LayerId, NodeId, ParseIdError, PoolId, SegmentId, StoreId, VolumeId,
};
pub use place::{
    BLOCK_BYTES, BLOCKS_PER_EXTENT, Block, Bytes, EXTENT_BYTES, EXTENTS_PER_REGION, Extent, FIRST_HIDDEN,
    INTENT_EXTENTS, OutOfRange, ParseBytesError, Piece, Pieces, REGION_BYTES, Region, SECTOR_BYTES, STATE_EXTENT, Span,
};
pub use stamp::{Epoch, Interval, Stamp, WriteNumber};
pub use time::{Moment, Period};
