//! Eight hosts at two nodes write the same blocks, while the owner moves: no update of a COMPARE AND WRITE counter is lost,
//! no block is ever torn, and of writes that overlap one is there in the end, whole (M2, SBC-3 §5.3). A read that goes on
//! while a long write takes place may have some of its blocks before and some after: SCSI promises no more, and only the
//! owner's image is asked for pieces of an extent each.

mod cast;

use std::sync::atomic::{AtomicBool, Ordering};

use cast::Ends;
use cast::pair::{OTHER_OWNER, Pair, host, in_sync, patiently, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Cdb, Transfer};

const HOSTS: u32 = 8;
/// Counters, a logical block each: two of them share a physical block, so that hosts write beside each other too.
const COUNTERS: [u64; 4] = [0, 1, 600, 8192];
/// Increments by each host.
const INCREMENTS: usize = 60;
/// What is overwritten: across three extents, beginning and ending within a block.
const FIRST: u64 = 8 * 512 - 5;
const COUNT: u32 = 2 * 512 + 11;
/// Writes of it by each host.
const WRITES: u64 = 40;

const MISCOMPARE: u8 = 0x0e;
/// It may have taken effect or not, and will not any more.
const ABORTED_COMMAND: u8 = 0x0b;

/// Sent again where the target says so: the command had no effect then (M18).
#[track_caller]
fn done<T>(command: impl FnMut() -> Result<T, DiskError>) -> Result<T, DiskError> {
    patiently(command, |sense| sense == OTHER_OWNER)
}

/// A block that says the same everywhere.
fn filled(value: u64, blocks: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(64 * blocks)
}

/// The value of blocks that say the same everywhere.
#[track_caller]
fn value_of(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0;
    let torn = words.iter().position(|word| *word != words[0]);
    assert_eq!(torn, None, "torn: {:?} and {:?}", words[0], torn.map(|at| words[at]));
    u64::from_le_bytes(words[0])
}

/// What each host added to a counter: a word for each, again and again to the end of the block.
type Counts = [u64; HOSTS as usize];

fn block_of(counts: Counts) -> Vec<u8> {
    counts.map(u64::to_le_bytes).concat().repeat(8)
}

#[track_caller]
fn counts_of(bytes: &[u8]) -> Counts {
    let (all, _) = bytes.as_chunks::<{ 8 * HOSTS as usize }>();
    assert!(all.iter().all(|each| *each == all[0]), "torn: {all:?}");
    std::array::from_fn(|host| u64::from_le_bytes(all[0].as_chunks::<8>().0[host]))
}

/// Adds one for this host; whether nobody else added meanwhile.
fn try_add(disk: &mut Disk, counter: u64, name: u32) -> bool {
    let me = name as usize - 1;
    let before = counts_of(&done(|| disk.read(counter, 1)).unwrap());
    let mut after = before;
    after[me] += 1;
    let mut cdb: Cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x89, 1);
    cdb[2..10].copy_from_slice(&counter.to_be_bytes());
    let both = [block_of(before), block_of(after)].concat();
    match done(|| disk.run("COMPARE AND WRITE", cdb, Transfer::Out(both.clone()))) {
        Ok(_) => true,
        Err(DiskError::Status { sense: Some((MISCOMPARE, ..)), .. }) => false,
        // Nobody else adds for this host, so the block tells.
        Err(DiskError::Status { sense: Some((ABORTED_COMMAND, ..)), .. }) => {
            counts_of(&done(|| disk.read(counter, 1)).unwrap())[me] == after[me]
        }
        Err(error) => panic!("{error}"),
    }
}

fn work(disk: &mut Disk, name: u32) {
    let mut added = 0;
    let mut written = 0;
    while added < INCREMENTS || written < WRITES {
        if added < INCREMENTS && try_add(disk, COUNTERS[added % COUNTERS.len()], name) {
            added += 1;
        }
        if written < WRITES {
            written += 1;
            let value = u64::from(name) << 32 | written;
            done(|| disk.write(FIRST, filled(value, COUNT as usize))).unwrap();
            let seen = done(|| disk.read(FIRST, COUNT)).unwrap();
            for (at, block) in seen.chunks(512).map(value_of).enumerate() {
                assert!(
                    block >> 32 != u64::from(name) || block == value,
                    "an older write of our own came back: {block:x} after {value:x} in block {at}"
                );
            }
        }
    }
}

/// SET TARGET PORT GROUPS, there and back, until all is done; how often.
fn move_owner(disk: &mut Disk, is_over: &AtomicBool) -> usize {
    let mut moves = 0;
    while !is_over.load(Ordering::Relaxed) {
        let groups = done(|| disk.port_groups()).unwrap();
        done(|| disk.make_optimized(groups[moves % 2].number)).unwrap();
        moves += 1;
    }
    moves
}

#[test]
fn no_update_is_lost_no_block_is_torn_and_no_write_stays_in_part() {
    let mut pair = Pair::new();
    done(|| host(&pair.one, 0).write(FIRST, filled(0, COUNT as usize))).unwrap();
    let mut disks: Vec<Disk> =
        (1..=HOSTS).map(|name| host(if name % 2 == 0 { &pair.one } else { &pair.other }, name)).collect();
    let mut mover = host(&pair.one, 99);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let moving = scope.spawn(|| move_owner(&mut mover, &is_over));
        let workers: Vec<_> = (1..).zip(&mut disks).map(|(name, disk)| scope.spawn(move || work(disk, name))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        drop(ends);
        assert!(moving.join().unwrap() > 2, "the owner moved");
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let expected = [(INCREMENTS / COUNTERS.len()) as u64; HOSTS as usize];
    for counter in COUNTERS {
        assert_eq!(counts_of(&done(|| disks[0].read(counter, 1)).unwrap()), expected);
    }
    let last = value_of(&done(|| disks[0].read(FIRST, COUNT)).unwrap());
    assert_ne!(last, 0, "one write, the same in all its blocks");
    drop((disks, mover));
    // Each image alone says so.
    wait_until("both in sync", || in_sync(&pair.one) == 2);
    let all = [true, false].map(|is_first| {
        let (goes, stays) = if is_first { (&mut pair.one, &pair.other) } else { (&mut pair.other, &pair.one) };
        goes.stop();
        let all = done(|| host(stays, 1).read_all()).unwrap();
        goes.start();
        wait_until("both in sync again", || in_sync(stays) == 2);
        all
    });
    assert!(all[0] == all[1], "the images differ");
}
