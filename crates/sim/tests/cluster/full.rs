//! As `found`: runs with full pools (P15).

use dyad_cluster::{AckPolicy, OnFew};
use dyad_sim::cluster::{Aim, Fault, FaultKind, Plan, Trigger};

use crate::found::{fault, ordinary, passes};

/// A node lost its power amid first writes. Extents came back that had a slot and nothing written in it; the other node's were
/// unmapped meanwhile, so that both read as zeros and nothing was copied or unmapped. The slots were nobody's, the pool stayed
/// full for ever, though as large as the other one (P15). (Seed 2800006238.)
#[test]
fn slots_of_writes_that_never_came_do_not_keep_an_image_out_of_a_full_pool() {
    let loss = fault(
        3_629_000_000,
        Trigger::Time,
        Aim::Follower,
        FaultKind::PowerLoss,
        7_000_000_000,
        13_613_258_027_819_673_205,
    );
    let plan = Plan {
        seed: 2_800_006_238,
        nodes: 3,
        images: 2,
        regions: 3,
        unit: 512,
        disk_bytes: 8 << 20,
        log_bytes: 24 << 10,
        interval: 3000,
        hosts: vec![6],
        quota: 31,
        until: 7_971_750_000,
        faults: vec![loss],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("image joined (M16)") > 0, "it came back by a resync");
}

/// Two segments shared small pools. One's hosts had ended, and its owner held all that was free in every pool as credits for
/// writes that were not to come; the other one's images, out since a pause, found no slot to catch up with, and hosts that
/// wait for a second image waited for ever (P15). Credits are given back by a segment that is idle. (Seed 3200047518.)
#[test]
fn an_idle_segment_does_not_keep_the_last_slots_from_another_ones_image() {
    let plan = Plan {
        seed: 3_200_047_518,
        nodes: 3,
        images: 3,
        segments: 2,
        regions: 2,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 64 << 10,
        policy: AckPolicy { min_in_sync: 2, on_few: OnFew::Wait },
        interval: 1000,
        hosts: vec![0, 1],
        quota: 47,
        until: 12_750_000_000,
        faults: delays_and_a_rot(),
        skipped: vec![5, 4, 3, 1],
        ..ordinary()
    };
    passes(plan);
}

fn delays_and_a_rot() -> Vec<Fault> {
    vec![
        fault(756_000_000, Trigger::Writing, Aim::Owner, FaultKind::Pause, 2_525_000_000, 15_782_263_431_156_055_515),
        fault(
            3_871_000_000,
            Trigger::Writing,
            Aim::Behind,
            FaultKind::LinkBreak { other: 2 },
            0,
            12_215_352_939_262_582_224,
        ),
        fault(
            3_972_000_000,
            Trigger::Writing,
            Aim::Follower,
            FaultKind::TakeOut,
            2_118_000_000,
            15_077_555_283_809_340_137,
        ),
        fault(4_022_000_000, Trigger::Writing, Aim::Behind, FaultKind::Pause, 730_000_000, 7_250_381_785_110_955_305),
        fault(4_263_000_000, Trigger::Resyncing, Aim::Owner, FaultKind::Rot, 1_383_000_000, 13_539_870_920_153_434_986),
        fault(
            5_624_000_000,
            Trigger::Writing,
            Aim::Follower,
            FaultKind::HandOver,
            2_362_000_000,
            10_182_136_166_144_586_802,
        ),
        fault(
            1_341_365_652,
            Trigger::Time,
            Aim::Node(0),
            FaultKind::SlowNet { most: 300_000_000 },
            14_658_634_348,
            11_430_095_035_426_552_487,
        ),
    ]
}
