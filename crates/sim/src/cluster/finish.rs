//! The end of every run: all faults are mended, hosts ask nothing new; then everything must be answered, in sync and
//! equal within a bound.

use dyad_cluster::{ImageState, OutReason, SegmentRecord};
use dyad_contract::image::{BlockState, Reply, Request, Token};
use dyad_mirror::{Command, PartEvent};
use dyad_payload::BlockSum;
use dyad_pool::ImageHandle;
use dyad_units::{BLOCKS_PER_EXTENT, Extent, FIRST_HIDDEN, STATE_EXTENT, Stamp};

use super::happening::{Happening, Local};
use super::host::{Host, Wish};
use super::queue::{MILLIS, SECONDS, Time};
use super::world::{Run, World, in_sync, violation};
use crate::model::Violation;
use crate::pattern::Value;

/// Longest time until everything is served and in sync again. The longest single wait is the pause of an image that
/// was slow several times (M8), which doubles up to five minutes.
const HEAL_MAX: Time = 700 * SECONDS;
/// What a node asks an administrator for is decided after this.
const DECISION: Time = 5 * SECONDS;
/// Looks at that.
const LOOK: Time = 250 * MILLIS;
/// Longest time for reading everything, or for the last writes.
const READ_MAX: Time = 60 * SECONDS;
/// Far above every token that a part chooses.
const INSPECTION: Token = Token(u64::MAX);
/// Blocks read at a time.
const STRIDE: u64 = 64;

/// An extent as an image has it.
type Contents = (Stamp, [Option<BlockSum>; 64]);

impl World {
    /// The whole run: trouble, then peace, then the last questions.
    pub fn run(&mut self) -> Run {
        self.run_until(self.plan.until)?;
        self.mend_everything()?;
        self.come_to_peace()?;
        self.read_everything()?;
        self.write_atomically()?;
        self.come_to_peace()?;
        self.compare_images()
    }

    /// Ends all faults at once.
    fn mend_everything(&mut self) -> Run {
        self.is_mended = true;
        self.tell(|| "everything is mended".to_owned());
        let now = self.queue.now();
        for host in 0..self.hosts.len() {
            self.hosts[host].finish();
            self.host_cuts[host].fill(0);
        }
        (self.reach.away, self.reach.flaky, self.reach.awaited) = (0, 0, None);
        self.reach.cut.fill(0);
        for from in 0..self.plan.nodes {
            for to in (0..self.plan.nodes).filter(|to| *to != from) {
                self.beats[from][to] = super::world::BeatWay { last: self.beats[from][to].last, ..Default::default() };
                self.net.slow_down(from, to, 0);
                while self.net.is_cut(from, to) {
                    self.net.mend(now, from, to, 0, &mut self.net_out);
                }
            }
        }
        self.push_net();
        for node in 0..self.plan.nodes {
            let bound = self.plan.ppm_bound;
            let machine = &mut self.machines[node];
            machine.disk.repair();
            (machine.disk_pace, machine.dies_amid_call, machine.rests_until) = (Some(1), false, 0);
            machine.ppm = machine.ppm.clamp(-bound, bound);
            machine.clock.change(now, machine.ppm);
            let life = machine.life;
            machine.pauses = machine.pauses.min(1);
            self.resume(node, life)?;
            self.plan_disk(node);
            let process = self.machines[node].process.as_ref();
            if process.is_some_and(|process| process.pool.is_none()) {
                // The administrator starts what could not open its pool.
                self.kill_process(node, false)?;
            }
            self.queue.push(now + MILLIS, Happening::Boot(node));
        }
        self.restart_poisoned()?;
        self.catch_up_watches();
        Ok(())
    }

    /// The administrator starts what complains of its disk: what failed before all was mended may be heard of later.
    fn restart_poisoned(&mut self) -> Run {
        for node in 0..self.plan.nodes {
            let pool = self.machines[node].process.as_ref().and_then(|process| process.pool.as_ref());
            if pool.is_some_and(|pool| pool.usage().poisoned) {
                self.kill_process(node, false)?;
                self.queue.push(self.queue.now() + MILLIS, Happening::Boot(node));
            }
        }
        Ok(())
    }

    /// Waits until every operation is answered and every image in sync.
    fn come_to_peace(&mut self) -> Run {
        let begun = self.queue.now();
        loop {
            let now = self.queue.now();
            if self.hosts.iter().all(Host::is_idle) && self.is_whole() {
                // Closes and what follows them.
                let quiet = now + (2 * self.plan.interval + 500) * MILLIS;
                self.run_until(quiet)?;
                if self.is_whole() {
                    self.coverage.count_by("milliseconds until all was well", (now - begun) / MILLIS);
                    return Ok(());
                }
            }
            if now > begun + HEAL_MAX {
                return violation(format!("the stall does not end: {}", self.statuses()));
            }
            self.administer();
            if now > begun + DECISION {
                self.accept_losses();
                self.restart_poisoned()?;
            }
            self.run_until(now + LOOK)?;
            self.poke();
        }
    }

