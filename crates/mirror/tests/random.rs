//! Many operations at once, replies in any order, failures, aborts, crashes and losses of power, by chance: what
//! hosts saw must be what one disk could have shown, and the images must be equal in the end.
//!
//! `DYAD_SEEDS=from..to cargo test -p dyad-mirror --test random` plays other seeds; a violation names its seed.

mod cast;

use std::collections::{BTreeMap, BTreeSet};

use cast::history::{Sector, Time};
use cast::{Stage, StoreMood, span};
use dyad_cluster::ImageState;
use dyad_contract::image::ImageError;
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_mirror::{Event, ImageIndex, MirrorState, OpId};
use dyad_units::Period;
use smallvec::smallvec;

/// The sectors played with: eight blocks across the border of two extents.
const FIRST: u64 = 60 * 8;
const COUNT: u64 = 64;

/// Longer than a play.
const LONG: Period = Period::from_secs(1_000_000);

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Write(u32),
    Zero,
    Swap(u32, u32),
    Read,
    Flush,
}

struct Asked {
    start: u64,
    first: u64,
    count: u64,
    kind: Kind,
}

struct Play {
    stage: Stage,
    chance: Chance,
    sectors: Vec<Sector>,
    asked: BTreeMap<u64, Asked>,
    last_seen: Vec<u32>,
    clock: u64,
    value: u32,
    may_poison: bool,
    /// Whose connection is broken.
    cut: BTreeSet<usize>,
    /// Who was given up.
    gone: BTreeSet<usize>,
    joined: u64,
    /// The faults so far, told when the play ends badly.
    story: Vec<String>,
}

impl Drop for Play {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.story.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let images = 1 + chance.below(3).min(1) as u8 + u8::from(chance.one_in(4));
        let mut stage = Stage::serving(images);
        stage.leases = chance.one_in(3).then(|| [stage.now + LONG; 4]);
        Self {
            stage,
            chance,
            sectors: vec![Sector::begin(0, 0); COUNT as usize],
            asked: BTreeMap::new(),
            last_seen: vec![0; COUNT as usize],
            clock: 1,
            value: 0,
            may_poison: images > 1,
            cut: BTreeSet::new(),
            gone: BTreeSet::new(),
            joined: 0,
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: &str) {
        let (in_sync, good) = (self.stage.store.in_sync().count(), self.is_all_good());
        self.story.push(format!("{}: {what}, {in_sync} in sync, all good: {good}", self.clock));
    }

    fn ask(&mut self) {
        let first = self.chance.below(COUNT);
        let count = 1 + self.chance.below((COUNT - first).min(24));
        let span = span((FIRST + first) * 512, count * 512);
        self.value += 1;
        let value = self.value;
        let durable = self.chance.one_in(6);
        let (kind, op) = match self.chance.below(16) {
            0..6 => {
                let data = self.stage.payload(&value.to_le_bytes().repeat(128 * count as usize));
                (Kind::Write(value), VolumeOp::Write { span, data, durable })
            }
            6 => {
                let pattern = self.stage.payload(&value.to_le_bytes().repeat(128));
                (Kind::Write(value), VolumeOp::Fill { span, pattern, durable })
            }
            7 => (Kind::Zero, VolumeOp::Unmap { spans: smallvec![span], durable }),
            8 => return self.ask_swap(first, value),
            9 => (Kind::Flush, VolumeOp::Flush),
            10 => (Kind::Flush, VolumeOp::Verify { span }),
            _ => (Kind::Read, VolumeOp::Read { span }),
        };
        let kind = if matches!(op, VolumeOp::Verify { .. }) { Kind::Zero } else { kind };
        let count = if matches!(op, VolumeOp::Verify { .. } | VolumeOp::Flush) { 0 } else { count };
        self.note(op, Asked { start: self.clock, first, count, kind });
    }

    fn ask_swap(&mut self, first: u64, value: u32) {
        let expected = self.last_seen[first as usize];
        let payload = |play: &Self, value: u32| play.stage.payload(&value.to_le_bytes().repeat(128));
        let (expect, data) = (payload(self, expected), payload(self, value));
        let span = span((FIRST + first) * 512, 512);
        let op = VolumeOp::CompareAndWrite { span, expected: expect, data, durable: false };
        self.note(op, Asked { start: self.clock, first, count: 1, kind: Kind::Swap(expected, value) });
    }

    fn note(&mut self, op: VolumeOp, asked: Asked) {
        let id = self.stage.ask(op);
        self.asked.insert(id.0, asked);
    }

