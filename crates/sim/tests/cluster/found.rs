//! Runs that once broke a rule, kept as data: what they do does not change when seeds come to mean something else. To get
//! one: `cargo run --release -p dyad-sim --example plan FIRST_SEED` on the code that breaks the rule.

use dyad_cluster::{AckPolicy, OnFew};
use dyad_sim::cluster::{Aim, Beats, Campaign, DiskFault, Fault, FaultKind, Outcome, Plan, Trigger};

pub fn fault(at: u64, trigger: Trigger, aim: Aim, kind: FaultKind, lasts: u64, seed: u64) -> Fault {
    Fault { at, trigger, aim, kind, lasts, seed }
}

/// What most runs have in common; the rest is to be said.
pub fn ordinary() -> Plan {
    Plan {
        seed: 0,
        nodes: 0,
        images: 0,
        segments: 1,
        regions: 0,
        unit: 0,
        disk_bytes: 0,
        log_bytes: 0,
        ppm_bound: 1000,
        is_beyond_bound: false,
        policy: AckPolicy::default(),
        interval: 0,
        hosts: Vec::new(),
        quota: 0,
        until: 0,
        faults: Vec::new(),
        skipped: Vec::new(),
    }
}

/// Plays it, which breaks no rule any more.
pub fn passes(plan: Plan) -> Outcome {
    let outcome = Campaign::default().play(plan, false);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    outcome
}

/// One node's power fails amid a write, it is back before the next owner serves, and its stream opens a moment earlier
/// than the segment is served: the owner looked for images that could catch up while it did not serve yet, and never
/// again. The image stayed stale for ever (M13).
#[test]
fn an_image_that_was_there_before_the_owner_served_catches_up() {
    let plan = Plan {
        seed: 48,
        nodes: 3,
        images: 3,
        regions: 1,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 64 << 10,
        interval: 100,
        hosts: vec![0],
        quota: 12,
        until: 3_164_062_500,
        faults: vec![Fault {
            at: 617_000_000,
            trigger: Trigger::Writing,
            aim: Aim::Owner,
            kind: FaultKind::PowerLoss,
            lasts: 290_000_000,
            seed: 2_868_262_472_617_598_537,
        }],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("image joined (M16)") > 0, "it came back by a resync");
}

/// Two images catch up from one whose disk fails all reads: blocks that none could give are left bad (M15). Then the source's
/// disk fails a write, another node takes over with a suspect extent, no image verifies those blocks, and they were
/// adopted as they lay there (P8): zeros in place of what hosts had written.
#[test]
fn a_block_that_a_resync_left_bad_is_never_adopted() {
    let isolation = FaultKind::Isolation { store: true, hosts: false, beats: Beats::Late };
    let all_reads = FaultKind::DiskFails { kind: DiskFault::Read, times: u64::MAX };
    let one_write = FaultKind::DiskFails { kind: DiskFault::Durable, times: 1 };
    let plan = Plan {
        seed: 5135,
        nodes: 3,
        images: 3,
        segments: 2,
        regions: 1,
        unit: 512,
        disk_bytes: 12 << 20,
        log_bytes: 24 << 10,
        interval: 1000,
        hosts: vec![0, 1],
        quota: 536,
        until: 11_000_000_000,
        faults: vec![
            fault(999_000_000, Trigger::Resyncing, Aim::Follower, isolation, 2_615_000_000, 12_424_378_733_767_060_179),
            fault(4_015_000_000, Trigger::Time, Aim::Follower, FaultKind::DiskStuck, 0, 0),
            fault(
                4_050_000_000,
                Trigger::Resyncing,
                Aim::Follower,
                all_reads,
                2_079_000_000,
                2_556_404_083_210_638_541,
            ),
            fault(
                5_124_000_000,
                Trigger::Resyncing,
                Aim::Owner,
                FaultKind::Pause,
                1_791_000_000,
                16_725_755_342_816_047_493,
            ),
            fault(9_132_000_000, Trigger::Time, Aim::Behind, one_write, 393_000_000, 8_595_183_522_470_037_965),
        ],
        skipped: vec![1],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("unreadable at the source (M15)") > 0, "blocks were left bad");
}

