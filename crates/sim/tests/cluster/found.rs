//! Runs that once broke a rule, kept as data: what they do does not change when seeds come to mean something else. To get
//! one: `cargo run --release -p dyad-sim --example plan FIRST_SEED` on the code that breaks the rule.

use dyad_cluster::AckPolicy;
use dyad_sim::cluster::{Aim, Campaign, Fault, FaultKind, Plan, Trigger};

/// One node's power fails amid a write, it is back before the next owner serves, and its stream opens a moment earlier
/// than the segment is served: the owner looked for images that could catch up while it did not serve yet, and never
/// again. The image stayed stale for ever (M13).
#[test]
fn an_image_that_was_there_before_the_owner_served_catches_up() {
    let plan = Plan {
        seed: 48,
        nodes: 3,
        images: 3,
        segments: 1,
        regions: 1,
        unit: 4096,
        disk_bytes: 12 << 20,
        log_bytes: 64 << 10,
        ppm_bound: 1000,
        is_beyond_bound: false,
        policy: AckPolicy::default(),
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
        skipped: Vec::new(),
    };
    let outcome = Campaign::default().play(plan, false);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    assert!(outcome.coverage.of("image joined (M16)") > 0, "it came back by a resync");
}
