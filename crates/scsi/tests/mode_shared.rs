//! What a host sets by MODE SELECT holds at every node from the answer on (M20), whoever is asked and whatever came before.

mod common;

use common::cluster::Cluster;
use common::play::{A, B, C, Play, TEST_UNIT_READY};
use common::{good, sense};

const SOFTWARE_PROTECTED: (u8, u8, u8) = (7, 0x27, 2);
const MODE_CHANGED: (u8, u8, u8) = (6, 0x2a, 1);
const SELECT_CONTROL: [u8; 6] = [0x15, 0x10, 0, 0, 16, 0];

/// The Control page with this SWP, as MODE SELECT(6) takes it.
fn control(swp: u8) -> [u8; 16] {
    let mut list = [0; 16];
    (list[4], list[5], list[6], list[7], list[8]) = (0x0a, 10, 0x02, 0x10, swp);
    (list[12], list[13]) = (0xff, 0xff);
    list
}

/// The very next write at the other node is refused, although that node knew of nothing; and everybody but the sender is told.
#[test]
fn protection_set_at_one_node_holds_at_the_other() {
    let mut cluster = Cluster::new(2, 3);
    for at in [A, B, C] {
        good(cluster.write(at));
    }
    good(cluster.run(A, &SELECT_CONTROL, &control(0x08)));
    assert_eq!(sense(&cluster.write(C)), MODE_CHANGED);
    assert_eq!(sense(&cluster.write(C)), SOFTWARE_PROTECTED);
    assert_eq!(sense(&cluster.write(B)), MODE_CHANGED);
    assert_eq!(sense(&cluster.write(A)), SOFTWARE_PROTECTED, "the sender is told nothing");
    good(cluster.read(C));
    // Cleared at the other one, and the first one believes no copy of its own.
    good(cluster.run(C, &SELECT_CONTROL, &control(0)));
    assert_eq!(sense(&cluster.write(A)), MODE_CHANGED);
    good(cluster.write(A));
    good(cluster.write(C));
}

/// M9, M12: another owner is no reset; a reset at any node is one for all.
#[test]
fn protection_outlives_the_owner_and_ends_with_a_reset() {
    let mut cluster = Cluster::new(2, 3);
    good(cluster.run(C, &SELECT_CONTROL, &control(0x08)));
    cluster.next_epoch();
    cluster.bring_state(0);
    while let status = cluster.run(A, &TEST_UNIT_READY, &[])
        && status.sense.is_some()
    {
        assert_eq!(sense(&status), MODE_CHANGED);
    }
    assert_eq!(sense(&cluster.write(A)), SOFTWARE_PROTECTED);
    cluster.reset(0);
    assert_eq!(sense(&cluster.write(A)), (6, 0x29, 3));
    good(cluster.write(A));
    assert_eq!(sense(&cluster.write(C)), (6, 0x29, 3));
    good(cluster.write(C));
}