/// An owner's disk is stuck, so it proposes that the other node becomes owner (M8), and then reaches neither that node nor the
/// store for a while. Writes were answered by WRITE FAULT when the store had accepted: the image of the next owner was the
/// last one, and could not be asked. They are to come again there. (Seed 90007480.)
#[test]
fn no_write_fails_at_an_owner_that_is_about_to_leave() {
    let isolation = FaultKind::Isolation { store: true, hosts: false, beats: Beats::Lost };
    let broken = FaultKind::LinkBreak { other: 2 };
    let plan = Plan {
        seed: 90_007_480,
        nodes: 3,
        images: 2,
        regions: 1,
        unit: 512,
        disk_bytes: 8 << 20,
        log_bytes: 256 << 10,
        interval: 100,
        hosts: vec![0, 1, 2],
        quota: 81,
        until: 3_559_570_312,
        faults: vec![
            fault(
                1_619_000_000,
                Trigger::Writing,
                Aim::Owner,
                FaultKind::DiskStuck,
                1_994_000_000,
                10_098_475_395_944_303_238,
            ),
            fault(1_891_000_000, Trigger::Writing, Aim::Follower, broken, 0, 10_894_379_570_419_958_603),
            fault(2_476_000_000, Trigger::Time, Aim::Owner, isolation, 307_000_000, 13_328_619_924_710_711_879),
        ],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("taken out: slow (M8)") > 0, "the owner left");
}

/// A machine loses its power with nothing marked, so that its image has everything, stays in the set, and takes more writes.
/// Asked after that, it said that it had forgotten. When the owner's machine lost its power within the same interval, both
/// counted as forgetful, and the owner's older blocks won over what hosts had been told is written (M11).
#[test]
fn an_image_that_had_nothing_to_forget_never_forgets_later() {
    let plan = Plan {
        seed: 70_015_527,
        nodes: 2,
        images: 2,
        regions: 2,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 24 << 10,
        interval: 300,
        hosts: vec![1, 2],
        quota: 60,
        until: 4_429_687_500,
        faults: vec![
            fault(
                972_000_000,
                Trigger::Writing,
                Aim::Behind,
                FaultKind::Promote,
                49_000_000,
                8_484_615_614_776_978_389,
            ),
            fault(
                3_306_000_000,
                Trigger::Writing,
                Aim::Node(0),
                FaultKind::StoreFlaky,
                66_000_000,
                16_056_710_343_657_130_158,
            ),
            fault(
                3_669_000_000,
                Trigger::Time,
                Aim::Node(1),
                FaultKind::PowerLoss,
                110_000_000,
                11_530_094_460_736_786_240,
            ),
            fault(
                3_984_000_000,
                Trigger::Time,
                Aim::Behind,
                FaultKind::EmptyDisk,
                5_583_000_000,
                650_999_900_520_438_592,
            ),
            fault(
                3_994_000_000,
                Trigger::Writing,
                Aim::Owner,
                FaultKind::EmptyDisk,
                2_983_000_000,
                3_023_243_098_028_270_171,
            ),
        ],
        skipped: vec![4, 1, 0],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("fault: power loss") > 0, "memory was lost");
}

