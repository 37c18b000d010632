//! What a crash leaves, and what the mirror does with it: survey, make equal, serve (M9, M11, P6, P8).

use std::collections::BTreeSet;

use dyad_contract::image::{BlockState, Examined, ImageError, Reply, Request, Survey};
use dyad_payload::{BlockSum, Payload, Slab, Sums};
use dyad_pool::OpenError;
use dyad_units::{BLOCKS_PER_EXTENT, EXTENT_BYTES, Extent, FIRST_HIDDEN, Interval, Piece, Region, STATE_EXTENT, Stamp};

use crate::actor::{Actor, extents_of, record_of};
use crate::disk::{SimDisk, Survival};
use crate::log::SimLog;
use crate::model::{Crash, Violation};
use crate::pattern::{BLOCK, Value, fill};
use crate::player::{Player, Scene, Stop};
use crate::rig::Rig;
use crate::rng::Rng;

/// What is there when everything has stopped.
pub struct Survivor {
    /// The disk.
    pub disk: SimDisk,
    /// L: empty after a power cut.
    pub log: SimLog,
    /// What the owners know.
    pub actors: Vec<Actor>,
    /// Which crash it was.
    pub crash: Crash,
    pub(crate) scene: Scene,
    pub(crate) versions: u32,
}

impl Player {
    /// The state after a crash now; this run itself goes on undisturbed.
    pub fn crash(&self, crash: Crash, survival: Survival, rng: &mut Rng) -> Survivor {
        let disk = match crash {
            Crash::Power => self.rig.disk.after_power_cut(survival, rng),
            Crash::Process => self.rig.disk.after_process_crash(rng),
        };
        let log = match crash {
            Crash::Power => SimLog::new(self.scene.log_bytes),
            Crash::Process if self.is_amid_call() => self.rig.log.amid_stores(rng),
            Crash::Process => self.rig.log.after_process_crash(),
        };
        let mut actors: Vec<Actor> = self.actors.iter().map(|(_, actor)| actor.clone()).collect();
        actors.iter_mut().for_each(|actor| actor.crash(crash));
        Survivor { disk, log, actors, crash, scene: self.scene.clone(), versions: self.versions() }
    }
}

impl Survivor {
    /// The same once more, to be recovered in another way.
    #[must_use]
    pub fn copy(&self) -> Self {
        let actors = self.actors.clone();
        let (disk, log) = (self.disk.copy(), self.log.after_process_crash());
        Self { disk, log, actors, crash: self.crash, scene: self.scene.clone(), versions: self.versions }
    }

    /// Opens the pool again, makes everything equal and compares all of it with the model.
    pub fn recover(self, rng: &mut Rng) -> Result<Player, Stop> {
        let mut player = self.open(rng)?;
        player.make_equal(rng)?;
        Ok(player)
    }

    /// The extents that were used, of each image.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + use<> {
        self.scene.extents.clone().into_iter()
    }

    /// Opens a pool that may be damaged: a refusal is a right answer.
    pub fn open_damaged(self, rng: &mut Rng) -> Result<Result<Player, OpenError>, Stop> {
        match Rig::open(self.disk, self.log) {
            Ok((rig, _)) => Player::around(rig, self.scene, self.actors, self.versions, rng).map(Ok),
            Err((_, error)) => Ok(Err(error)),
        }
    }

    /// Opens the pool only.
    pub fn open(self, rng: &mut Rng) -> Result<Player, Stop> {
        match self.open_or_crash(rng)? {
            Ok(player) => Ok(player),
            Err(_) => Err(Violation("the power was cut while opening; use `open_or_crash`".into()).into()),
        }
    }

    /// Opens the pool, or finds what is left when the disk's power (or only the process) went in the middle.
    pub fn open_or_crash(self, rng: &mut Rng) -> Result<Result<Player, Box<Self>>, Stop> {
        let Self { disk, log, mut actors, crash, scene, versions } = self;
        let opened = Rig::open(disk, log.clone());
        let disk = match opened {
            Ok((rig, _)) if !rig.disk.is_off() => {
                return Player::around(rig, scene, actors, versions, rng).map(Ok);
            }
            Ok((rig, _)) => rig.disk,
            Err((disk, _)) if disk.is_off() => *disk,
            Err((_, error)) => {
                return Err(Violation(format!("the pool cannot be opened after {crash:?}: {error:?}")).into());
            }
        };
        let survival = Survival::ALL[rng.index(Survival::ALL.len())];
        let (crash, disk, log) = if rng.chance(1, 2) {
            (Crash::Power, disk.after_power_cut(survival, rng), SimLog::new(scene.log_bytes))
        } else {
            (Crash::Process, disk.after_process_crash(rng), log.after_process_crash())
        };
        actors.iter_mut().for_each(|actor| actor.crash_while_opening(crash));
        Ok(Err(Box::new(Self { disk, log, actors, crash, scene, versions })))
    }
}

