//! LOGICAL UNIT RESET where there are other nodes (M19).
//!
//! What broke: a reset was answered while commands that other nodes had forwarded still waited for their locks, to be executed
//! afterwards; and it was answered "complete" although nobody could be told of it, without an owner. What a lost session
//! had reserved by RESERVE stayed reserved for ever, where the owner was away at the moment of the loss.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{LOGICAL_UNIT_RESET, Options, TmfOutcome, Transfer};

use super::message::{Message, Part};
use super::tests::cast::Stage;
use super::tests::cast::pair::{Pair, Sense, host, patiently, wait_until};

/// T.
const LOCK_TIME: Duration = Duration::from_secs(3);
const REJECTED: TmfOutcome = TmfOutcome(255);
const RESERVE: [u8; 16] = [0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const IS_RESET: Sense = (6, 0x29, 3);

#[test]
fn a_reset_is_answered_when_nothing_that_was_forwarded_before_can_begin() {
    let pair = Pair::new();
    for stage in [&pair.one, &pair.other] {
        let mut disk = host(stage, 1);
        patiently(|| disk.read(0, 8), |_| true).unwrap();
        let begun = Instant::now();
        assert_eq!(disk.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE);
        assert!(begun.elapsed() >= LOCK_TIME, "after {:?}", begun.elapsed());
    }
}

/// A host of this number at a node that forwards.
fn login(stage: &Stage, number: u32) -> Disk {
    let initiator = format!("iqn.2026-11.example:host{number}");
    let mut found = None;
    wait_until("a login", || {
        found = Disk::open(&Options { initiator: initiator.clone(), session: number, ..stage.login("w") }).ok();
        found.is_some()
    });
    let mut disk = found.unwrap();
    patiently(|| disk.read(0, 8), |_| true).unwrap();
    disk
}

#[test]
fn without_an_owner_a_reset_is_not_done_and_a_lost_reservation_ends_later() {
    let pair = Pair::new();
    pair.one.add_volume("w", &["a"]);
    wait_until("the other node has it", || pair.other.handle().volume("w").is_ok());
    let (mut holder, mut other) = (login(&pair.other, 1), login(&pair.other, 2));
    patiently(|| holder.run("RESERVE(6)", RESERVE, Transfer::None), |_| true).unwrap();
    assert!(matches!(other.read(0, 8), Err(DiskError::Status { status: 0x18, .. })), "a conflict");

    let (go, until) = sync_channel(0);
    pair.one.handle().mailbox.post(Message::Break(Part::Reactor(until)));
    drop(holder);
    assert_eq!(other.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), REJECTED);
    drop(go);

    // What the reset did not reach is repeated by nobody; what was lost is.
    wait_until("the unit is free", || match patiently(|| other.write(0, vec![1; 4096]), |sense| sense == IS_RESET) {
        Ok(()) => true,
        Err(DiskError::Status { status: 0x18, .. }) => false,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(other.session().manage(LOGICAL_UNIT_RESET, None).unwrap(), TmfOutcome::COMPLETE);
}
