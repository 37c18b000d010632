//! Reads, writes and syncs that fail (P11, P12): nothing is believed after the first error, nothing lost is hidden.

use crate::common::{must, scene};
use dyad_contract::image::{ImageError, Reply};
use dyad_sim::disk::{Fault, Kind, Survival};
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Stop};
use dyad_sim::rng::Rng;
use dyad_units::{Extent, Piece};

const HAPPENINGS: u32 = 900;

/// The judge of every run refuses a flush that is answered as done after the disk failed a change.
fn fails_at_every(kind: Kind, times: u64, after: impl Fn(Player, &mut Rng) -> Result<(), Stop>) {
    let mut struck = 0;
    for nth in 0..400 {
        let mut player = must(Player::new(scene(4096), 11), "set up");
        player.rig.disk.order(Fault { kind, after: nth, times });
        let what = format!("{kind} number {nth} fails {times} times");
        must(player.run(HAPPENINGS, |_| Ok(())), &what);
        if player.rig.failed().is_none() {
            break;
        }
        struck += 1;
        // Every request is still answered, one way or another.
        must(player.rest(), &what);
        must(after(player, &mut Rng::new(nth)), &what);
    }
    assert!(struck > 5, "only {struck} {kind}s failed");
}

fn recovers_in_a_new_process(player: Player, rng: &mut Rng) -> Result<(), Stop> {
    let mut survivor = player.crash(Crash::Process, Survival::Everything, rng);
    survivor.disk.repair();
    // What the failed sync gave up on is clean in the page cache, and so is gone at any moment.
    survivor.disk.evict_clean();
    let mut player = survivor.recover(rng)?;
    player.run(300, |_| Ok(()))?;
    player.rest()
}

fn recovers_in_a_new_machine(player: Player, rng: &mut Rng) -> Result<(), Stop> {
    let mut survivor = player.crash(Crash::Power, Survival::EachUnit, rng);
    survivor.disk.repair();
    let mut player = survivor.recover(rng)?;
    player.run(300, |_| Ok(()))?;
    player.rest()
}

#[test]
fn after_a_failed_sync_nothing_is_flushed_and_nothing_lost_is_read() {
    fails_at_every(Kind::Sync, 1, recovers_in_a_new_process);
}

#[test]
fn after_a_failed_write_nothing_is_flushed_and_nothing_lost_is_read() {
    fails_at_every(Kind::Write, 1, recovers_in_a_new_process);
}

/// A torn record of the journal is one that was never answered; it must not cost the pool.
#[test]
fn after_a_failed_journal_write_the_pool_opens_again() {
    fails_at_every(Kind::Durable, 1, recovers_in_a_new_process);
    fails_at_every(Kind::Durable, u64::MAX, recovers_in_a_new_process);
}

#[test]
fn a_disk_that_fails_for_good_loses_only_what_was_not_flushed() {
    fails_at_every(Kind::Sync, u64::MAX, recovers_in_a_new_machine);
    fails_at_every(Kind::Write, u64::MAX, recovers_in_a_new_machine);
}

#[test]
fn a_power_cut_after_a_failed_sync_leaves_a_pool_that_opens() {
    fails_at_every(Kind::Sync, 1, recovers_in_a_new_machine);
    fails_at_every(Kind::Durable, 1, recovers_in_a_new_machine);
}

