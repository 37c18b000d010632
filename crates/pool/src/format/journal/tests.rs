use std::collections::VecDeque;

use dyad_units::{Extent, Region};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, proptest};

use super::*;
use crate::entry::{Entry, Slot};
use crate::error::OpenError;
use crate::format::change::tests::change;
use crate::format::state::{ImageNo, LayerNo};

const POOL: PoolId = PoolId::from_bytes([5; 16]);
const AREA: Area = Area { offset: 1 << 20, len: 64 << 10 };

/// A ring in memory and its bytes on disk.
struct Rig {
    ring: Ring,
    disk: Vec<u8>,
    slab: Slab,
    /// What was appended and is needed.
    records: VecDeque<(u64, Vec<Change>)>,
    newest: (usize, usize),
}

impl Rig {
    fn new() -> Self {
        Self::on(vec![0; AREA.len as usize])
    }

    fn on(disk: Vec<u8>) -> Self {
        let ring = Ring::new(AREA, POOL, 1, RingStart::empty());
        Self { ring, disk, slab: Slab::new(8 << 20), records: VecDeque::new(), newest: (0, 0) }
    }

    fn append(&mut self, changes: &[Change]) -> Option<usize> {
        let appended = self.ring.append(changes, 0, &self.slab)?;
        let at = (appended.offset - AREA.offset) as usize;
        self.disk[at..at + appended.bytes.len()].copy_from_slice(&appended.bytes);
        self.records.retain(|(seq, _)| *seq >= self.ring.needed_from);
        self.records.push_back((appended.seq, changes[..appended.taken].to_vec()));
        self.newest = (at, appended.bytes.len());
        Some(appended.taken)
    }

    fn scan(&self) -> Result<Scanned, OpenError> {
        scan(&self.disk, AREA, POOL)
    }

    /// Where the ring goes on if the newest record is durable.
    fn start(&self) -> RingStart {
        let mut start = self.ring.at.clone();
        start.live.retain(|live| live.seq >= self.ring.named);
        start
    }

    fn assert_reads_back(&self) {
        let scanned = self.scan().unwrap();
        assert_eq!(scanned.records, Vec::from(self.records.clone()));
        assert_eq!(scanned.start, self.start());
    }
}

fn map_change(extent: u32) -> Change {
    let mut entry = Entry::ABSENT;
    entry.place(Slot(extent), u64::from(extent));
    Change::Map { layer: LayerNo(1), extent: Extent(extent), entry }
}

fn mark(region: u32) -> Change {
    Change::Mark { image: ImageNo(1), region: Region(region), marked: true }
}

#[test]
fn a_ring_without_a_record_is_damaged() {
    assert_eq!(Rig::new().scan().unwrap_err(), OpenError::JournalDamaged { offset: AREA.offset });
    let mut rig = Rig::on((0..AREA.len).map(|at| (at * 37) as u8).collect());
    assert!(rig.scan().is_err());
    rig.append(&[]).unwrap();
    rig.assert_reads_back();
}

#[test]
fn records_of_another_pool_or_place_are_none() {
    let mut rig = Rig::new();
    rig.append(&[mark(1)]).unwrap();
    assert!(scan(&rig.disk, AREA, PoolId::from_bytes([6; 16])).is_err());
    assert!(scan(&rig.disk, Area { offset: 2 << 20, ..AREA }, POOL).is_err());
    rig.disk.copy_within(..4096, 8192);
    rig.assert_reads_back();
}

#[test]
fn many_laps_read_back_after_every_record() {
    let mut rig = Rig::new();
    for round in 0..200_u32 {
        let changes: Vec<_> = (0..round * 53 % 700).map(map_change).collect();
        let taken = rig.append(&changes).unwrap();
        assert!(taken == changes.len() || taken > 0);
        rig.assert_reads_back();
        rig.ring.trim_before(rig.ring.next_seq() - 1);
        if rig.ring.free() < 40 << 10 {
            rig.append(&[]).unwrap();
        }
    }
}