impl Player {
    /// What the mirror does before it serves, for every image; then everything is read.
    pub fn make_equal(&mut self, rng: &mut Rng) -> Result<(), Stop> {
        for at in 0..self.actors.len() {
            let survey = self.survey(at)?;
            let stamp = self.start_epoch(at, &survey)?;
            let suspects = self.suspects(at, &survey);
            self.read_too_early(at, &suspects, rng)?;
            self.take_credits(at)?;
            if suspects.is_empty() {
                self.actors[at].1.life = None;
            }
            for &extent in &suspects {
                self.settle_extent(at, extent, stamp, rng)?;
            }
            for (nth, &extent) in suspects.iter().enumerate() {
                if nth + 1 == suspects.len() {
                    // With the last one nothing is missing any more, whether or not its reply still comes.
                    self.actors[at].1.life = None;
                }
                self.expect_done(at, Request::Settled { extent, stamp })?;
                self.actors[at].1.unsettled.retain(|(_, _, piece)| piece.extent != extent);
            }
            self.read_everything(at)?;
        }
        self.count_lost()?;
        self.actors.iter_mut().for_each(|(_, actor)| actor.life = Some(true));
        Ok(())
    }

    /// The pool's count of lost extents is what its images name (P12).
    fn count_lost(&mut self) -> Result<(), Stop> {
        let mut named = 0;
        for at in 0..self.actors.len() {
            if let Reply::Survey(survey) = self.ask(at, Request::Show)? {
                named += survey.lost.len() as u64;
            }
        }
        let counted = self.rig.pool.usage().extents_lost;
        if counted != named {
            return Err(Violation(format!("{counted} extents count as lost, {named} are (P12)")).into());
        }
        Ok(())
    }

    fn take_credits(&mut self, at: usize) -> Result<(), Stop> {
        match self.ask(at, Request::Grant { credits: 4 })? {
            Reply::Granted(credits) if credits <= 4 => {
                self.actors[at].1.credits = credits;
                Ok(())
            }
            reply => Err(Violation(format!("4 credits were asked for: {reply:?}")).into()),
        }
    }

    /// Every extent as the host would read it, and its stamp (M1, A5). Those too that no host uses, but a recovery mended:
    /// what nobody looks at after a power cut could be anything for ever.
    pub(crate) fn read_everything(&mut self, at: usize) -> Result<(), Stop> {
        let used = self.scene.extents.iter().copied().chain(self.actors[at].1.model.extents());
        let extents: BTreeSet<Extent> = used.chain(hidden()).collect();
        for extent in extents {
            let piece = Piece::whole(extent);
            match self.ask(at, Request::Read { piece })? {
                Reply::Data(data) => self.actors[at].1.model.observe(piece, &data.to_vec())?,
                Reply::Failed(ImageError::Lost { .. } | ImageError::Damaged { .. })
                    if self.actors[at].1.model.may_be_lost(extent) =>
                {
                    continue;
                }
                reply => return Err(Violation(format!("a read of {piece:?} was answered by {reply:?}")).into()),
            }
            let examined = self.examine(at, extent)?;
            let actor = &self.actors[at].1;
            actor.model.check_stamp(extent, examined.stamp, actor.closed)?;
        }
        Ok(())
    }

