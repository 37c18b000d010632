//! What a nexus may do with the logical unit, as the administrator said: it may be write protected for one host and not
//! there for another.

use crate::absent;
use crate::nexus::{Attention, NexusId, Who};
use crate::response::Begun;
use crate::sense::{Asc, Condition, SenseKey};
use crate::table::{self, Call, Command, Refusal};
use crate::unit::LogicalUnit;

/// What a nexus may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Right {
    /// Everything.
    #[default]
    Full,
    /// The medium is write protected for it (SPC-4 §4.14, WP in MODE SENSE).
    ReadOnly,
    /// For it the target has no logical unit.
    None,
}

const REPORT_LUNS: u8 = 0xa0;

/// The medium is protected, by whom the host cannot ask to change it.
pub(crate) const PROTECTED: Condition = Condition::new(SenseKey::DataProtect, Asc::WRITE_PROTECTED);
/// As above, by SWP.
pub(crate) const SOFTWARE_PROTECTED: Condition = Condition::new(SenseKey::DataProtect, Asc::SOFTWARE_WRITE_PROTECTED);

impl LogicalUnit {
    /// The administrator changed what a nexus may do; it is told, unless it is new: then this comes before its first
    /// command, and what is read at the beginning is right.
    pub fn set_right(&mut self, nexus: NexusId, right: Right) {
        let Some(before) = self.nexuses.set_right(nexus, right) else { return };
        let is_hidden = |right| right == Right::None;
        if is_hidden(before) != is_hidden(right) {
            self.nexuses.attend(Who::Only(nexus), Attention::LunsChanged);
        } else if before != right {
            // WP is a part of the mode parameter header.
            self.nexuses.attend(Who::Only(nexus), Attention::ModeParametersChanged);
        }
    }

    /// Whether the nexus sees no logical unit.
    #[inline]
    pub(crate) fn is_hidden_from(&self, nexus: NexusId) -> bool {
        self.nexuses.is_restricted() && self.nexuses.right(nexus) == Right::None
    }

    /// A command to LUN 0 of a nexus for which it is not there.
    #[cold]
    pub(crate) fn run_hidden(&mut self, call: &Call<'_>) -> Result<Begun, Refusal> {
        if call.cdb[0] == REPORT_LUNS {
            return self.run(call, false);
        }
        if self.nexuses.is_waiting() {
            self.check_attention(call.nexus, table::find(call.cdb).ok().map(table::Row::command))?;
        }
        absent::begin(self, call)
    }

    /// Whether the nexus may have this command carried out.
    #[cold]
    pub(crate) fn check_right(&self, nexus: NexusId, call: &Call<'_>, command: &Command) -> Result<(), Refusal> {
        match self.nexuses.right(nexus) {
            Right::Full => Ok(()),
            // Nor may it keep others from writing, or send them another way.
            Right::ReadOnly if command.writes || command.governs => Err(PROTECTED.into()),
            Right::ReadOnly => Ok(()),
            Right::None if call.cdb[0] == REPORT_LUNS => Ok(()),
            Right::None => Err(Condition::illegal(Asc::LUN_NOT_SUPPORTED).into()),
        }
    }

    /// Whether what the nexus writes may still be written: it may have been forbidden since the command began.
    #[inline]
    pub(crate) fn check_writable(&self, nexus: NexusId) -> Result<(), Condition> {
        if self.shared.is_protected() {
            return Err(SOFTWARE_PROTECTED);
        }
        let is_full = !self.nexuses.is_restricted() || self.nexuses.right(nexus) == Right::Full;
        if is_full { Ok(()) } else { Err(PROTECTED) }
    }

    /// Whether the nexus may still change how the unit serves others: see [`Self::check_writable`].
    pub(crate) fn check_governs(&self, nexus: NexusId) -> Result<(), Condition> {
        if self.right(nexus) == Right::Full { Ok(()) } else { Err(PROTECTED) }
    }

    /// What a nexus may do.
    pub fn right(&self, nexus: NexusId) -> Right {
        if self.nexuses.is_restricted() { self.nexuses.right(nexus) } else { Right::Full }
    }

    /// WP, as the nexus sees it.
    pub(crate) fn is_protected_from(&self, nexus: NexusId) -> bool {
        self.settings.read_only || self.check_writable(nexus).is_err()
    }
}
