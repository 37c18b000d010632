use std::sync::{Arc, Mutex};

use dyad_units::{Epoch, Extent, Interval, Piece, Stamp, WriteNumber};

use super::*;
use crate::entry::Slot;
use crate::format::state::{ImageNo, LayerNo};

const DISK: DiskId = DiskId::from_bytes([7; 16]);

/// Memory that outlives whoever stores into it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; CAPACITY_MIN + 100])))
    }

    fn boxed(&self) -> Box<dyn RecentLog> {
        Box::new(self.clone())
    }

    fn read(&self, mount: u64) -> Option<ReadBack> {
        read_back(self, DISK, mount)
    }

    fn numbers(&self, mount: u64) -> Vec<u64> {
        self.read(mount).unwrap().entries.iter().map(|entry| entry.head.number.value()).collect()
    }
}

impl RecentLog for Shared {
    fn capacity(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.lock().unwrap()[at..at + to.len()]);
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        self.0.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
    }
}

fn head(number: u64, count: u8) -> RecentHead {
    RecentHead {
        kind: RecentKind::Write,
        image: ImageNo(1),
        layer: LayerNo(1),
        piece: Piece::new(Extent(9), 0, count).unwrap(),
        slot: Some(Slot(3)),
        alloc: 77,
        stamp: Stamp::new(Epoch::new(2), Interval::new(number as u32)),
        number: WriteNumber::new(number),
        settled: WriteNumber::new(0),
    }
}

fn sums(count: u8) -> impl ExactSizeIterator<Item = BlockSum> {
    (0..count).map(|block| BlockSum(u64::from(block) * 11))
}

fn append(recent: &mut Recent, number: u64, count: u8) -> Result<u64, RecentFull> {
    recent.append(&head(number, count), sums(count), 0)
}

#[test]
fn entries_read_back_over_many_laps() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    let mut kept = std::collections::VecDeque::new();
    for number in 1..2000 {
        let count = (number * 7 % 64 + 1) as u8;
        loop {
            match append(&mut recent, number, count) {
                Ok(at) => break kept.push_back((number, at)),
                Err(RecentFull) => {
                    kept.pop_front().expect("an empty L has room");
                    let to = kept.front().map_or(recent.position(), |(_, at)| *at);
                    recent.trim(to);
                }
            }
        }
        let found = log.read(4).unwrap();
        let numbers: Vec<u64> = found.entries.iter().map(|entry| entry.head.number.value()).collect();
        assert_eq!(numbers, kept.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        assert_eq!(found.entries.last().unwrap().sums, sums(count).collect::<Vec<_>>());
        // What is too short for an entry at the end of the ring may be skipped.
        assert!((0..ENTRY_BYTES as u64).contains(&(found.next() - recent.position())));
    }
}

/// P6: an entry counts only when it is whole, and one that is not takes nothing before it along.
#[test]
fn an_entry_cut_at_any_byte_is_not_there() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    append(&mut recent, 1, 2).unwrap();
    let before = log.0.lock().unwrap().clone();
    let at = RING_AT + append(&mut recent, 2, 2).unwrap() as usize;
    let after = log.0.lock().unwrap().clone();
    for cut in 0..80 {
        let mut torn = before.clone();
        torn[at..at + cut].copy_from_slice(&after[at..at + cut]);
        *log.0.lock().unwrap() = torn;
        let whole: &[u64] = if *log.0.lock().unwrap() == after { &[1, 2] } else { &[1] };
        assert_eq!(log.numbers(4), whole, "cut at {cut}");
    }
}

#[test]
fn a_header_cut_at_any_byte_leaves_the_one_before() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    append(&mut recent, 1, 1).unwrap();
    let before = log.0.lock().unwrap().clone();
    recent.trim(recent.position());
    let after = log.0.lock().unwrap().clone();
    for cut in 0..RING_AT {
        let mut torn = before.clone();
        torn[..cut].copy_from_slice(&after[..cut]);
        *log.0.lock().unwrap() = torn;
        assert!([vec![], vec![1]].contains(&log.numbers(4)), "cut at {cut}");
    }
}

#[test]
fn an_l_of_another_mount_or_disk_is_none() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    append(&mut recent, 1, 1).unwrap();
    assert!(log.read(4).is_some() && log.read(3).is_none() && log.read(5).is_none());
    assert!(read_back(&log, DiskId::from_bytes([8; 16]), 4).is_none());
    Recent::begin(log.boxed(), DISK, 9);
    assert_eq!(log.numbers(9), [0; 0], "nothing of an earlier life");
}

/// P6, M3: whether the process dies before or after the superblock has the next mount number, L counts, with what other
/// images may lack.
#[test]
fn an_l_that_was_taken_over_counts_before_and_after_the_mount_number_rises() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    let places: Vec<u64> = (1..=3).map(|number| append(&mut recent, number, 1).unwrap()).collect();
    recent.note_poison();
    let found = log.read(4).unwrap();
    assert!(found.is_poisoned);
    let mut recent = Recent::take_over(log.boxed(), DISK, 5, &found, places[1]);
    for mount in [4, 5] {
        assert_eq!(log.numbers(mount), [2, 3]);
        let found = log.read(mount).unwrap();
        assert!(found.entries.iter().all(|entry| entry.flushed) && !found.is_poisoned);
    }
    append(&mut recent, 4, 1).unwrap();
    let flushed: Vec<bool> = log.read(5).unwrap().entries.iter().map(|entry| entry.flushed).collect();
    assert_eq!(flushed, [true, true, false]);
    assert!(log.read(6).is_none());
}

/// P11: an opening whose first sync failed came to nothing, and the next one, whose sync succeeded, believed L whole. That the
/// disk failed holds for every opening until one succeeds.
#[test]
fn that_the_disk_failed_at_an_opening_is_known_to_the_next_one() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    (1..=3).for_each(|number| assert!(append(&mut recent, number, 1).is_ok()));
    for _ in 0..3 {
        log.read(4).unwrap().note_poison(&mut *log.boxed(), DISK);
        assert!(log.read(4).unwrap().is_poisoned);
        assert_eq!(log.numbers(4), [1, 2, 3], "nothing else is changed");
    }
    Recent::take_over(log.boxed(), DISK, 5, &log.read(4).unwrap(), 0);
    assert!(!log.read(5).unwrap().is_poisoned);
}

/// M3: however full L is, what is carried on finds room, so that cutting it always works.
#[test]
fn there_is_always_room_to_carry_entries_on() {
    let log = Shared::new();
    let mut recent = Recent::begin(log.boxed(), DISK, 4);
    let mut carried = Vec::new();
    for lap in 0..50 {
        while let Ok(at) = recent.append(&head(lap, 5), sums(5), carried.len()) {
            if carried.len() < 20 {
                carried.push(at);
            }
        }
        let end = recent.position();
        for at in &mut carried {
            let range = RecentHead { kind: RecentKind::Range, slot: None, ..head(lap, 5) };
            *at = recent.carry(&range).expect("room was kept");
        }
        recent.trim(end);
        assert_eq!(log.read(4).unwrap().entries.len(), carried.len());
    }
}