    fn expect_done(&mut self, at: usize, request: Request) -> Result<(), Stop> {
        let text = format!("{request:?}");
        match self.ask(at, request)? {
            Reply::Done | Reply::Written(_) => Ok(()),
            reply => Err(Violation(format!("{text} of image {at} was answered by {reply:?}")).into()),
        }
    }

    /// The image's own account of how it stopped must be true.
    fn survey(&mut self, at: usize) -> Result<Survey, Stop> {
        let reply = self.ask(at, Request::Survey)?;
        let Reply::Survey(survey) = reply else {
            return Err(Violation(format!("a survey was answered by {reply:?}")).into());
        };
        self.check_life(at, &survey)?;
        let actor = &self.actors[at].1;
        if ![actor.closed, actor.closed_maybe].contains(&survey.closed) {
            let (sure, maybe) = (actor.closed, actor.closed_maybe);
            return Err(Violation(format!("closed is {}, not {sure} or {maybe} (M4)", survey.closed)).into());
        }
        let known = [actor.epoch, actor.epoch_maybe, actor.epoch_in_doubt.unwrap_or(actor.epoch)];
        let record = String::from_utf8_lossy(&survey.record).into_owned();
        if !known.iter().any(|&epoch| record == record_of(epoch)) {
            return Err(Violation(format!("the record is {record:?}, not that of {known:?} (M3, M9)")).into());
        }
        if survey.epoch < actor.epoch {
            return Err(
                Violation(format!("epoch {} is remembered, {} was answered (M3)", survey.epoch, actor.epoch)).into()
            );
        }
        self.check_unsettled(at, &survey)?;
        self.check_marks(at, &survey)?;
        // What was seen stays, whatever is asked next and however that ends (M3, M4).
        let actor = &mut self.actors[at].1;
        (actor.epoch, actor.closed, actor.closed_maybe) = (survey.epoch, survey.closed, survey.closed);
        actor.epoch_in_doubt = None;
        Ok(*survey)
    }

    /// Whether the image forgot, as it says (M11): with its process alive, never. After a loss of power, unless nothing was
    /// marked. Then no write since closed was answered, and what was on its way has not begun to reach the disk (P5).
    fn check_life(&mut self, at: usize, survey: &Survey) -> Result<(), Stop> {
        let actor = &mut self.actors[at].1;
        let says = format!("image {at} says lived_through is {}", survey.lived_through);
        match (actor.life, survey.lived_through) {
            (Some(true), false) => return Err(Violation(format!("{says} (M11)")).into()),
            (Some(false), true) => {
                if let Some((region, stamp)) = actor.written.iter().find(|(_, stamp)| **stamp > survey.closed) {
                    let text = format!("{says}, but region {} was written at {stamp} (M11)", region.0);
                    return Err(Violation(text).into());
                }
                let extents = actor.model.extents();
                extents.into_iter().for_each(|extent| actor.model.expect_unchanged(extent));
            }
            _ => {}
        }
        Ok(())
    }

    /// With L, every write that others might not have is named (M3, P6).
    fn check_unsettled(&self, at: usize, survey: &Survey) -> Result<(), Stop> {
        let actor = &self.actors[at].1;
        if survey.lived_through {
            let named = |piece: &Piece| {
                let of_extent = survey.unsettled.iter().filter(|other| other.extent == piece.extent);
                let mask = of_extent.fold(0, |mask, other| mask | other.mask());
                piece.mask() & !mask == 0
            };
            // What closed covers is on all images by the owner's own word (M4).
            let mut writes = actor
                .unsettled
                .iter()
                .filter(|(number, stamp, _)| *number > actor.settled_said && *stamp > survey.closed);
            if let Some((number, _, piece)) = writes.find(|(_, _, piece)| !named(piece)) {
                let text =
                    format!("write {number} of {piece:?} is answered but not settled, and not in the survey (M3)");
                return Err(Violation(text).into());
            }
        }
        Ok(())
    }

