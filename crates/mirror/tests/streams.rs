//! An image's side of streams (M3), alone.

use dyad_cluster::{NewSegment, SegmentRecord};
use dyad_contract::image::{Reply, Request, Survey, Token};
use dyad_mirror::{Image, ImageAction};
use dyad_payload::Slab;
use dyad_units::{Bytes, Epoch, Extent, ImageId, LayerId, NodeId, Piece, PoolId, SegmentId, Stamp, VolumeId};

const OWNER: NodeId = NodeId::from_bytes([1; 16]);
const ME: ImageId = ImageId::from_bytes([10; 16]);

/// An image with an open stream from the owner; the record, and the stream's number.
fn opened() -> (Image, SegmentRecord, u64) {
    let record = SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([2; 16]),
        volume: VolumeId::from_bytes([3; 16]),
        layer: LayerId::from_bytes([4; 16]),
        size: Bytes::mib(16),
        images: vec![(ME, OWNER, PoolId::from_bytes([20; 16]))],
    });
    let record = record.changed(&[dyad_cluster::Change::Own { node: OWNER }]).unwrap();
    let (mut image, mut out) = (Image::new(ME, 1), Vec::new());
    image.pool_up(&mut out);
    let survey = Survey {
        closed: Stamp::NEVER,
        epoch: Epoch::new(0),
        record: Vec::new(),
        lived_through: true,
        unsettled: Vec::new(),
        marked: Vec::new(),
        lost: Vec::new(),
        progress: None,
    };
    image.on_reply(asked(&mut out), Reply::Survey(Box::new(survey)), &mut out);
    image.open(OWNER, Box::new(record.clone()), &mut out);
    image.on_reply(asked(&mut out), Reply::Done, &mut out);
    let link = out.iter().find_map(|act| if let ImageAction::Opened { link, .. } = act { Some(*link) } else { None });
    (image, record, link.expect("it opens"))
}

/// The name of what the pool was asked last.
fn asked(out: &mut Vec<ImageAction>) -> Token {
    let asked =
        out.iter().rev().find_map(|act| if let ImageAction::Pool { token, .. } = act { Some(*token) } else { None });
    out.clear();
    asked.expect("the pool is asked")
}

/// M3, M14: broke once (review): an owner began a second run of resync in the same epoch, after a hand-over that came to
/// nothing. The image said at once that it keeps the record, while a write of the first run was still at its disk; that landed
/// on an extent which the second run had found equal.
#[test]
fn a_record_that_is_kept_already_is_answered_when_what_was_asked_before_is_over() {
    let (mut image, record, link) = opened();
    let slab = Slab::new(1 << 20);
    let mut out = Vec::new();
    let piece = Piece::whole(Extent(0));
    image.ask(OWNER, link, Token(1), Request::Read { piece }, &mut out);
    let under_way = asked(&mut out);
    let mut bytes = slab.take(record.encode().len()).unwrap();
    bytes.copy_from_slice(&record.encode());
    let again = Request::Record { epoch: record.epoch, record: bytes.freeze().into() };
    image.ask(OWNER, link, Token(2), again, &mut out);
    image.ask(OWNER, link, Token(3), Request::Read { piece }, &mut out);
    assert!(out.is_empty(), "something is under way: {out:?}");
    image.on_reply(under_way, Reply::Done, &mut out);
    let told: Vec<_> = out
        .iter()
        .filter_map(|act| if let ImageAction::Told { token, .. } = act { Some(token.0) } else { None })
        .collect();
    assert_eq!(told, [1, 2]);
    assert!(
        matches!(out.last(), Some(ImageAction::Pool { request: Request::Read { .. }, .. })),
        "and goes on: {out:?}"
    );
}

fn gave_back(out: &[ImageAction]) -> Vec<Epoch> {
    let given = out.iter().filter_map(|act| match act {
        ImageAction::Pool { request: Request::GiveBack { epoch }, .. } => Some(*epoch),
        _ => None,
    });
    given.collect()
}

/// P15: an image that is out of the set keeps nothing promised: it adopts no newer record while it is out, and once kept up to
/// 512 slots of its pool from everybody else, for ever where it was detached. What is under way may give a credit back, so
/// that is waited for.
#[test]
fn what_an_image_promised_is_void_when_it_left_the_set_and_nothing_is_under_way() {
    let (mut image, record, link) = opened();
    let mut out = Vec::new();
    image.ask(OWNER, link, Token(1), Request::Grant { credits: 5 }, &mut out);
    let under_way = asked(&mut out);
    let later = record.epoch.next();
    image.left(later, &mut out);
    assert!(out.is_empty(), "something is under way: {out:?}");
    image.on_reply(under_way, Reply::Granted(5), &mut out);
    assert_eq!(gave_back(&out), [later]);
    image.on_reply(asked(&mut out), Reply::Done, &mut out);
    assert!(out.is_empty(), "nobody hears of it: {out:?}");
    image.ask(OWNER, link, Token(2), Request::Flush, &mut out);
    assert_eq!(gave_back(&out), [], "once");
}

/// M3: the pool's answer to what an image asks for itself is not taken for that to a record: an epoch counted as durable that
/// was not.
#[test]
fn a_record_counts_as_kept_when_it_is() {
    let (mut image, record, _) = opened();
    let mut out = Vec::new();
    let next = record.changed(&[dyad_cluster::Change::Own { node: OWNER }]).unwrap();
    image.left(next.epoch, &mut out);
    let given = asked(&mut out);
    image.open(OWNER, Box::new(next.clone()), &mut out);
    let recording = asked(&mut out);
    image.on_reply(given, Reply::Done, &mut out);
    assert!(out.is_empty() && image.adopted() == Some(record.epoch), "{out:?}");
    image.on_reply(recording, Reply::Done, &mut out);
    assert_eq!(image.adopted(), Some(next.epoch));
}