/// P12: an extent that was lost gives an error, in this process and in the next, until it is written as a whole.
#[test]
fn a_lost_extent_is_never_read_as_unmapped_and_heals_when_it_is_written_as_a_whole() {
    let mut player = must(Player::new(scene(4096), 12), "set up");
    let piece = Piece::new(Extent(1), 4, 2).unwrap();
    must(player.write(0, piece), "write");
    player.rig.disk.order(Fault { kind: Kind::Sync, after: 0, times: 1 });
    must(player.flush(0), "a flush that fails");
    assert_lost(&mut player, piece);
    let lost = |player: &Player| player.rig.pool.usage().extents_lost;
    assert_eq!(lost(&player), 1);

    for _ in 0..2 {
        let mut survivor = player.crash(Crash::Process, Survival::Everything, &mut Rng::new(1));
        survivor.disk.evict_clean();
        player = must(survivor.recover(&mut Rng::new(2)), "recover");
        assert_lost(&mut player, piece);
        assert_eq!(lost(&player), 1);
    }
    let whole = Piece::whole(Extent(1));
    must(player.write(0, whole), "write all of it");
    assert_eq!(lost(&player), 0);
    must(player.flush(0), "flush");
    assert!(matches!(must(player.look(0, whole), "read"), Reply::Data(_)));
    let survivor = player.crash(Crash::Power, Survival::Nothing, &mut Rng::new(3));
    let mut player = must(survivor.recover(&mut Rng::new(4)), "recover");
    assert!(matches!(must(player.look(0, whole), "read"), Reply::Data(_)));
}

fn assert_lost(player: &mut Player, piece: Piece) {
    let reply = must(player.look(0, piece), "read");
    assert!(matches!(reply, Reply::Failed(ImageError::Lost { .. })), "{reply:?}");
}

/// A read that fails says so and poisons nothing.
#[test]
fn a_failed_read_is_told_and_forgotten() {
    let mut player = must(Player::new(scene(4096), 13), "set up");
    let piece = Piece::new(Extent(2), 0, 8).unwrap();
    must(player.write(0, piece), "write");
    player.rig.disk.order(Fault { kind: Kind::Read, after: 0, times: 1 });
    let reply = must(player.look(0, piece), "read");
    assert!(matches!(reply, Reply::Failed(ImageError::Unreadable)), "{reply:?}");
    must(player.read(0, piece), "read again");
    must(player.flush(0), "flush");
    assert!(!player.rig.pool.usage().poisoned);
}

/// P7: broke once (review): a page of checksums that could not be read, once, was taken for one that was never written, and the
/// next flush wrote it so: six other extents of the page could not be read any more.
#[test]
fn a_page_of_checksums_that_cannot_be_read_at_once_is_not_given_up() {
    let mut player = must(Player::new(scene(4096), 16), "set up");
    let extents = || (0..4).map(|extent| Piece::new(Extent(extent), 0, 2).unwrap());
    for piece in extents() {
        must(player.write(0, piece), "write");
    }
    must(player.flush(0), "flush");
    must(player.close(0), "close");
    for nth in 0..6 {
        // Nothing is suspect, so nothing is read before it is asked for.
        let mut survivor = player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1));
        survivor.disk.evict_clean();
        let mut player = must(survivor.recover(&mut Rng::new(2)), "recover");
        player.rig.disk.order(Fault { kind: Kind::Read, after: nth, times: 1 });
        must(player.write(0, Piece::new(Extent(0), 1, 1).unwrap()), "write one block");
        must(player.flush(0), "flush");
        player.rig.disk.repair();
        for piece in extents() {
            must(player.read(0, piece), "read what was flushed");
        }
    }
}

/// Reads that fail while the pool opens are told; once the disk reads again, all is there.
#[test]
fn a_disk_that_cannot_be_read_while_opening_is_refused_and_opens_later() {
    let mut player = must(Player::new(scene(4096), 14), "set up");
    must(player.run(600, |_| Ok(())), "work");
    let mut rng = Rng::new(5);
    for nth in 0..40 {
        let mut survivor = player.crash(Crash::Process, Survival::Everything, &mut rng);
        survivor.disk.order(Fault { kind: Kind::Read, after: nth, times: 1 });
        survivor.disk.order(Fault { kind: Kind::Sync, after: u64::MAX, times: 1 });
        let (disk, log) = (survivor.disk.copy(), survivor.log.after_process_crash());
        let _refused_or_not = dyad_sim::rig::Rig::open(disk, log).map(|_| ());
        survivor.disk.repair();
        must(survivor.recover(&mut rng), "open later");
    }
}