    /// P5: without L, every region written since closed is marked, even where nothing is left of the writes: other
    /// images may have them.
    fn check_marks(&self, at: usize, survey: &Survey) -> Result<(), Stop> {
        let actor = &self.actors[at].1;
        let newer = actor.written.iter().filter(|(_, stamp)| **stamp > survey.closed);
        let unmarked: Vec<Region> = newer.map(|(region, _)| *region).filter(|at| !survey.marked.contains(at)).collect();
        if survey.lived_through || unmarked.is_empty() {
            return Ok(());
        }
        let (region, written) = (unmarked[0], actor.written[&unmarked[0]]);
        let text = format!("region {} was written at {written}, closed is {}", region.0, survey.closed);
        Err(Violation(format!("{text}, and it is not marked (P5)")).into())
    }

    /// The owner's first act: a record of a new epoch (M9).
    fn start_epoch(&mut self, at: usize, survey: &Survey) -> Result<Stamp, Stop> {
        let actor = &self.actors[at].1;
        let known = [survey.epoch, actor.epoch_maybe, actor.stamp.epoch];
        let epoch = known.into_iter().max().unwrap_or_default().next();
        let slab = self.rig.slab.clone();
        let token = self.token();
        let request = self.actors[at].1.record(token, epoch, &slab);
        self.actors[at].1.sent.clear();
        self.expect_done(at, request)?;
        self.actors[at].1.epoch = epoch;
        Ok(Stamp::new(epoch, Interval::new(1)))
    }

    /// The extents that have to be looked at before they are read.
    fn suspects(&mut self, at: usize, survey: &Survey) -> Vec<Extent> {
        if survey.lived_through {
            return extents_of(&survey.unsettled);
        }
        let is_marked = |extent: &Extent| survey.marked.contains(&extent.region());
        for extent in self.actors[at].1.model.extents().into_iter().filter(|extent| !is_marked(extent)) {
            self.actors[at].1.model.expect_unchanged(extent);
        }
        // Every extent of a marked region, those that were never written too: another image might have them.
        let count = self.scene.size().value().div_ceil(u64::from(EXTENT_BYTES)) as u32;
        (0..count).map(Extent).chain(hidden()).filter(is_marked).collect()
    }

    /// A read before anything was made equal: refused or right, never wrong (P8).
    fn read_too_early(&mut self, at: usize, suspects: &[Extent], rng: &mut Rng) -> Result<(), Stop> {
        for extent in self.scene.extents.clone() {
            if !rng.chance(1, 3) {
                continue;
            }
            let piece = Piece::new(extent, rng.below(64) as u8, 1).expect("one block");
            match self.ask(at, Request::Read { piece })? {
                Reply::Data(data) => self.actors[at].1.model.observe(piece, &data.to_vec())?,
                Reply::Failed(ImageError::Damaged { .. }) if suspects.contains(&extent) => {}
                Reply::Failed(ImageError::Lost { .. }) if self.actors[at].1.model.may_be_lost(extent) => {}
                reply => return Err(Violation(format!("an early read of {piece:?} was answered by {reply:?}")).into()),
            }
        }
        Ok(())
    }

    fn examine(&mut self, at: usize, extent: Extent) -> Result<Examined, Stop> {
        match self.ask(at, Request::Examine { extent })? {
            Reply::Examined(examined) => Ok(*examined),
            reply => Err(Violation(format!("an examination was answered by {reply:?}")).into()),
        }
    }

    /// Every block that nothing vouches for is adopted, or mended with what another image might have (P8).
    fn settle_extent(&mut self, at: usize, extent: Extent, stamp: Stamp, rng: &mut Rng) -> Result<(), Stop> {
        let examined = self.examine(at, extent)?;
        for block in 0..BLOCKS_PER_EXTENT as u8 {
            let piece = Piece::new(extent, block, 1).expect("one block");
            self.check_state(at, piece, examined.blocks[usize::from(block)])?;
        }
        let actor = &self.actors[at].1;
        actor.model.check_stamp(extent, examined.stamp, actor.closed)?;
        for block in 0..BLOCKS_PER_EXTENT as u8 {
            let piece = Piece::new(extent, block, 1).expect("one block");
            if let BlockState::Unverified(_) = examined.blocks[usize::from(block)] {
                self.settle_block(at, piece, stamp, rng)?;
            } else if self.actors[at].1.credits > 0 && rng.chance(1, 200) {
                // What is verified here may still not be what the image that serves has.
                self.mend_with_any(at, piece, stamp, rng)?;
            }
        }
        Ok(())
    }