/// The process of the only image in sync dies, and the disk's syncs fail: its pool cannot be opened, and the kernel has told
/// what it could not write. The next opening's first sync succeeded, and acknowledged writes that were gone were believed (P11).
#[test]
fn what_a_failed_opening_heard_from_the_disk_is_not_forgotten() {
    let cut = FaultKind::CutOneWay { other: 1, inward: false, beats: Beats::Late };
    let all_syncs = FaultKind::DiskFails { kind: DiskFault::Sync, times: u64::MAX };
    let amid_call = FaultKind::ProcessCrash { amid: true };
    let crash = FaultKind::ProcessCrash { amid: false };
    let drift = FaultKind::Drift { ppm: 690 };
    let plan = Plan {
        seed: 510_050_808,
        nodes: 2,
        images: 2,
        regions: 3,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 64 << 10,
        interval: 3000,
        hosts: vec![0],
        quota: 1734,
        until: 15_000_000_000,
        faults: vec![
            fault(1_805_000_000, Trigger::Writing, Aim::Owner, amid_call, 349_000_000, 14_600_744_014_828_931_575),
            fault(1_805_000_000, Trigger::Equalising, Aim::Owner, drift, 1_839_000_000, 13_925_002_974_808_949_017),
            fault(
                3_196_000_000,
                Trigger::Resyncing,
                Aim::Owner,
                FaultKind::Pause,
                1_037_000_000,
                6_929_757_048_701_560_530,
            ),
            fault(3_249_000_000, Trigger::Time, Aim::Follower, cut, 4_267_000_000, 1_239_597_936_652_237_498),
            fault(4_403_000_000, Trigger::Resyncing, Aim::Owner, all_syncs, 3_431_000_000, 6_072_946_910_133_701_764),
            fault(4_419_000_000, Trigger::Resyncing, Aim::Follower, crash, 206_000_000, 1_693_321_643_916_137_770),
        ],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("fault: disk fails syncs") > 0, "the opening hears of it");
}

/// An image that catches up has joined, but the owner cannot reach the store to hear so (M16, M7). Its own disk fails all that is
/// to be durable, so a write fails there; the image that joins has it. The host was told that it failed, and read what was there
/// before; the other node followed, and the write was there (M19). Nothing is revealed any more until the owner knows.
#[test]
fn a_write_that_failed_amid_a_joining_is_not_shown_to_be_away_before_it_is() {
    let all_durable = FaultKind::DiskFails { kind: DiskFault::Durable, times: u64::MAX };
    let crash = FaultKind::ProcessCrash { amid: false };
    let plan = Plan {
        seed: 2_100_034_396,
        nodes: 2,
        images: 2,
        regions: 3,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 64 << 10,
        interval: 300,
        hosts: vec![1, 2],
        quota: 168,
        until: 3_164_062_500,
        faults: vec![
            fault(941_000_000, Trigger::Resyncing, Aim::Owner, all_durable, 2_402_000_000, 7_721_403_761_220_301_305),
            fault(1_018_000_000, Trigger::Writing, Aim::Follower, crash, 368_000_000, 3_910_481_566_334_953_451),
            fault(
                1_038_000_000,
                Trigger::Joined,
                Aim::Behind,
                FaultKind::StoreCut,
                2_694_000_000,
                16_422_172_579_909_366_493,
            ),
        ],
        ..ordinary()
    };
    passes(plan);
}

/// All machines lose their power; the owner serves again, acknowledges writes before all is compared, and loses its power again.
/// No image had everything, so all counted as alike, and what the restarted one still had, first in the record, won over
/// acknowledged writes that the others had in memory (M11).
#[test]
fn an_image_that_restarted_again_before_all_was_compared_does_not_win_over_those_that_did_not() {
    let cut = FaultKind::CutOneWay { other: 1, inward: false, beats: Beats::Lost };
    let plan = Plan {
        seed: 2_400_054_277,
        nodes: 3,
        images: 3,
        regions: 3,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 24 << 10,
        policy: AckPolicy { min_in_sync: 2, on_few: OnFew::Wait },
        interval: 1000,
        hosts: vec![0, 1, 2],
        quota: 87,
        until: 8_000_000_000,
        faults: vec![
            fault(1_220_000_000, Trigger::Writing, Aim::Owner, cut, 1_041_000_000, 8_459_690_902_533_130_121),
            fault(
                2_309_000_000,
                Trigger::Closing,
                Aim::Follower,
                FaultKind::PowerLossOfAll,
                1_272_000_000,
                189_024_285_735_610_005,
            ),
            fault(
                2_329_000_000,
                Trigger::Joined,
                Aim::Owner,
                FaultKind::EmptyDisk,
                3_543_000_000,
                9_030_192_476_308_420_041,
            ),
            fault(
                633_869_969,
                Trigger::Time,
                Aim::Node(0),
                FaultKind::SlowNet { most: 300_000_000 },
                6_366_130_031,
                15_929_778_085_870_930_385,
            ),
        ],
        ..ordinary()
    };
    passes(plan);
}

