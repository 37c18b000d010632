//! Changes of a segment's record, as a whole (the table of single steps stands beside the code).

use dyad_cluster::{Change, ChangeError, NewSegment, OutReason, SegmentRecord};
use dyad_units::{Bytes, ImageId, LayerId, NodeId, PoolId, SegmentId, VolumeId};

fn image(at: u8) -> ImageId {
    ImageId::from_bytes([at + 10; 16])
}

fn node(at: u8) -> NodeId {
    NodeId::from_bytes([at + 1; 16])
}

fn pool(at: u8) -> PoolId {
    PoolId::from_bytes([at + 20; 16])
}

/// Broke once (review): an image was detached, another one added in its pool, and the first let back in. Both were in sync,
/// and the volume counted as redundant although one disk held both.
#[test]
fn a_detached_image_comes_back_only_where_no_other_of_the_volume_is() {
    let record = SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([2; 16]),
        volume: VolumeId::from_bytes([3; 16]),
        layer: LayerId::from_bytes([4; 16]),
        size: Bytes::mib(16),
        images: (0..2).map(|at| (image(at), node(at), pool(at))).collect(),
    });
    let out = Change::TakeOut { image: image(1), reason: OutReason::Asked };
    let record = record.changed(&[out, Change::Detach { image: image(1) }]).unwrap();
    let back = Change::Reattach { image: image(1) };
    assert!(record.changed(&[back]).is_ok());
    let another = Change::Add { image: image(2), node: node(1), pool: pool(1), replaces: None };
    let record = record.changed(&[another]).unwrap();
    assert_eq!(record.changed(&[back]), Err(ChangeError::AlreadyThere(image(2))));
    let gone = [Change::Remove { image: image(2) }, Change::Drop { image: image(2) }, back];
    assert!(record.changed(&gone).is_ok(), "when the other one is gone it may");
}