    /// Notes all answers that came.
    fn listen(&mut self) {
        for (id, result) in std::mem::take(&mut self.stage.answers) {
            let asked = self.asked.remove(&id).expect("answered what was asked");
            let time = Time { start: asked.start, end: self.clock };
            let range = asked.first as usize..(asked.first + asked.count) as usize;
            match (asked.kind, result) {
                (Kind::Read, Ok(VolumeDone::Data(data))) => {
                    for (at, bytes) in range.zip(data.to_vec().chunks(512)) {
                        let value = u32::from_le_bytes(*bytes.first_chunk().unwrap());
                        assert!(bytes.chunks(4).all(|part| part == value.to_le_bytes()), "a torn sector");
                        self.sectors[at].read(value, time);
                        self.last_seen[at] = value;
                    }
                }
                (Kind::Write(value), result) => self.note_write(range, value, time, result.err()),
                (Kind::Zero, result) => self.note_write(range, 0, time, result.err()),
                (Kind::Swap(before, value), result) => {
                    if result.is_ok() {
                        self.sectors[asked.first as usize].read(before, time);
                    }
                    self.note_write(range, value, time, result.err());
                }
                (Kind::Flush, Ok(_)) => self.sectors.iter_mut().for_each(|sector| sector.flushed(time.start)),
                (Kind::Read, Err(VolumeError::Medium { .. })) => {
                    assert_eq!(self.stage.mirror.status().good_images(), 1, "another image has it");
                }
                (Kind::Read | Kind::Flush, _) => {}
            }
        }
    }

    fn note_write(&mut self, range: std::ops::Range<usize>, value: u32, time: Time, error: Option<VolumeError>) {
        for at in range {
            match error {
                None => self.sectors[at].wrote(value, time, true),
                Some(VolumeError::WriteFault) => {
                    self.sectors[at].wrote(value, Time { end: u64::MAX, ..time }, false);
                }
                // Nothing else may leave a trace; of zeros nobody can tell whose they are.
                Some(_) if value == 0 => {}
                Some(_) => self.sectors[at].refused(value, time),
            }
        }
    }

    fn step(&mut self) {
        self.clock += 1;
        match self.chance.below(1000) {
            0..200 if self.asked.len() < 24 => self.ask(),
            200..215 => {
                if let Some(&id) = self.asked.keys().nth(self.chance.below(24) as usize) {
                    self.stage.abort(OpId(id));
                }
            }
            215..225 => {
                let period = Period::from_millis(1 << self.chance.below(14));
                let end = self.stage.now + period;
                let mut ticks = 0;
                while let Some(next) = self.stage.mirror.next_deadline().filter(|at| *at <= end) {
                    ticks += 1;
                    assert!(ticks < 20_000, "it never rests: {next:?} at {:?}", self.stage.now);
                    self.stage.tick_at(next);
                }
                self.stage.now = end.max(self.stage.now);
            }
            225..232 => self.fail(),
            // A rotten block of the only image would be believed after a crash (P8), as it must be.
            232..235 if self.stage.store.in_sync().count() == 1 && !self.is_all_good() => {}
            232..234 => self.crash(),
            234 => self.lose_power(),
            237..240 => self.break_or_mend_a_link(),
            240..243 => self.resync(),
            243..246 => self.change_a_lease(),
            235..237 => {
                let moods = [StoreMood::Accepts, StoreMood::Accepts, StoreMood::Away, StoreMood::AcceptsSilently];
                self.stage.mood = moods[self.chance.below(4) as usize];
            }
            _ => {
                let image = self.chance.below(self.stage.images.len() as u64) as usize;
                let waiting = self.stage.images[image].pending.len() as u64;
                if waiting > 0 {
                    let at = self.chance.below(waiting) as usize;
                    if self.chance.one_in(5) {
                        self.stage.images[image].execute(at);
                    } else {
                        self.stage.reply(image, at);
                    }
                }
            }
        }
        self.listen();
        for note in std::mem::take(&mut self.stage.notes) {
            self.tell(&format!("{note:?}"));
        }
    }

    fn break_or_mend_a_link(&mut self) {
        let at = self.chance.below(self.stage.images.len() as u64) as usize;
        let image = ImageIndex(at as u8);
        if self.gone.remove(&at) || self.cut.contains(&at) && self.chance.one_in(2) {
            self.cut.remove(&at);
            self.tell(&format!("{at} is back"));
            self.stage.event(Event::Back { image });
        } else if self.cut.contains(&at) {
            if self.stage.mirror.status().good_images() > 1 && self.is_all_good() {
                self.tell(&format!("{at} is given up"));
                self.cut.remove(&at);
                self.gone.insert(at);
                self.stage.gone(at as u8);
            }
        } else if self.is_all_good() {
            // What is torn on one image must not lose the other meanwhile.
            self.tell(&format!("{at} is cut off"));
            let seed = self.chance.next();
            self.stage.images[at].cut_off(|nth| seed >> (nth % 48) & 1 == 0);
            self.cut.insert(at);
            self.stage.event(Event::Lost { image });
        }
    }

