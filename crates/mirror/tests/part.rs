//! Whole parts on several nodes: who serves, who takes over, what a host sees (M3, M5, M6, M9, M11, M12, M18, M19).

mod part_cast;

use dyad_cluster::{ImageState, OutReason};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_mirror::{Command, ImageIndex, Note, PartNote, PartRole};
use dyad_units::Period;
use part_cast::{StoreMood, World, node_id};

const MS: fn(u64) -> Period = Period::from_millis;

#[test]
fn nodes_that_start_together_agree_on_one_owner_and_serve_by_each_of_them() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    assert_eq!(world.store.owner, Some(node_id(owner)));
    for at in 0..3 {
        world.put(at, at as u64, at as u8 + 1);
    }
    for at in 0..3 {
        for block in 0..3 {
            assert_eq!(world.get(at, block), block as u8 + 1, "through node {at}");
        }
    }
    world.assert_equal_images();
    assert_eq!(world.store.in_sync().count(), 2);
}

/// M9: an owner that is silent is followed after its lease, and nothing acknowledged is missing.
#[test]
fn a_silent_owner_is_followed_within_two_seconds() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.put(2, 7, 42);
    world.crash(owner);
    let before = world.now;
    assert_eq!(world.get(2, 7), 42);
    assert!(world.now.since(before) < Period::from_secs(2), "{}", world.now.since(before));
    let next = world.owner();
    assert_ne!(next, owner);
    assert_eq!(world.state_of(owner).0, ImageState::Stale, "the old owner left the set");
}

/// M5, M6: a paused owner that comes back reads nothing old: its leases ran out with the pause.
#[test]
fn an_owner_that_was_paused_answers_nothing_stale() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.put(owner, 3, 1);
    world.pause(owner);
    world.put(2, 3, 2);
    assert_ne!(world.owner(), owner);
    let stale = world.read(owner, 3);
    world.resume(owner);
    world.pass(MS(5000));
    assert!(!matches!(world.result(stale), Some(Ok(_))) || world.get(owner, 3) == 2);
    if let Some(Ok(VolumeDone::Data(data))) = world.result(stale) {
        assert_eq!(data.to_vec()[0], 2, "M5: a stale read");
    }
    assert!(world.nodes[owner].closed_sessions > 0, "M19: paused longer than L");
    assert_eq!(world.get(owner, 3), 2);
}

/// M19: broke once (simulator, plays of forwarded commands that are held up): a front that had been stopped forwarded what
/// lay in its sockets in the very call in which it noticed the pause, before the sessions closed. The host had written
/// again through another node by then, and the old write came back.
#[test]
fn a_front_that_was_paused_forwards_nothing_from_before() {
    let mut world = World::serving(2, 1);
    let (owner, front) = (world.owner(), 2);
    world.put(front, 3, 1);
    world.pause(front);
    world.pass(MS(7000));
    world.put(owner, 3, 4);
    world.resume(front);
    // Both lay in the socket; the first is what the part hears first after the pause.
    let stuck = [world.write(front, 3, 2), world.write(front, 3, 3)];
    world.pass(MS(1000));
    assert_eq!(world.get(owner, 3), 4, "M19: a ghost write");
    for write in stuck {
        assert!(matches!(world.result(write), Some(Err(VolumeError::Busy))), "{:?}", world.result(write));
    }
    assert_eq!(world.nodes[front].closed_sessions, 1);
    world.put(front, 3, 5);
    assert_eq!(world.get(owner, 3), 5, "new sessions are served");
}

/// M9: broke once (two real nodes, the owner stopped by a signal, its connection up): the claim took 20 s, because the new
/// owner waited for the word of the old one's image.
#[test]
fn a_paused_owner_whose_connection_stays_up_is_followed_within_two_seconds() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.put(2, 7, 42);
    world.pause(owner);
    let before = world.now;
    assert_eq!(world.get(2, 7), 42);
    assert!(world.now.since(before) < Period::from_secs(2), "{}", world.now.since(before));
}

/// M7: whatever became of a claim, it is found out, and there is one owner.
#[test]
fn a_claim_with_an_unknown_outcome_is_found_out() {
    for mood in [StoreMood::Forgets, StoreMood::Away] {
        let mut world = World::serving(2, 0);
        let owner = world.owner();
        world.put(owner, 1, 9);
        world.crash(owner);
        world.mood = mood;
        world.pass(MS(3000));
        world.mood = StoreMood::Works;
        let other = 1 - owner;
        assert_eq!(world.get(other, 1), 9);
        assert_eq!(world.owner(), other);
    }
}

