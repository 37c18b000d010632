use dyad_units::{Bytes, Moment, NodeId, Period, PoolId};

use super::{Away, Failback, PlaceError, PoolView, Wanted, failback, place};
use crate::change::Change;
use crate::segment::SegmentRecord;
use crate::state::OutReason;
use crate::testing::{image, segment};

fn node(at: u8) -> NodeId {
    NodeId::from_bytes([at; 16])
}

fn pool(at: u8) -> PoolId {
    PoolId::from_bytes([20 + at; 16])
}

fn at(seconds: u64) -> Moment {
    Moment::START + Period::from_secs(seconds)
}

/// Pool `of` on node `on` at a site, with so many GiB free of 100.
fn view(of: u8, on: u8, site: &str, free: u64) -> PoolView {
    PoolView {
        pool: pool(of),
        node: node(on),
        site: site.parse().unwrap(),
        total: Bytes::gib(100),
        free: Bytes::gib(free),
        provisioned: Bytes::gib(100 - free),
        owned: 0,
        is_usable: true,
    }
}

/// One image of 1 GiB, in pool 0 on node 1.
fn lone() -> SegmentRecord {
    segment(1)
}

fn chosen(segment: &SegmentRecord, pools: &[PoolView]) -> Result<PoolId, PlaceError> {
    place(&Wanted { segment, used: Bytes::gib(1) }, pools).map(|(_, pool)| pool)
}

#[test]
fn an_image_goes_to_another_site_then_another_node_then_where_there_is_room() {
    let here = view(0, 1, "a", 50);
    let (same_node, same_site) = (view(1, 1, "a", 99), view(2, 2, "a", 60));
    let (far, far_full) = (view(3, 3, "b", 30), view(4, 4, "b", 20));
    let all = [here.clone(), same_node.clone(), same_site.clone(), far.clone(), far_full.clone()];
    assert_eq!(chosen(&lone(), &all), Ok(pool(3)), "the other site, more free");
    assert_eq!(chosen(&lone(), &all[..3]), Ok(pool(2)), "the other node");
    assert_eq!(chosen(&lone(), &all[..2]), Ok(pool(1)), "better than none");
    assert_eq!(chosen(&lone(), &all[..1]), Err(PlaceError::NoOtherPool));
    let away = PoolView { is_usable: false, ..far };
    assert_eq!(chosen(&lone(), &[here.clone(), away, far_full]), Ok(pool(4)));
    let tight = view(5, 5, "c", 5);
    assert_eq!(chosen(&lone(), &[here.clone(), tight]), Err(PlaceError::NoSpace { needed: Bytes::gib(1) }));
    let busy = PoolView { owned: 9, ..view(6, 6, "b", 30) };
    assert_eq!(chosen(&lone(), &[here, busy, view(7, 7, "b", 30)]), Ok(pool(7)), "the one that owns less");
}

#[test]
fn a_detached_image_does_not_count() {
    let gone = Change::TakeOut { image: image(1), reason: OutReason::Asked };
    let record = segment(2).changed(&[gone, Change::Detach { image: image(1) }]).unwrap();
    assert_eq!(chosen(&record, &[view(0, 1, "a", 50), view(1, 2, "b", 50)]), Ok(pool(1)));
}

#[test]
fn a_segment_goes_back_to_a_node_that_was_well_for_long_enough() {
    let well = Away {
        is_automatic: true,
        delay: Period::from_secs(60),
        well_since: Some(at(100)),
        moves: 0,
        is_resyncing: false,
    };
    for (away, now, then) in [
        (well, 100, Failback::Wait(at(160))),
        (well, 160, Failback::HandOver),
        (Away { moves: 2, ..well }, 160, Failback::Wait(at(340))),
        (Away { moves: 99, ..well }, 160, Failback::Wait(at(100 + 60 * 64))),
        (Away { is_automatic: false, ..well }, 900, Failback::Stay),
        (Away { well_since: None, ..well }, 900, Failback::Stay),
        (Away { is_resyncing: true, ..well }, 900, Failback::Stay),
    ] {
        assert_eq!(failback(&away, at(now)), then, "{away:?} at {now}");
    }
}
