//! One command between its steps.

use std::sync::Arc;

use dyad_payload::Payload;

use crate::copy;
use crate::nexus::NexusId;
use crate::reserve::request::Share;
use crate::response::Transfer;
use crate::table::{Cdb, Rule};

/// One command between its steps: plain data, owned by whoever runs it. Dropping it forgets the command.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) nexus: NexusId,
    pub(crate) phase: Phase,
    /// The CDB's range, already checked against the capacity.
    pub(crate) range: Range,
    /// Data-out that a later step needs; empty otherwise.
    pub(crate) kept: Payload,
    /// Of an EXTENDED COPY under way: what it copies, shared with the unit.
    pub(crate) copy: Option<Arc<copy::Copy>>,
    /// How it fares with a reservation: asked again where the state may have changed since it began.
    pub(crate) rule: Rule,
    /// The change of the shared state that it is about.
    pub(crate) share: Option<Box<Share>>,
}

impl Task {
    pub(crate) fn new(nexus: NexusId, phase: Phase, range: Range) -> Self {
        Self { nexus, phase, range, kept: Payload::new(), copy: None, rule: Rule::FREE, share: None }
    }

    /// What an [`crate::Errand`] that writes brings along; the task keeps it, as it may have to be written again.
    pub fn errand_data(&self) -> Payload {
        self.kept.clone()
    }

    /// Whether what was asked last may be asked once more where nobody knows what came of it: a COMPARE AND WRITE would be
    /// compared with what it wrote itself.
    pub fn is_repeatable(&self) -> bool {
        self.phase != Phase::EndSwap
    }

    /// The nexus that sent the command.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }
}

/// Logical blocks `lba .. lba + blocks`. Only made by the range check, so it lies within the capacity of
/// that moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
}

impl Range {
    /// Of commands that name no blocks.
    pub(crate) const NONE: Self = Self { lba: 0, blocks: 0 };
}

/// What the next input to a task means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Data-out of a WRITE or WRITE AND VERIFY comes.
    WriteData {
        /// FUA, or the cache is off (A2).
        durable: bool,
        /// What follows the write.
        check: Check,
    },
    /// Data-out of a WRITE ATOMIC comes.
    AtomicData,
    /// Data-out of a VERIFY with BYTCHK 01b or 11b comes.
    VerifyData {
        /// 11b: one block, to be compared with every block of the range.
        repeated: bool,
    },
    /// The block of a WRITE SAME comes.
    SameData {
        /// Unmap where the block is zeros.
        unmap: bool,
    },
    /// Both halves of a COMPARE AND WRITE come.
    CompareAndWriteData {
        /// As for `WriteData`.
        durable: bool,
    },
    /// The parameter list of an UNMAP comes.
    UnmapList {
        /// PARAMETER LIST LENGTH.
        len: u16,
    },
    /// The parameter list of a MODE SELECT comes.
    ModeList {
        /// PARAMETER LIST LENGTH.
        len: u16,
        /// The ten-byte form's header.
        long: bool,
    },
    /// The mask of an ORWRITE comes.
    OrWriteData {
        /// As for `WriteData`.
        durable: bool,
    },
    /// Bytes for the echo buffer come.
    EchoData {
        /// PARAMETER LIST LENGTH.
        len: u16,
    },
    /// The parameter list of an EXTENDED COPY comes.
    CopyList {
        /// PARAMETER LIST LENGTH.
        len: u16,
    },
    /// What an ORWRITE found comes.
    OrWriteRead {
        /// As for `WriteData`.
        durable: bool,
        /// Tries that another write got in the way of.
        tries: u8,
    },
    /// An ORWRITE writes, if nothing changed since it read.
    OrWriteSwap {
        /// As for `WriteData`.
        durable: bool,
        /// As for `OrWriteRead`.
        tries: u8,
    },
    /// A chunk of an EXTENDED COPY comes.
    CopyRead(copy::At),
    /// A chunk of an EXTENDED COPY is being written.
    CopyWrite(copy::At),
    /// The shared state has to be known before it can begin.
    Begin {
        /// As it came.
        cdb: Cdb,
        /// As it was announced.
        transfer: Transfer,
    },
    /// The parameter list of a PERSISTENT RESERVE OUT comes.
    ReserveList {
        /// SERVICE ACTION.
        action: u8,
        /// SCOPE and TYPE.
        scope_and_kind: u8,
        /// PARAMETER LIST LENGTH.
        len: u16,
    },
    /// The shared state is being written, or has to be known for that.
    Share,
    /// The parameter list of a SET TARGET PORT GROUPS comes.
    GroupsList {
        /// PARAMETER LIST LENGTH.
        len: u16,
    },
    /// Another node is becoming owner.
    Moving {
        /// Its target port group.
        group: u16,
    },
    /// What the node knows of which blocks were written comes.
    Look {
        /// ALLOCATION LENGTH.
        allocation: u32,
    },
    /// The volume's last answer comes, with data.
    Read,
    /// The volume's last answer comes, without data.
    End,
    /// As [`Self::End`], after every block was compared with one block of data-out.
    EndRepeated,
    /// As [`Self::End`], of a COMPARE AND WRITE: where it may have taken effect, it may not be repeated unseen.
    EndSwap,
    /// The cache is on its way to the disks; the read follows (READ with FUA).
    FlushThenRead,
    /// The cache is on its way to the disks; the unit stops then (START STOP UNIT).
    FlushThenStop,
    /// The data of a WRITE AND VERIFY are being written; the check follows.
    WriteThenCheck {
        /// What the check is.
        check: Check,
    },
}

/// What follows the write of a WRITE AND VERIFY.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Check {
    /// Nothing: a plain WRITE.
    None,
    /// BYTCHK 00b: can it be read?
    Readable,
    /// BYTCHK 01b: does it equal what was sent?
    Equal,
}
