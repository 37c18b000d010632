//! Errands: what a copy reads from another volume, or writes there.
//!
//! ```text
//!  unit of the copy ──Errand──▶ node ── a nexus of its own, for one chunk ──▶ the other unit ──▶ its volume
//!                   ◀─Response─      ◀──────────────────────────────────────
//! ```
//!
//! An errand is a command like any of the host's, run by the other unit: that checks its range, its right and the
//! reservations, and what it says goes back as the copy's third-party sense. Who sends it is the initiator port of the session
//! that copies, so that a reservation lets through what it would let through if that port had sent it to the other volume at
//! this node (SPC-4 §5.13.1), and whoever is fenced off there cannot write by way of a copy.
//!
//! Nothing is kept between two chunks: each is looked up, admitted and checked anew, so that a right that was taken away, a
//! reservation, a volume that was deleted hold for the next mebibyte. Its nexus is told of no attention that came before.

use crate::nexus::{NexusId, TooManyNexuses};
use crate::reserve::InitiatorPort;
use crate::response::Transfer;
use crate::right::Right;
use crate::sense::{Asc, Condition, SenseKey};
use crate::shape::BlockSize;
use crate::table::Cdb;
use crate::unit::LogicalUnit;
use crate::vpd;

/// A volume, by its NAA designator: the only one that fits in a CSCD descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnitName(pub(super) [u8; 16]);

/// What is done there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Read,
    /// With data that the task keeps: [`crate::Task::errand_data`].
    Write,
    /// What is written is all zeros, and unmapped.
    Zero,
}

/// A command to another volume, for one chunk of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Errand {
    /// Which volume.
    pub to: UnitName,
    /// Its logical block length; with another one there: [`Unreached::OtherBlocks`].
    pub block: BlockSize,
    pub(super) access: Access,
    pub(super) lba: u64,
    pub(super) blocks: u32,
}

impl Errand {
    /// The command to the other unit, with what the transport announces.
    pub fn command(&self) -> (Cdb, Transfer) {
        const UNMAP_NDOB: u8 = 0x09;
        let bytes = self.blocks << self.block.shift();
        let (opcode, flags, transfer) = match self.access {
            Access::Read => (0x88, 0, Transfer::In(bytes)),
            Access::Write => (0x8a, 0, Transfer::Out(bytes)),
            Access::Zero => (0x93, UNMAP_NDOB, Transfer::None),
        };
        let mut cdb: Cdb = [0; 16];
        (cdb[0], cdb[1]) = (opcode, flags);
        cdb[2..10].copy_from_slice(&self.lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&self.blocks.to_be_bytes());
        (cdb, transfer)
    }
}

/// Why an errand was not even begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreached {
    /// There is no such volume, or none that this host may use: which of the two it is not told.
    NotThere,
    /// Its blocks have another length: counts in blocks mean other bytes.
    OtherBlocks,
}

impl Unreached {
    pub(super) const fn condition(self) -> Condition {
        let asc = match self {
            Self::NotThere => Asc::COPY_TARGET_NOT_REACHABLE,
            Self::OtherBlocks => Asc::COPY_TARGET_TYPE,
        };
        Condition::new(SenseKey::CopyAborted, asc)
    }
}

impl LogicalUnit {
    /// Whether this is the unit's name.
    pub fn is_named(&self, name: &UnitName) -> bool {
        vpd::naa(&self.settings.identity) == name.0
    }

    /// A nexus for one errand: of this initiator port, with this right. It is told of nothing that was before.
    ///
    /// # Errors
    /// [`TooManyNexuses`].
    pub fn add_errand(
        &mut self,
        nexus: NexusId,
        right: Right,
        initiator: Option<InitiatorPort>,
    ) -> Result<(), TooManyNexuses> {
        self.nexuses.add(nexus)?;
        self.nexuses.set_right(nexus, right);
        if let Some(initiator) = initiator {
            self.set_initiator(nexus, initiator);
        }
        Ok(())
    }

    /// The errand has ended. Its initiator port may have a session here: what that reserved is not given up, as it would be
    /// where a session ends ([`Self::remove_nexus`]).
    pub fn remove_errand(&mut self, nexus: NexusId) {
        self.nexuses.remove(nexus);
        self.shared.unname(nexus);
    }
}