/// M8: an image that cannot be reached is taken out, and writes go on, in about a second.
#[test]
fn a_lost_image_is_taken_out_and_writes_go_on() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.crash(other);
    let before = world.now;
    world.put(owner, 5, 5);
    assert!(world.now.since(before) < MS(1000), "{}", world.now.since(before));
    assert_eq!(world.state_of(other).0, ImageState::Stale);
    assert_eq!(world.get(owner, 5), 5);
}

/// M3: a connection that breaks for a moment costs no image: what was under way is sent again.
#[test]
fn a_short_break_of_the_connection_costs_nothing() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let id = world.write(owner, 5, 5);
    world.disconnect(0, 1);
    world.pass(MS(50));
    world.connect(0, 1);
    world.pass(MS(50));
    assert!(world.is_done(id), "{:?}", world.result(id));
    assert_eq!(world.store.in_sync().count(), 2);
    world.assert_equal_images();
    assert_eq!(world.owner(), owner);
}

/// M12: a hand-over keeps the set, and takes milliseconds.
#[test]
fn a_hand_over_keeps_the_set() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    let other = 1 - owner;
    world.put(2, 1, 1);
    let id = world.command(owner, Command::HandOver { to: node_id(other) });
    world.pass(MS(300));
    assert_eq!(world.nodes[owner].done.get(&id), Some(&Ok(())));
    assert_eq!(world.owner(), other);
    assert_eq!(world.store.in_sync().count(), 2);
    assert_eq!(world.get(2, 1), 1);
    world.put(owner, 1, 2);
    assert_eq!(world.get(other, 1), 2);
}

/// M12: a node that goes down on purpose lets its segment go at once.
#[test]
fn an_owner_that_stops_is_followed_at_once() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    world.put(owner, 1, 1);
    world.command(owner, Command::Stop);
    world.pass(MS(100));
    assert!(world.nodes[owner].is_stopped);
    world.crash(owner);
    world.pass(MS(250));
    assert_eq!(world.owner(), 1 - owner);
    assert_eq!(world.get(1 - owner, 1), 1);
}

/// P6, M9: all processes end at once; the machines keep everything.
#[test]
fn after_a_crash_of_every_process_everything_acknowledged_is_there() {
    let mut world = World::serving(2, 0);
    world.put(0, 1, 1);
    world.put(1, 2, 2);
    (0..2).for_each(|at| world.crash(at));
    (0..2).for_each(|at| world.start(at));
    world.pass(MS(2000));
    assert_eq!((world.get(0, 1), world.get(1, 2)), (1, 2));
    assert_eq!(world.store.in_sync().count(), 2, "everybody lived through");
    world.assert_equal_images();
}

/// M11: the machines of all images restarted; one may serve by itself.
#[test]
fn after_a_loss_of_power_everywhere_the_segment_is_served_again() {
    let mut world = World::serving(2, 0);
    world.put(0, 1, 1);
    let flush = world.ask(0, VolumeOp::Flush);
    world.pass(MS(100));
    assert!(world.is_done(flush));
    (0..2).for_each(|at| world.lose_power(at));
    (0..2).for_each(|at| world.start(at));
    world.pass(MS(2000));
    assert_eq!(world.get(1, 1), 1);
    assert_eq!(world.store.in_sync().count(), 2);
}

/// M11: the image that forgot does not serve while the one that may remember cannot be asked.
#[test]
fn a_node_that_forgot_waits_for_the_one_that_may_remember() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    world.put(owner, 1, 1);
    world.lose_power(0);
    world.crash(1);
    // The one that forgot comes alone.
    world.start(0);
    world.pass(MS(5000));
    assert_eq!(world.role(0), Some(PartRole::Follower), "{}", world.status(0).sentence);
    assert!(world.status(0).sentence.contains("may have"), "{}", world.status(0).sentence);
    world.start(1);
    world.pass(MS(3000));
    assert_eq!(world.owner(), 1, "the one that lived through");
    assert_eq!(world.get(1, 1), 1);
    let forgot = PartNote::Mirror(Note::TakenOut { image: ImageIndex(0), reason: OutReason::Forgot });
    assert!(world.nodes[1].notes.contains(&forgot), "{:?}", world.nodes[1].notes);
    assert_eq!(world.store.in_sync().count(), 2, "M16: it caught up and joined");
    world.assert_equal_images();
}

/// M18, M19: what went to an owner that is lost is answered busy, not before it can take no effect after a later command.
#[test]
fn what_was_forwarded_to_a_lost_owner_is_answered_busy() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.nodes[1 - owner].is_stuck = true;
    let id = world.write(2, 4, 4);
    world.pass(MS(5));
    assert!(world.result(id).is_none());
    world.crash(owner);
    world.unstick(1 - owner);
    world.pass(MS(4000));
    assert_eq!(world.error(id), Some(VolumeError::Busy));
    world.put(2, 4, 5);
    assert_eq!(world.get(2, 4), 5);
}