    /// A lease goes missing, for longer or shorter than its image may do without (M5).
    fn change_a_lease(&mut self) {
        let at = self.chance.below(self.stage.images.len() as u64) as usize;
        let (is_granted, period) = (self.chance.one_in(2), Period::from_millis(self.chance.below(2000)));
        let now = self.stage.now;
        if let Some(leases) = self.stage.leases.as_mut().filter(|_| is_granted || self.cut.is_empty()) {
            leases[at] = if is_granted { now + LONG } else { now + period };
        }
    }

    fn grant_all_leases(&mut self) {
        let now = self.stage.now;
        if let Some(leases) = &mut self.stage.leases {
            leases.fill(now + LONG);
        }
    }

    fn mend_all_links(&mut self) {
        for at in std::mem::take(&mut self.cut).into_iter().chain(std::mem::take(&mut self.gone)) {
            self.stage.event(Event::Back { image: ImageIndex(at as u8) });
        }
    }

    /// An image that is out and works begins to catch up.
    fn resync(&mut self) {
        let at = self.chance.below(self.stage.images.len() as u64) as usize;
        let mut out = Vec::new();
        if !self.stage.images[at].poisoned
            && self.stage.mirror.begin_resync(self.stage.now, ImageIndex(at as u8), &mut out)
        {
            self.tell(&format!("{at} catches up"));
        }
        self.stage.act_on(out);
    }

    fn fail(&mut self) {
        let at = self.chance.below(self.stage.images.len() as u64) as usize;
        let kinds = ["read", "write", "flush", "close", "closed", "reserve", "examine", "settled", "grant", "mend"];
        let kind = kinds[self.chance.below(10) as usize];
        match self.chance.below(10) {
            0..6 => self.stage.images[at].failures.push((kind, ImageError::Overloaded)),
            // Damage of one image and the loss of the other at once may cost a block, as they must.
            6 | 7 if !self.is_all_good() || !self.cut.is_empty() => {}
            6 if self.may_poison => {
                self.may_poison = false;
                self.tell(&format!("poison {at}"));
                self.stage.images[at].poisoned = true;
            }
            7 => {
                self.tell(&format!("{at} fails a {kind}"));
                self.stage.images[at].failures.push((kind, ImageError::Unreadable));
            }
            // What rots before a start knows what is suspect may be believed (P8), if the other image is lost then.
            _ if self.stage.mirror.state() != MirrorState::Serving || !self.cut.is_empty() => {}
            _ if self.stage.mirror.status().good_images() < 2 || self.stage.mirror.status().suspect > 0 => {}
            _ => {
                let cells = &self.stage.images[at].cells;
                let nth = self.chance.below(cells.len().max(1) as u64) as usize;
                if let Some(&block) = cells.keys().nth(nth).filter(|_| self.is_all_good()) {
                    self.tell(&format!("block {block} of {at} rots"));
                    self.stage.images[at].rot(block);
                }
            }
        }
    }

    /// Whatever was not answered may have taken effect until now, and later no more.
    fn end_all(&mut self) {
        self.listen();
        for (_, asked) in std::mem::take(&mut self.asked) {
            let time = Time { start: asked.start, end: self.clock };
            let value = match asked.kind {
                Kind::Write(value) | Kind::Swap(_, value) => value,
                Kind::Zero => 0,
                Kind::Read | Kind::Flush => continue,
            };
            for at in asked.first..asked.first + asked.count {
                self.sectors[at as usize].wrote(value, time, false);
            }
        }
        self.clock += 1;
    }

    fn crash(&mut self) {
        self.end_all();
        self.tell("crash");
        let torn = self.chance.below(self.stage.images.len() as u64 + 1) as usize;
        let odds = self.chance.below(4) + 1;
        // One fault at a time: what rotted on one image must not be torn on the other.
        let may_tear = self.stage.store.in_sync().count() > 1 && self.is_all_good();
        for (at, image) in self.stage.images.iter_mut().enumerate() {
            image.poisoned = false;
            image.crash(|block| at == torn && may_tear && block % odds == 0);
        }
        self.restart();
    }