/// Bits of a block changed on one image's disk after its first write, which all had acknowledged and nobody had flushed; then the
/// process died. The recent log named the write, the block did not match it, and no committed bit said that it was ever
/// written: it read as zeros there and as what was written at the other image, both in sync (P6, P7). (Seed 2700013295.)
#[test]
fn a_first_write_that_rotted_before_the_process_died_is_not_taken_for_one_that_never_came() {
    let plan = Plan {
        seed: 2_700_013_295,
        nodes: 2,
        images: 2,
        regions: 1,
        unit: 512,
        disk_bytes: 12 << 20,
        log_bytes: 24 << 10,
        interval: 3000,
        hosts: vec![0],
        quota: 660,
        until: 7_875_000_000,
        faults: vec![
            fault(
                1_815_000_000,
                Trigger::Writing,
                Aim::Follower,
                FaultKind::HandOver,
                382_000_000,
                8_444_100_644_950_690_786,
            ),
            fault(
                2_710_000_000,
                Trigger::Resyncing,
                Aim::Owner,
                FaultKind::Rot,
                354_000_000,
                10_836_369_628_324_552_848,
            ),
            fault(
                2_808_000_000,
                Trigger::Writing,
                Aim::Behind,
                FaultKind::LinkBreak { other: 1 },
                0,
                3_032_856_288_092_499_809,
            ),
            fault(
                2_979_000_000,
                Trigger::Joined,
                Aim::Behind,
                FaultKind::ProcessCrashOfAll,
                234_000_000,
                16_577_538_324_704_416_916,
            ),
            fault(
                3_905_000_000,
                Trigger::Writing,
                Aim::Follower,
                FaultKind::Pause,
                618_000_000,
                14_910_195_939_114_213_435,
            ),
            fault(
                469_055_050,
                Trigger::Time,
                Aim::Owner,
                FaultKind::StoreFlaky,
                12_530_944_950,
                11_792_873_830_115_839_652,
            ),
        ],
        ..ordinary()
    };
    let outcome = passes(plan);
    assert!(outcome.coverage.of("fault: bit rot") > 0, "bits changed");
}

/// Found by the campaign (seed 8700003079): a block that a resync had left bad, because no image had it, was overwritten, and all lost
/// their power before that was durable. Half of its sectors were new, the others the zeros that a bad block has: what matched
/// no checksum was adopted, and hosts read zeros in place of what they had written (M15, P8).
#[test]
fn what_was_bad_before_it_was_torn_stays_bad() {
    let all_reads = FaultKind::DiskFails { kind: DiskFault::Read, times: u64::MAX };
    let cut = FaultKind::CutOneWay { other: 1, inward: true, beats: Beats::Lost };
    let amid = FaultKind::ProcessCrash { amid: true };
    let plan = Plan {
        seed: 8_700_003_079,
        nodes: 2,
        images: 2,
        regions: 1,
        unit: 512,
        disk_bytes: 8 << 20,
        log_bytes: 64 << 10,
        interval: 300,
        hosts: vec![0, 1, 2],
        quota: 470,
        until: 14_000_000_000,
        faults: vec![
            fault(1_905_000_000, Trigger::Writing, Aim::Behind, all_reads, 327_000_000, 1_291_154_396_780_281_835),
            fault(
                1_925_000_000,
                Trigger::Equalising,
                Aim::Owner,
                FaultKind::ProcessCrashOfAll,
                390_000_000,
                10_791_376_712_573_743_312,
            ),
            fault(3_170_000_000, Trigger::Time, Aim::Follower, cut, 997_000_000, 1_318_375_947_608_255_809),
            fault(5_342_000_000, Trigger::Resyncing, Aim::Follower, amid, 989_000_000, 8_972_624_896_728_141_015),
            fault(
                5_476_000_000,
                Trigger::Time,
                Aim::Node(1),
                FaultKind::DiskSlow { factor: 320 },
                3_137_000_000,
                15_664_243_913_880_592_415,
            ),
            fault(
                5_496_000_000,
                Trigger::Copying,
                Aim::Owner,
                FaultKind::PowerLossOfAll,
                3_393_000_000,
                419_155_190_261_296_213,
            ),
        ],
        ..ordinary()
    };
    passes(plan);
}