/// M19: a forwarded command that the connection held up longer than T is not executed.
#[test]
fn a_forwarded_command_that_comes_too_late_is_not_executed() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.put(2, 4, 1);
    world.held.push((2, owner));
    let ghost = world.write(2, 4, 9);
    world.pass(MS(3500));
    world.put(owner, 4, 2);
    world.let_go();
    world.pass(MS(1000));
    assert_eq!(world.error(ghost), Some(VolumeError::Busy));
    assert_eq!(world.get(owner, 4), 2, "no ghost write");
}

/// One way only: the owner hears nobody, so it loses its leases; somebody serves all the same.
#[test]
fn a_one_way_cut_leaves_one_owner() {
    for deaf in [(0, 1), (1, 0)] {
        let mut world = World::serving(2, 0);
        world.put(0, 1, 1);
        world.deaf.push(deaf);
        world.pass(MS(4000));
        let owner = world.owner();
        assert_eq!(world.get(owner, 1), 1);
        world.put(owner, 1, 2);
        assert_eq!(world.get(owner, 1), 2);
        assert_eq!(world.store.in_sync().count(), 1);
    }
}

/// A partition between the two images: the store decides, one serves.
#[test]
fn a_partition_leaves_one_owner() {
    let mut world = World::serving(2, 0);
    world.put(0, 1, 1);
    world.cut(0, 1);
    world.pass(MS(3000));
    let owner = world.owner();
    world.put(owner, 1, 2);
    assert_eq!(world.get(owner, 1), 2);
    assert_eq!(world.state_of(1 - owner).0, ImageState::Stale);
}

/// M10: by an administrator's word, with the old owner off.
#[test]
fn a_forced_promotion_serves_what_the_image_has() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.put(owner, 1, 1);
    world.crash(other);
    world.put(owner, 1, 2);
    world.lose_power(owner);
    world.start(other);
    world.pass(MS(2000));
    assert_eq!(world.role(other), Some(PartRole::Follower), "its image is stale");
    let id = world.command(other, Command::Promote { image: part_cast::image_id(other) });
    world.pass(MS(2000));
    assert_eq!(world.nodes[other].done.get(&id), Some(&Ok(())));
    assert_eq!(world.owner(), other);
    assert_eq!(world.store.forks.len(), 1);
    assert_eq!(world.state_of(owner).0, ImageState::Detached);
    assert_eq!(world.get(other, 1), 1);
}

/// M10: the administrator's word that the owner is off was wrong: it is only not heard by the node of the image that is
/// promoted. Found by simulation: it still had a lease of a third node, and both answered reads.
#[test]
fn whoever_is_promoted_waits_until_an_owner_that_lives_has_no_lease() {
    let mut world = World::serving(3, 0);
    let owner = world.owner();
    let other = (owner + 1) % 3;
    world.crash(other);
    world.put(owner, 1, 1);
    world.cut(owner, other);
    world.start(other);
    world.pass(MS(3000));
    let id = world.command(other, Command::Promote { image: part_cast::image_id(other) });
    while !world.nodes[other].done.contains_key(&id) {
        world.pass(MS(1));
    }
    assert_eq!(world.nodes[other].done.get(&id), Some(&Ok(())));
    let read = world.read(other, 1);
    world.pass(MS(500));
    assert!(!world.is_done(read), "an answer of the old owner may be on its way");
    world.pass(MS(500));
    assert!(world.is_done(read));
    assert_eq!(world.owner(), other);
}

/// Broke once (review): a part knew the newest record, its node's leases did not, so that a word of an owner before that one voided
/// what the start had promised (M6).
#[test]
fn a_start_knows_the_record_before_it_hears_of_older_ones() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.crash(other);
    world.crash(owner);
    world.start(other);
    world.pass(MS(5));
    let (id, epoch, now) = (world.store.id, world.store.epoch, world.now);
    let older = dyad_units::Epoch::new(epoch.value() - 1);
    world.nodes[other].leases.released(id, node_id(owner), older);
    assert!(world.nodes[other].leases.promised_until(id) > now, "the release is of before epoch {epoch}");
}