#[test]
fn a_record_takes_what_fits_and_leaves_the_rest() {
    let area = Area { offset: 0, len: 1 << 20 };
    let mut ring = Ring::new(area, POOL, 1, RingStart::empty());
    let slab = Slab::new(8 << 20);
    let changes: Vec<_> = (0..10_000).map(map_change).collect();
    let first = ring.append(&changes, 0, &slab).unwrap();
    assert_eq!(first.bytes.len() as u64, RECORD_BYTES_MAX);
    assert_eq!(first.taken, (RECORD_BYTES_MAX as usize - HEADER_BYTES) / 41);
    assert!(ring.append(&changes, ring.free(), &slab).is_none(), "all is reserved");
    assert!(ring.append(&changes, u64::MAX, &slab).is_none());
    let used = ring.used();
    let second = ring.append(&changes, ring.free() - 32768, &slab).unwrap();
    assert_eq!((second.bytes.len(), ring.used() - used), (16384, 16384), "what is left serves to name the tail");
}

#[test]
fn a_full_ring_can_still_name_a_new_tail() {
    let mut rig = Rig::new();
    while rig.append(&[mark(1)]).is_some() {}
    assert_eq!(rig.ring.free(), SEAL_BYTES);
    rig.ring.trim_before(rig.ring.next_seq());
    assert_eq!((rig.ring.is_trim_pending(), rig.ring.used(), rig.ring.free()), (true, 0, SEAL_BYTES));
    assert_eq!(rig.append(&[mark(2)]), Some(0), "only a seal");
    assert_eq!((rig.ring.is_trim_pending(), rig.ring.used(), rig.ring.free()), (false, 4096, AREA.len - 4096));
    assert_eq!(rig.append(&[mark(2)]), Some(1));
    rig.assert_reads_back();
    while rig.append(&[]).is_some() {}
    assert_eq!(rig.ring.free(), 0);
    rig.assert_reads_back();
}

/// Space was freed as soon as it was trimmed: a record torn over the old tail then left a newest record whose
/// tail was gone.
#[test]
fn a_torn_record_never_overwrites_what_the_newest_whole_one_needs() {
    let mut rig = Rig::new();
    for round in 0..300_u32 {
        let scanned = rig.scan();
        let before = rig.disk.clone();
        let changes: Vec<_> = (0..round * 31 % 300).map(mark).collect();
        if rig.append(&changes).is_none() {
            rig.append(&[]).unwrap();
        }
        let (at, len) = rig.newest;
        let whole = std::mem::replace(&mut rig.disk, before);
        if let Ok(scanned) = scanned {
            rig.disk[at..at + len].fill(0xdb);
            assert_eq!(rig.scan().unwrap().records, scanned.records);
        }
        rig.disk = whole;
        rig.ring.trim_before(rig.ring.next_seq() - u64::from(round % 3));
    }
}

/// P2, A5: a record cut at any sector was never answered; the ring goes on in its place.
#[test]
fn a_record_torn_at_any_sector_is_not_there() {
    let mut rig = Rig::new();
    // Former laps leave whole records where the torn one comes to lie.
    for _ in 0..40 {
        rig.append(&[mark(1)]).unwrap();
        rig.ring.trim_before(rig.ring.next_seq() - 2);
    }
    let (before, start, records) = (rig.disk.clone(), rig.start(), rig.scan().unwrap().records);
    // They fill the record to its last sector.
    let changes: Vec<_> = (0..397).map(map_change).collect();
    assert_eq!(rig.append(&changes), Some(397));
    let (at, len) = rig.newest;
    for cut in (0..len).step_by(512) {
        for kept in [0..cut, cut..len - 512] {
            let mut torn = before.clone();
            torn[at..at + len][kept.clone()].copy_from_slice(&rig.disk[at..at + len][kept]);
            let scanned = scan(&torn, AREA, POOL).unwrap();
            assert_eq!(scanned.records, records, "cut at {cut}");
            assert_eq!(scanned.start, start);
            let mut again = Rig::on(torn);
            again.ring = Ring::new(AREA, POOL, 2, scanned.start);
            again.records = records.clone().into();
            again.append(&[mark(9)]).unwrap();
            let scanned = again.scan().unwrap();
            assert_eq!(scanned.records.last(), Some(&(rig.ring.next_seq() - 1, vec![mark(9)])));
        }
    }
}

