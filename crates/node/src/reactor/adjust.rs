//! A volume's record changes while hosts use it.

use dyad_cluster::VolumeRecord;

use super::run::Reactor;

impl Reactor {
    /// The record of a volume in use is another one now.
    pub(super) fn change_volume(&mut self, record: VolumeRecord) {
        let Some(index) = self.volume_with_id(record.id) else { return };
        let Some(volume) = self.volume_mut(index) else { return };
        let before = std::mem::replace(&mut volume.record, record);
        if before.preferred != volume.record.preferred {
            self.doubt_paths(index);
        }
    }
}