/// A promotion whose outcome nobody knew was proposed again for ever, also when its command had long been answered. By then
/// the administrator has mended the network instead, and the old owner goes on: hours later it was overruled.
#[test]
fn a_promotion_is_not_tried_again_when_its_command_was_answered() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.crash(other);
    world.put(owner, 1, 2);
    world.lose_power(owner);
    world.start(other);
    world.pass(MS(2000));
    world.mood = StoreMood::Away;
    let id = world.command(other, Command::Promote { image: part_cast::image_id(other) });
    world.pass(Period::from_secs(31));
    assert_eq!(world.nodes[other].done.get(&id), Some(&Err(dyad_mirror::CommandError::TooLate)));
    world.mood = StoreMood::Works;
    world.pass(Period::from_secs(5));
    assert_eq!(world.store.forks, []);
    assert_eq!(world.store.owner, Some(node_id(owner)));
    // Whoever still wants it says so again.
    let id = world.command(other, Command::Promote { image: part_cast::image_id(other) });
    world.pass(MS(2000));
    assert_eq!(world.nodes[other].done.get(&id), Some(&Ok(())));
    assert_eq!(world.owner(), other);
}

/// M19: an aborted command is answered, and has no effect after that.
#[test]
fn an_abort_of_what_waits_is_answered_at_once() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.crash(owner);
    world.pass(MS(5));
    let id = world.write(2, 9, 9);
    world.abort(2, id);
    assert_eq!(world.error(id), Some(VolumeError::Aborted));
    world.pass(MS(3000));
    assert_eq!(world.get(2, 9), 0);
}

/// An owner that no host asked for anything stopped saying that it ticks after ten seconds, lost its leases and took every
/// other image out.
#[test]
fn an_owner_without_hosts_keeps_its_leases() {
    let mut world = World::serving(2, 0);
    let epoch = world.store.epoch;
    world.pass(Period::from_secs(30));
    assert_eq!(world.store.epoch, epoch, "{:?}", world.store);
    world.put(0, 1, 1);
}

/// M20: reservations are data of the segment: they outlive their owner.
#[test]
fn scsi_state_is_there_after_a_takeover() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    let data = world.payload(b"held by nexus 4");
    let id = world.ask(2, VolumeOp::WriteState { data });
    world.pass(MS(500));
    assert!(world.is_done(id), "{:?}", world.result(id));
    world.crash(owner);
    world.put(2, 1, 1);
    assert_ne!(world.owner(), owner);
    let read = world.ask(2, VolumeOp::ReadState);
    world.pass(MS(500));
    let result = world.result(read);
    let Some(Ok(VolumeDone::Data(kept))) = result else { panic!("{result:?}") };
    assert_eq!(kept.to_vec(), b"held by nexus 4");
}

/// M12: bounded. An image that stands still keeps the hand-over from draining: after a second the old owner goes on, and says
/// so to whoever asked.
#[test]
fn a_hand_over_that_cannot_drain_ends_within_a_second_and_is_said() {
    let mut world = World::serving(3, 1);
    let owner = world.owner();
    let other = (owner + 1) % 3;
    world.tuning.owner.slow = Period::from_secs(3600);
    world.nodes[other].is_stuck = true;
    let stuck = world.write(owner, 1, 1);
    let id = world.command(owner, Command::HandOver { to: node_id((owner + 2) % 3) });
    let waits = world.read(owner, 9);
    world.pass(MS(980));
    assert!(!world.nodes[owner].done.contains_key(&id) && world.result(waits).is_none());
    world.pass(MS(40));
    assert_eq!(world.nodes[owner].done.get(&id), Some(&Err(dyad_mirror::CommandError::TooLate)));
    assert!(world.nodes[owner].notes.contains(&PartNote::Mirror(Note::HandOverFailed)));
    world.unstick(other);
    world.pass(MS(500));
    assert!(world.is_done(stuck) && world.is_done(waits), "it goes on here");
    assert_eq!(world.owner(), owner);
}

/// M12, M7: the store kept the hand-over and its answer was lost. The old owner finds it out, and the new one serves.
#[test]
fn a_hand_over_whose_answer_is_lost_is_found_out() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    let other = 1 - owner;
    world.put(2, 1, 1);
    world.mood = StoreMood::Forgets;
    let id = world.command(owner, Command::HandOver { to: node_id(other) });
    world.pass(MS(50));
    world.mood = StoreMood::Works;
    world.pass(MS(2000));
    assert_eq!(world.nodes[owner].done.get(&id), Some(&Ok(())));
    assert_eq!((world.owner(), world.store.in_sync().count()), (other, 2));
    assert_eq!(world.get(owner, 1), 1);
}

/// M12: the store is away: the outcome is not known, and while it is not nobody answers; then the old owner, or the new one,
/// goes on, with the set kept.
#[test]
fn a_hand_over_without_the_store_is_resumed() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    world.put(2, 1, 1);
    world.mood = StoreMood::Away;
    world.command(owner, Command::HandOver { to: node_id(1 - owner) });
    world.pass(MS(2500));
    world.mood = StoreMood::Works;
    world.pass(MS(1500));
    world.owner();
    assert_eq!(world.store.in_sync().count(), 2);
    world.put(2, 1, 2);
    assert_eq!(world.get(owner, 1), 2);
}
