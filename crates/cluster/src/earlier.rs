//! Records as version 1 of the encoding has them: without limits, and with hosts that may all read and write.
//!
//! What version 1 can say is still written so: whoever goes back to older software can read it, but for those volumes that
//! use what that does not know. It is no way to update nodes one after the other: nodes of different peer protocols do not
//! speak (`dyad_wire::VERSIONS`; 4 only today), so all of them are updated together.

use dyad_units::{Bytes, SegmentId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::access::{Access, ChapPair, Hosts, InitiatorName, Right};
use crate::limits::Limits;
use crate::name::Name;
use crate::node::NodeRecord;
use crate::pool::PoolRecord;
use crate::record::Record;
use crate::segment::SegmentRecord;
use crate::volume::{AckPolicy, LogicalBlock, PreferredOwner, VolumeRecord, VolumeState};

/// Any record.
#[derive(Serialize, Deserialize)]
pub(crate) enum RecordV1 {
    Volume(VolumeV1),
    Segment(SegmentRecord),
    Pool(PoolRecord),
    Node(NodeRecord),
}

/// A volume.
#[derive(Serialize, Deserialize)]
pub(crate) struct VolumeV1 {
    id: VolumeId,
    name: Name,
    size: Bytes,
    block: LogicalBlock,
    segments: Vec<SegmentId>,
    policy: AckPolicy,
    cache: bool,
    access: AccessV1,
    state: VolumeState,
    preferred: Option<PreferredOwner>,
}

#[derive(Serialize, Deserialize)]
struct AccessV1 {
    /// Empty: every host.
    initiators: Vec<InitiatorName>,
    chap: Option<ChapPair>,
}

impl From<RecordV1> for Record {
    fn from(record: RecordV1) -> Self {
        match record {
            RecordV1::Volume(record) => Self::Volume(record.into()),
            RecordV1::Segment(record) => Self::Segment(record),
            RecordV1::Pool(record) => Self::Pool(record),
            RecordV1::Node(record) => Self::Node(record),
        }
    }
}

impl VolumeV1 {
    /// The volume, if version 1 can say it.
    pub(crate) fn of(record: &VolumeRecord) -> Option<Self> {
        let initiators = match &record.access.hosts {
            Hosts::All(Right::ReadWrite) => Vec::new(),
            Hosts::Listed(grants)
                if !grants.is_empty() && grants.iter().all(|grant| grant.right == Right::ReadWrite) =>
            {
                grants.iter().map(|grant| grant.initiator.clone()).collect()
            }
            Hosts::All(_) | Hosts::Listed(_) => return None,
        };
        if record.limits != Limits::default() {
            return None;
        }
        let VolumeRecord { id, name, size, block, segments, policy, cache, access, state, preferred, limits: _ } =
            record.clone();
        let access = AccessV1 { initiators, chap: access.chap };
        Some(Self { id, name, size, block, segments, policy, cache, access, state, preferred })
    }
}

impl From<VolumeV1> for VolumeRecord {
    fn from(record: VolumeV1) -> Self {
        let VolumeV1 { id, name, size, block, segments, policy, cache, access, state, preferred } = record;
        let access = Access::of(access.initiators, access.chap);
        let limits = Limits::default();
        Self { id, name, size, block, segments, policy, cache, access, state, preferred, limits }
    }
}