    /// What the image says of a block must be true (P1, P7, P8).
    fn check_state(&mut self, at: usize, piece: Piece, state: BlockState) -> Result<(), Stop> {
        let actor = &mut self.actors[at].1;
        let block = piece.block().0;
        let is_excused = actor.model.may_be_lost(piece.extent);
        match state {
            BlockState::Unwritten | BlockState::Missing | BlockState::Verified(_) => {}
            BlockState::Unreadable if is_excused => return Ok(()),
            BlockState::Unverified(_) if is_excused || !actor.model.is_certain(block) => return Ok(()),
            BlockState::Unverified(_) | BlockState::Unreadable => {
                return Err(Violation(format!("{piece:?} of image {at} was flushed and is {state:?} (P8)")).into());
            }
        }
        if actor.model.may_be_torn(block) {
            // It may have been adopted torn; its bytes will be judged when they are read.
            return Ok(());
        }
        let mut bytes = vec![0; BLOCK];
        for value in actor.model.candidates(block) {
            fill(&mut bytes, actor.model.image(), block, value);
            let fits = match state {
                BlockState::Verified(sum) => sum == BlockSum::of(&bytes),
                _ => value == Value::ZERO,
            };
            if fits {
                return Ok(actor.model.observe(piece, &bytes)?);
            }
        }
        let allowed = actor.model.allowed(block);
        Err(Violation(format!("{piece:?} of image {at} is {state:?}; allowed: {allowed}")).into())
    }

    fn settle_block(&mut self, at: usize, piece: Piece, stamp: Stamp, rng: &mut Rng) -> Result<(), Stop> {
        if self.actors[at].1.credits == 0 || rng.chance(2, 3) {
            return self.expect_done(at, Request::Adopt { piece });
        }
        self.mend_with_any(at, piece, stamp, rng)
    }

    fn mend_with_any(&mut self, at: usize, piece: Piece, stamp: Stamp, rng: &mut Rng) -> Result<(), Stop> {
        let candidates = self.actors[at].1.model.candidates(piece.block().0);
        let other = Value::of(self.version());
        let value = if rng.chance(1, 2) { candidates[rng.index(candidates.len())] } else { other };
        self.mend(at, piece, value, stamp)
    }

    /// Another image's content replaces what is here.
    fn mend(&mut self, at: usize, piece: Piece, value: Value, stamp: Stamp) -> Result<(), Stop> {
        let slab: Slab = self.rig.slab.clone();
        let token = self.token();
        let actor = &mut self.actors[at].1;
        let request = if value == Value::ZERO {
            let Request::Unmap(unmap) = actor.unmap(token, piece) else { unreachable!("an unmap was built") };
            Request::MendUnmap(unmap)
        } else {
            let space = dyad_contract::image::Space::Credit;
            let Request::Write(mut write) = actor.write(token, piece, 1, space, &slab) else {
                unreachable!("a write was built")
            };
            let mut buf = slab.take(piece.len()).expect("the run's slab is large");
            fill(&mut buf, actor.model.image(), piece.block().0, value);
            write.data = Payload::from(buf.freeze());
            write.sums = Sums::of(&write.data, &slab).expect("the run's slab is large");
            Request::Mend(write)
        };
        actor.sent.clear();
        actor.model.refuse(piece);
        actor.model.begin(piece, value, stamp);
        match self.ask(at, request)? {
            Reply::Written(written) => {
                let actor = &mut self.actors[at].1;
                actor.model.answer(piece);
                actor.credits -= u32::from(written.used_slot);
                Ok(())
            }
            reply => Err(Violation(format!("a mend of {piece:?} was answered by {reply:?}")).into()),
        }
    }
}

/// The extents that are not the host's.
fn hidden() -> impl Iterator<Item = Extent> {
    (FIRST_HIDDEN.0..=STATE_EXTENT.0).map(Extent)
}
