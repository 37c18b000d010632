//! Everything stops, and a new process finds what is left.

use dyad_cluster::SegmentRecord;
use dyad_mirror::MirrorState;

use super::{Cast, Mirrored, Side};
use crate::disk::{SimDisk, Survival};
use crate::log::SimLog;
use crate::model::{Crash, Model, Violation};
use crate::player::Stop;
use crate::rig::Rig;
use crate::rng::Rng;

/// What is left of a segment.
pub struct Wreck {
    /// Disks and logs, one pair per image.
    pub sides: Vec<(SimDisk, SimLog)>,
    stored: SegmentRecord,
    model: Model,
    cast: Cast,
    life: u64,
    versions: u32,
    was_unequal: bool,
}

impl Mirrored {
    /// The state after a crash now; this run goes on undisturbed.
    pub fn crash(&self, crash: Crash, rng: &mut Rng) -> Wreck {
        let mut sides = Vec::new();
        for (at, side) in self.sides.iter().enumerate() {
            let survival = Survival::ALL[rng.index(Survival::ALL.len())];
            sides.push(match crash {
                Crash::Power => (side.rig.disk.after_power_cut(survival, rng), SimLog::new(self.cast.log_bytes)),
                Crash::Process if self.called == Some(at) => {
                    (side.rig.disk.after_process_crash(rng), side.rig.log.amid_stores(rng))
                }
                Crash::Process => (side.rig.disk.after_process_crash(rng), side.rig.log.after_process_crash()),
            });
        }
        let mut model = self.model.clone();
        model.crash(crash);
        let life = if crash == Crash::Power { self.life + 1 } else { self.life };
        let stored = self.stored.clone();
        let status = self.status();
        let was_unequal = crash == Crash::Process && (status.state != MirrorState::Serving || status.suspect > 0);
        Wreck { was_unequal, sides, stored, model, cast: self.cast.clone(), life, versions: self.next_version }
    }
}

impl Wreck {
    /// A new process opens the pools and starts to serve; nothing was read yet.
    pub fn start(self, rng: &mut Rng) -> Result<Mirrored, Stop> {
        let mut sides = Vec::new();
        for (image, (disk, log)) in self.sides.into_iter().enumerate() {
            let (rig, _) = Rig::open(disk, log)
                .map_err(|(_, error)| Violation(format!("pool {image} cannot be opened: {error:?}")))?;
            let handle = rig.find(image as u64).ok_or_else(|| Violation(format!("image {image} is gone")))?;
            sides.push(Side { rig, handle });
        }
        let mut mirrored = Mirrored::around(sides, self.stored, self.model, self.cast, self.life, self.versions, rng)?;
        mirrored.excuses.forgot = self.was_unequal;
        Ok(mirrored)
    }
}