    /// Time must pass even where nothing is planned.
    fn poke(&mut self) {
        self.queue.push(self.queue.now() + LOOK, Happening::HostWakes(0));
    }

    fn is_whole(&self) -> bool {
        // A pool that is full parks what it cannot take (P15). Where all are of one size and hold nothing else, each can take
        // what the set holds.
        let may_park = !self.plan.hosts.contains(&super::host::MOVER);
        let is_good = |image: &dyad_cluster::ImageRecord| {
            image.state == ImageState::InSync || (may_park && image.reason == Some(OutReason::NoSpace))
        };
        let is_served = |segment: usize| {
            let record = &self.segments[segment].stored;
            let machine = self.owner(segment).map(|owner| &self.machines[owner]);
            let process = machine.and_then(|machine| machine.process.as_ref());
            let slot = process.and_then(|process| process.parts[segment].as_ref());
            let mirror = slot.and_then(|slot| slot.part.status().mirror);
            let serves = mirror.is_some_and(|mirror| {
                mirror.state == dyad_mirror::MirrorState::Serving && mirror.suspect == 0 && mirror.epoch == record.epoch
            });
            serves && record.images.iter().all(is_good)
        };
        (0..self.segments.len()).all(is_served)
    }

    /// What only an administrator does: detached images come back, as do those that he took out.
    fn administer(&mut self) {
        for segment in 0..self.segments.len() {
            let record: &SegmentRecord = &self.segments[segment].stored;
            let Some(owner) = self.owner(segment).filter(|owner| self.machines[*owner].is_running()) else { continue };
            let commands: Vec<Command> = record
                .images
                .iter()
                .filter_map(|image| match image.state {
                    // Its node has deleted it, or will: nobody reads it any more.
                    ImageState::Detached if image.reason == Some(OutReason::Removed) => {
                        Some(Command::Drop { image: image.id })
                    }
                    ImageState::Detached => Some(Command::Reattach { image: image.id }),
                    ImageState::Stale if image.reason == Some(OutReason::Asked) => {
                        Some(Command::Resync { image: image.id })
                    }
                    _ => None,
                })
                .collect();
            commands.into_iter().for_each(|command| self.order(owner, segment, command));
        }
    }

    fn order(&mut self, node: usize, segment: usize, command: Command) {
        self.questions += 1;
        let id = self.questions;
        self.tell(|| format!("administrator to node {node}: {command:?}"));
        self.tell_part(node, segment, PartEvent::Command { id, command });
        self.later(self.queue.now(), node, Local::Disk);
    }

    /// A node asks for an administrator's decision (M8): its image, the only one in sync, forgot recent writes before it
    /// was flushed alone. He promotes it and accepts the loss (M10).
    fn accept_losses(&mut self) {
        for segment in 0..self.segments.len() {
            let record = &self.segments[segment].stored;
            let Some((node, image)) =
                in_sync(record).next().and_then(|image| Some((self.place(image.node)?, image.id)))
            else {
                continue;
            };
            let process = self.machines[node].process.as_ref();
            let slot = process.and_then(|process| process.parts[segment].as_ref());
            if slot.is_some_and(|slot| slot.part.status().sentence.contains("promote one by force")) {
                self.coverage.count("loss accepted by the administrator (M8)");
                self.order(node, segment, Command::Promote { image });
            }
        }
    }

    /// Hosts read all that was ever asked for, through whatever path they choose.
    fn read_everything(&mut self) -> Run {
        for volume in 0..self.segments.len() {
            let Some(host) = self.hosts.iter().position(|host| host.volume() == volume) else { continue };
            let now = self.queue.now();
            self.hosts[host].begin(Wish::ReadState, now, &mut self.book, true);
            self.plan_host(host);
            let mut touched = self.book.touched(volume);
            while let Some(&first) = touched.first() {
                let count = touched.iter().take(STRIDE as usize).take_while(|block| **block < first + STRIDE).count();
                let last = touched[count - 1];
                touched.drain(..count);
                self.book.begin_read(volume, first, last - first + 1);
                let wish = Wish::Read { first, count: last - first + 1 };
                let now = self.queue.now();
                self.hosts[host].begin(wish, now, &mut self.book, true);
                self.plan_host(host);
            }
        }
        self.await_answers()
    }

    /// Every volume takes an atomic write: whatever was left half done is gone by now (M21).
    fn write_atomically(&mut self) -> Run {
        for volume in 0..self.segments.len() {
            let Some(host) = self.hosts.iter().position(|host| host.volume() == volume) else { continue };
            // Where an image was removed, too few may be left for any write (A4).
            if in_sync(&self.segments[volume].stored).count() < usize::from(self.plan.policy.min_in_sync) {
                continue;
            }
            let first = u64::from(BLOCKS_PER_EXTENT) - 1; // two pieces
            let values = vec![Value::of(self.book.version()); 2];
            self.book.begin_atomic(volume, first, &values);
            let wish = Wish::Write { first, values, sectors: None, durable: true, is_atomic: true };
            let now = self.queue.now();
            self.hosts[host].begin(wish, now, &mut self.book, true);
            self.plan_host(host);
        }
        self.await_answers()
    }