    fn lose_power(&mut self) {
        self.end_all();
        self.tell("power");
        let seed = self.chance.next();
        let may_spoil = self.is_all_good();
        for (at, image) in self.stage.images.iter_mut().enumerate() {
            image.poisoned = false;
            let mix = |block: u64| (block + 1).wrapping_mul(seed | 1).rotate_left(at as u32 * 7 + 13);
            image.lose_power(|block| mix(block) % 2 == 0);
            image.spoil_sums(|block| may_spoil && mix(block) % 5 == 0);
        }
        self.stage.mood = StoreMood::Accepts;
        self.restart();
        self.settle();
        for at in 0..COUNT as usize {
            let value = self.value_at(at);
            assert!(self.sectors[at].may_survive(value), "sector {at} has {value}: {:?}", self.sectors[at]);
            assert_eq!(self.sectors[at].judge(), Ok(()));
            self.sectors[at] = Sector::begin(value, self.clock);
        }
    }

    fn is_all_good(&self) -> bool {
        self.stage.images.iter().all(cast::image::Image::is_good)
    }

    fn restart(&mut self) {
        self.joined += self.stage.mirror.status().counters.joined;
        self.cut.clear();
        self.gone.clear();
        self.grant_all_leases();
        self.stage.restart();
        self.stage.answers.clear();
    }

    /// The faults end, and so does every stall.
    fn settle(&mut self) {
        self.mend_all_links();
        self.grant_all_leases();
        self.stage.mood = StoreMood::Accepts;
        self.stage.images.iter_mut().for_each(|image| image.failures.clear());
        self.stage.pass(Period::from_secs(120));
        self.clock += 1;
        self.listen();
        assert_eq!(self.asked.keys().collect::<Vec<_>>(), Vec::<&u64>::new(), "not answered");
    }

    fn value_at(&mut self, at: usize) -> u32 {
        self.clock += 1;
        let read = self.stage.read((FIRST + at as u64) * 512, 512);
        self.stage.drive();
        match self.stage.answers.remove(&read.0) {
            Some(Ok(VolumeDone::Data(data))) => u32::from_le_bytes(*data.to_vec().first_chunk().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self) {
        self.settle();
        let status = self.stage.mirror.status();
        assert_eq!(status.state, MirrorState::Serving);
        assert_eq!(status.in_flight, 0);
        // A last image that fails everything stays as it is, and is asked again now and then.
        let is_broken = self.stage.images.iter().any(|image| image.poisoned);
        assert!(is_broken || status.suspect == 0);
        let is_timeless = self.stage.mirror.next_deadline().is_none() || self.stage.leases.is_some();
        assert!(is_broken || is_timeless, "an idle segment needs no time but for leases");
        for at in 0..COUNT as usize {
            if self.is_all_good() && status.suspect == 0 {
                let start = self.clock;
                let value = self.value_at(at);
                self.sectors[at].read(value, Time { start, end: self.clock });
            }
            assert_eq!(self.sectors[at].judge(), Ok(()), "sector {at}");
        }
        self.stage.pass(Period::from_secs(1)); // heals of what the reads met
        if self.is_all_good() && !is_broken {
            self.stage.assert_equal_images();
        }
        for (at, image) in self.stage.images.iter().enumerate() {
            if self.stage.state_of(at as u8).0 == ImageState::InSync && !image.poisoned {
                assert!(image.marks.is_empty(), "marks stay");
            }
        }
    }
}

#[test]
fn what_hosts_see_is_what_one_disk_could_have_shown() {
    let seeds = std::env::var("DYAD_SEEDS").unwrap_or_else(|_| "0..300".to_owned());
    let (from, to) = seeds.split_once("..").expect("DYAD_SEEDS=from..to");
    let violated: Vec<u64> = (from.parse().unwrap()..to.parse().unwrap()).filter(|&seed| !is_held(seed)).collect();
    assert!(violated.is_empty(), "seeds {violated:?}");
}

/// Broke once: an extent could not be compared, and before its pause was over an image failed while the store was
/// away. The deadline stayed in the past, so whoever drives the mirror by its deadlines never rested.
#[test]
fn a_pause_that_ends_while_an_image_is_failing_is_over() {
    assert!(is_held(1305));
}

/// Plays one seed; false: a rule was violated, and the story has been told.
fn is_held(seed: u64) -> bool {
    let played = std::panic::catch_unwind(|| {
        let mut play = Play::new(seed);
        for _ in 0..3000 {
            play.step();
        }
        play.end();
    });
    if played.is_err() {
        eprintln!("seed {seed}");
    }
    played.is_ok()
}
