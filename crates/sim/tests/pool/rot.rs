//! Bytes of a pool that rests are changed, one at a time: right data, an error, or a refusal; never wrong data (P2, P7).

use std::collections::BTreeMap;

use crate::common::{must, scene};
use dyad_contract::image::{ImageError, Reply};
use dyad_pool::OpenError;
use dyad_sim::disk::Survival;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Stop};
use dyad_sim::restart::Survivor;
use dyad_sim::rng::Rng;
use dyad_units::{Extent, Piece, STATE_EXTENT};

const PAGE: u64 = 4096;
/// Everything before is metadata: superblocks, journal, pages and tables of the smallest disks.
const METADATA_END: u64 = 3 << 20;

#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    damaged: u64,
    whole: u64,
}

/// A pool at rest after some work; `stops` says whether it was stopped as it should be.
fn resting(stops: bool) -> Survivor {
    let mut player = must(Player::new(scene(4096), 21), "set up");
    must(player.run(2500, |_| Ok(())), "work");
    must(player.rest(), "rest");
    for at in 0..player.actors.len() {
        must(player.flush(at), "flush");
        if stops {
            must(player.close(at), "close");
        }
    }
    if stops {
        player.rig.stop().unwrap();
    } else {
        player.rig.come_to_rest();
    }
    player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1))
}

/// Places worth changing: every page that holds anything, headers more densely than the rest.
fn places(survivor: &Survivor, rng: &mut Rng) -> Vec<u64> {
    let mut places = Vec::new();
    let end = survivor.disk.len_bytes();
    for page in (0..end).step_by(PAGE as usize) {
        if survivor.disk.durable(page, PAGE as usize).iter().all(|&byte| byte == 0) {
            continue;
        }
        let (header, body) = if page < METADATA_END { (8, 8) } else { (1, 1) };
        places.extend((0..header).map(|_| page + rng.below(64)));
        places.extend((0..body).map(|_| page + rng.below(PAGE)));
    }
    places
}

/// Opens the pool and reads everything that it should hold.
fn judge(survivor: Survivor, outcomes: &mut Outcomes) -> Result<(), Stop> {
    let mut rng = Rng::new(3);
    let extents: Vec<Extent> = survivor.extents().chain([STATE_EXTENT]).collect();
    let mut player = match survivor.open_damaged(&mut rng)? {
        Ok(player) => player,
        Err(error) => {
            assert!(!matches!(error, OpenError::Disk(_)), "the disk is fine: {error:?}");
            outcomes.refused += 1;
            return Ok(());
        }
    };
    player.expect_rot();
    let mut is_whole = true;
    for at in 0..player.actors.len() {
        for &extent in &extents {
            for first in (0..64).step_by(16) {
                let piece = Piece::new(extent, first, 16).unwrap();
                match player.look(at, piece)? {
                    Reply::Data(data) => player.actors[at].1.model.observe(piece, &data.to_vec())?,
                    Reply::Failed(ImageError::Damaged { .. } | ImageError::Lost { .. }) => is_whole = false,
                    reply => panic!("{piece:?}: {reply:?}"),
                }
            }
        }
    }
    *if is_whole { &mut outcomes.whole } else { &mut outcomes.damaged } += 1;
    Ok(())
}

fn flip_everywhere(stops: bool) {
    let resting = resting(stops);
    let mut rng = Rng::new(2);
    let mut outcomes = Outcomes::default();
    judge(resting.copy(), &mut outcomes).unwrap();
    assert_eq!(outcomes.whole, 1, "without a change all is well: {outcomes:?}");
    let places = places(&resting, &mut rng);
    for &place in &places {
        let mut survivor = resting.copy();
        survivor.disk.flip(place, 1 << rng.below(8));
        if let Err(stop) = judge(survivor, &mut outcomes) {
            panic!("byte {place} changed: {stop:?}");
        }
    }
    assert!(outcomes.damaged > 20 && outcomes.whole > 20, "{outcomes:?}");
}

#[test]
fn a_changed_byte_of_a_stopped_pool_is_never_wrong_data() {
    flip_everywhere(true);
}

#[test]
fn a_changed_byte_of_a_pool_that_was_not_stopped_is_never_wrong_data() {
    flip_everywhere(false);
}

/// Both homes of one thing at once, or any two others: still never wrong data.
#[test]
fn two_changed_pages_are_never_wrong_data() {
    let resting = resting(true);
    let mut rng = Rng::new(4);
    let pages: Vec<u64> = (0..METADATA_END)
        .step_by(PAGE as usize)
        .filter(|&page| resting.disk.durable(page, PAGE as usize).iter().any(|&byte| byte != 0))
        .collect();
    // Homes of one page begin alike.
    let mut alike: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    for &page in &pages {
        alike.entry(resting.disk.durable(page, 8)).or_default().push(page);
    }
    let twins = alike.values().filter(|pages| pages.len() == 2).map(|pages| (pages[0], pages[1]));
    let random = (0..200).map(|_| (pages[rng.index(pages.len())], pages[rng.index(pages.len())]));
    let mut outcomes = Outcomes::default();
    let pairs: Vec<_> = twins.chain(random).collect();
    for (one, other) in pairs {
        let mut survivor = resting.copy();
        survivor.disk.flip(one + rng.below(PAGE), 0x10);
        survivor.disk.flip(other + rng.below(PAGE), 0x20);
        if let Err(stop) = judge(survivor, &mut outcomes) {
            panic!("pages at {one} and {other} changed: {stop:?}");
        }
    }
    assert!(outcomes.whole + outcomes.damaged > 20, "{outcomes:?}");
}

/// The journal is only read to its end where it was written last: a change before is damage (P2).
#[test]
fn a_stale_half_of_the_disk_is_never_wrong_data() {
    let mut player = must(Player::new(scene(4096), 22), "set up");
    must(player.run(1500, |_| Ok(())), "work");
    must(player.rest(), "rest");
    player.flush(0).unwrap();
    let old = player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1));
    must(player.run(1500, |_| Ok(())), "more work");
    must(player.rest(), "rest");
    for at in 0..player.actors.len() {
        must(player.close(at), "close");
    }
    player.rig.stop().unwrap();
    let new = player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1));
    let mut outcomes = Outcomes::default();
    let mut rng = Rng::new(5);
    // One page of metadata is as it was a while ago: a write that the disk answered and dropped.
    for page in (0..METADATA_END).step_by(PAGE as usize) {
        let then = old.disk.durable(page, PAGE as usize);
        if then == new.disk.durable(page, PAGE as usize) {
            continue;
        }
        let mut survivor = new.copy();
        survivor.disk.put_back(page, &then);
        if let Err(stop) = judge(survivor, &mut outcomes) {
            panic!("page at {page} is stale: {stop:?}");
        }
        let _ = rng.bits();
    }
    assert!(outcomes.whole > 0, "{outcomes:?}");
}