/// P11: what a disk that failed is still to be told went behind the record whose write failed: the next start
/// took the gap for damage.
#[test]
fn a_record_whose_write_failed_gives_its_place_to_the_next() {
    let mut rig = Rig::new();
    for round in 0..100_u32 {
        rig.append(&[mark(round)]).unwrap();
        rig.ring.trim_before(rig.ring.next_seq() - u64::from(round % 3));
        let (disk, records, seq) = (rig.disk.clone(), rig.records.clone(), rig.ring.next_seq());
        let failed: Vec<_> = (0..round * 37 % 900).map(mark).collect();
        if rig.append(&failed).is_some() {
            rig.ring.take_back();
            (rig.disk, rig.records) = (disk, records);
        }
        assert_eq!(rig.append(&[map_change(round)]), Some(1));
        assert_eq!(rig.ring.next_seq(), seq + 1);
        rig.assert_reads_back();
    }
}

/// P2: damage is said, never taken for an early end.
#[test]
fn rot_in_any_byte_before_the_newest_record_is_damage() {
    let mut rig = Rig::new();
    // Up to a seal behind the last real record; what is needed lies over the ring's end.
    let mut live: Vec<usize> = Vec::new();
    for round in 0.. {
        rig.append(&(0..round % 3 * 600).map(mark).collect::<Vec<_>>()).unwrap();
        live = rig.start().live.iter().map(|live| live.at as usize).collect();
        if round > 9 && round % 3 == 0 && live.windows(2).any(|pair| pair[0] > pair[1]) {
            break;
        }
        rig.ring.trim_before(rig.ring.next_seq().saturating_sub(4));
    }
    rig.assert_reads_back();
    let (newest, _) = rig.newest;
    for &start in live.iter().filter(|&&start| start != newest) {
        let len = u32::from_le_bytes(rig.disk[start + 48..start + 52].try_into().unwrap()) as usize;
        for at in (start..start + HEADER_BYTES).chain((start + HEADER_BYTES..start + len).step_by(7)) {
            rig.disk[at] ^= 1 << (at % 8);
            assert!(matches!(rig.scan(), Err(OpenError::JournalDamaged { .. })), "byte {at}");
            rig.disk[at] ^= 1 << (at % 8);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(Vec<Change>, u64)>> {
    proptest::collection::vec((proptest::collection::vec(change(), 0..8), 0..6_u64), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_appended_and_trimmed_reads_back(steps in steps()) {
        let mut rig = Rig::new();
        for (changes, keep) in steps {
            if rig.append(&changes).is_none() {
                rig.ring.trim_before(rig.ring.next_seq());
                prop_assert!(rig.append(&[]).is_some());
            }
            rig.assert_reads_back();
            rig.ring.trim_before(rig.ring.next_seq().saturating_sub(keep));
            prop_assert!(rig.ring.used() + rig.ring.free() <= AREA.len);
            // Open again, as after a crash.
            let start = rig.scan().unwrap().start;
            let needed_from = rig.ring.needed_from;
            rig.ring = Ring::new(AREA, POOL, rig.ring.mount + 1, start);
            rig.ring.trim_before(needed_from);
        }
    }

    #[test]
    fn arbitrary_changes_of_bytes_do_no_harm(
        edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..40),
        seal in any::<bool>(),
    ) {
        let mut rig = Rig::new();
        rig.append(&[mark(1), map_change(2)]).unwrap();
        for (at, byte) in edits {
            // Most of them into the headers.
            let at = if byte & 3 == 0 { usize::from(at) } else { usize::from(at) % HEADER_BYTES };
            rig.disk[at] = byte;
        }
        if seal {
            // Even under a right checksum.
            let sum = record_crc(POOL, AREA.offset, &rig.disk[..4096]);
            rig.disk[CRC_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        }
        let _ = rig.scan();
    }
}
