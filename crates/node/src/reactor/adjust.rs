//! A volume's record changes while hosts use it.

use dyad_cluster::{Right as Recorded, VolumeRecord};
use dyad_scsi::Right;

use super::run::Reactor;

/// What the record lets a host do, as the unit takes it; none: the host is not let in.
pub(super) const fn right_of_unit(right: Option<Recorded>) -> Right {
    match right {
        Some(Recorded::ReadWrite) => Right::Full,
        Some(Recorded::ReadOnly) => Right::ReadOnly,
        None => Right::None,
    }
}

impl Reactor {
    /// The record of a volume in use is another one now. Hosts that are logged in feel it with their next command: whoever
    /// lost its right finds no unit any more, and gets what it sent before answered.
    pub(super) fn change_volume(&mut self, record: VolumeRecord) {
        let Some(index) = self.volume_with_id(record.id) else { return };
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        let before = std::mem::replace(&mut volume.record, record);
        if before.access.hosts != volume.record.access.hosts {
            for &at in &volume.sessions {
                let session = self.conns.get(at).and_then(|conn| conn.session.as_ref());
                let Some((initiator, (_, nexus))) =
                    session.and_then(|session| Some((&session.initiator, session.use_of?)))
                else {
                    continue;
                };
                volume.unit.set_right(nexus, right_of_unit(volume.record.access.right_of(initiator)));
            }
        }
        let is_other_access = before.access != volume.record.access;
        let (limits, preferred) = (volume.record.limits, volume.record.preferred);
        if before.limits != limits {
            self.change_limits(index, limits);
        }
        if is_other_access {
            self.look_at_readers(index);
        }
        if before.preferred != preferred {
            self.doubt_paths(index);
        }
    }
}