    fn await_answers(&mut self) -> Run {
        let end = self.queue.now() + READ_MAX;
        while !self.hosts.iter().all(Host::is_idle) {
            if self.queue.now() > end {
                return violation(format!("the last questions are not answered: {}", self.statuses()));
            }
            self.run_until(self.queue.now() + LOOK)?;
            self.poke();
        }
        Ok(())
    }

    /// At rest the images that the record names in sync hold the same, byte for byte.
    fn compare_images(&mut self) -> Run {
        for segment in 0..self.segments.len() {
            let images: Vec<(usize, dyad_units::ImageId)> = {
                let record = &self.segments[segment].stored;
                in_sync(record).filter_map(|image| Some((self.place(image.node)?, image.id))).collect()
            };
            let extents = (self.book.blocks() / 64) as u32;
            for extent in (0..extents).chain(FIRST_HIDDEN.0..=STATE_EXTENT.0).map(Extent) {
                let mut seen: Vec<(usize, Contents)> = Vec::new();
                for &(node, image) in &images {
                    if let Some(contents) = self.contents(node, segment, image, extent)? {
                        seen.push((node, contents));
                    }
                }
                let Some((first, rest)) = seen.split_first() else { continue };
                for other in rest {
                    // Where a disk failed or bits changed, one may have it and the other know that it has not (M15, P14);
                    // two that verify are equal always.
                    let may_be_bad = self.excuses.medium || self.excuses.disk;
                    let is_bad = |block: usize| other.1.1[block].is_none() || first.1.1[block].is_none();
                    let differs =
                        (0..64).find(|&block| other.1.1[block] != first.1.1[block] && !(may_be_bad && is_bad(block)));
                    if let Some(block) = differs {
                        let at = u64::from(extent.0) * 64 + block as u64;
                        let is_state = extent.is_hidden();
                        let known = if is_state { String::new() } else { self.book.tell(segment, at) };
                        return violation(format!(
                            "block {at} of segment {segment} differs between nodes {} and {} (stamps {} and {}){known}",
                            first.0, other.0, first.1.0, other.1.0
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the image holds in the extent; none if that cannot be known.
    fn contents(
        &mut self,
        node: usize,
        segment: usize,
        image: dyad_units::ImageId,
        extent: Extent,
    ) -> Result<Option<Contents>, Violation> {
        let Some(mut process) = self.machines[node].process.take() else { return Ok(None) };
        let slot = process.parts[segment].as_ref();
        let handle = slot.and_then(|slot| slot.images.iter().find(|(id, _)| *id == image)).map(|(_, handle)| *handle);
        let found = match (handle, &mut process.pool) {
            (Some(handle), Some(pool)) => {
                pool.submit(handle, INSPECTION, Request::Examine { extent });
                Some(examined(&mut self.machines[node].disk, pool, handle))
            }
            _ => None,
        };
        self.machines[node].process = Some(process);
        match found.flatten() {
            Some((stamp, blocks)) => {
                // Where disks failed, a block may be bad, but then on every image (M15).
                let may_be_bad = self.excuses.medium || self.excuses.disk;
                let is_bad = |state: &BlockState| matches!(state, BlockState::Unverified(_) | BlockState::Unreadable);
                if let Some(block) = blocks.iter().position(is_bad).filter(|_| !may_be_bad) {
                    let at = u64::from(extent.0) * 64 + block as u64;
                    return violation(format!("block {at} of node {node} does not match its checksum at rest (P8)"));
                }
                let sum = |state: &BlockState| match state {
                    BlockState::Unwritten | BlockState::Missing => Some(zeros()),
                    BlockState::Verified(sum) => Some(*sum),
                    BlockState::Unverified(_) | BlockState::Unreadable => None,
                };
                Ok(Some((stamp, std::array::from_fn(|block| sum(&blocks[block])))))
            }
            None => Ok(None),
        }
    }
}

/// Lets the pool and its disk run until it has answered. Whatever else it answers meanwhile is of no use any more.
fn examined(
    disk: &mut crate::disk::SimDisk,
    pool: &mut dyad_pool::Pool,
    handle: ImageHandle,
) -> Option<(Stamp, [BlockState; 64])> {
    let (mut ops, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        pool.take_disk_ops(&mut ops);
        ops.drain(..).for_each(|op| disk.submit(op));
        pool.take_replies(&mut replies);
        for (image, token, reply) in replies.drain(..) {
            if (image, token) == (handle, INSPECTION) {
                return match reply {
                    Reply::Examined(examined) => Some((examined.stamp, examined.blocks)),
                    _ => None,
                };
            }
        }
        if let Some((_, token, result)) = disk.step() {
            pool.complete(token, result);
        }
    }
    None
}

/// The sum of a block of zeros.
fn zeros() -> BlockSum {
    static ZEROS: std::sync::OnceLock<BlockSum> = std::sync::OnceLock::new();
    *ZEROS.get_or_init(|| BlockSum::of(&[0; crate::pattern::BLOCK]))
}
