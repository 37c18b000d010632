//! Two ends of a connection, and one of every message.

#![allow(dead_code, reason = "each user of the cast uses its part")]

use std::io::{IoSlice, IoSliceMut};

use dyad_cluster::{Incarnation, NewSegment, OutReason, SegmentRecord};
use dyad_contract::image::{
    BlockState, Changed, Examined, ImageError, Reply, Request, Space, Survey, Token, Unmap, Write, Written,
};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_mirror::PeerMessage;
use dyad_payload::{BlockSum, Payload, Slab, Sums};
use dyad_units::{
    BootId, Bytes, ClusterId, Epoch, Extent, ImageId, Interval, LayerId, NodeId, Period, Piece, PoolId, Region,
    SegmentId, Span, Stamp, StoreId, VolumeId, WriteNumber,
};
use dyad_wire::{ConnectionKind, Incoming, Local, Polled, Receiver, SegmentNumber, Sender, VERSIONS, WireError};

pub const SEGMENTS: ConnectionKind = ConnectionKind::Segments { from: 0, to: 0 };
pub const SEGMENT: SegmentId = SegmentId::from_bytes([0x5e; 16]);
pub const LIFE: Incarnation = Incarnation { boot: BootId::from_bytes([0xb0; 16]), start: 3 };

pub fn local(node: u8) -> Local {
    Local {
        versions: VERSIONS,
        cluster: ClusterId::from_bytes([0xc1; 16]),
        node: NodeId::from_bytes([node; 16]),
        name: format!("node-{node}").parse().unwrap(),
        incarnation: LIFE,
        store: StoreId::from_bytes([0x57; 16]),
        reactors: 2,
    }
}

/// Everything queued, in one piece.
pub fn drain(sender: &mut Sender) -> Vec<u8> {
    let mut all = Vec::new();
    while !sender.is_empty() {
        let mut slices = [IoSlice::new(&[]); 5];
        let count = sender.gather(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        all.extend_from_slice(&bytes);
        sender.transmitted(bytes.len());
    }
    all
}

/// Receives at most `step` bytes at a time; the messages, and what ended it.
pub fn receive(receiver: &mut Receiver, mut bytes: &[u8], step: usize) -> (Vec<Incoming>, Option<WireError>) {
    let mut got = Vec::new();
    loop {
        match receiver.poll() {
            Ok(Polled::Incoming(incoming)) => got.push(incoming),
            Ok(Polled::NeedsBytes) if bytes.is_empty() => return (got, None),
            Ok(Polled::NeedsBytes) => {
                let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
                let count = receiver.room(&mut room);
                let mut taken = 0;
                for slice in &mut room[..count] {
                    let take = slice.len().min(bytes.len()).min(step - taken);
                    slice[..take].copy_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    taken += take;
                    if take < slice.len() {
                        break;
                    }
                }
                receiver.received(taken);
            }
            Ok(Polled::NeedsMemory) => panic!("no memory"),
            Err(error) => return (got, Some(error)),
        }
    }
}

/// A connection for segments after its greeting, and the number of [`SEGMENT`].
pub fn greeted(kind: ConnectionKind, slab: &Slab) -> (Sender, Receiver) {
    let (here, there) = (local(1), local(2));
    let (mut dialing, mut accepting) = (Sender::new(), Receiver::new(slab.clone()));
    let hello = here.hello(there.node, kind);
    dialing.hello(&hello);
    let (got, _) = receive(&mut accepting, &drain(&mut dialing), usize::MAX);
    assert!(matches!(&got[..], [Incoming::Hello(got)] if **got == hello));
    let welcome = there.answer(&hello, None).unwrap();
    here.check(&hello, &welcome, None).unwrap();
    dialing.begin(welcome.version);
    accepting.begin(welcome.version, kind);
    (dialing, accepting)
}

pub fn announced(slab: &Slab) -> (Sender, Receiver, SegmentNumber) {
    let (mut sender, mut receiver) = greeted(SEGMENTS, slab);
    let number = sender.announce(SEGMENT).unwrap();
    let (got, _) = receive(&mut receiver, &drain(&mut sender), usize::MAX);
    assert!(matches!(got[..], [Incoming::Announced { segment: SEGMENT, .. }]));
    (sender, receiver, number)
}

pub fn data(slab: &Slab, len: usize) -> Payload {
    let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 4096) as u8).collect();
    let mut data = Payload::new();
    bytes.chunks(Slab::LEN_MAX).for_each(|part| data.push(slab.copy_of(part).unwrap()));
    data
}

pub fn stamp(epoch: u32, interval: u32) -> Stamp {
    Stamp::new(Epoch::new(epoch), Interval::new(interval))
}

pub fn write(slab: &Slab, blocks: u8) -> Write {
    let data = data(slab, usize::from(blocks) * 4096);
    Write {
        piece: Piece::new(Extent(9), 0, blocks).unwrap(),
        stamp: stamp(5, 6),
        number: WriteNumber::new(77),
        settled: WriteNumber::new(70),
        sums: Sums::of(&data, slab).unwrap(),
        data,
        space: Space::Credit,
    }
}

pub fn record() -> Box<SegmentRecord> {
    let image = |n| (ImageId::from_bytes([n; 16]), NodeId::from_bytes([n; 16]), PoolId::from_bytes([n; 16]));
    Box::new(SegmentRecord::new(NewSegment {
        id: SEGMENT,
        volume: VolumeId::from_bytes([0x70; 16]),
        layer: LayerId::from_bytes([0x1a; 16]),
        size: Bytes::gib(1),
        images: vec![image(1), image(2)],
    }))
}

pub fn survey(lost: u32) -> Survey {
    Survey {
        closed: stamp(4, 2),
        epoch: Epoch::new(5),
        record: record().encode(),
        lived_through: true,
        unsettled: vec![Piece::new(Extent(3), 1, 2).unwrap()],
        marked: vec![Region(8)],
        lost: (0..lost).map(Extent).collect(),
        progress: Some((Extent(4), stamp(3, 3))),
    }
}

fn requests(slab: &Slab) -> Vec<Request> {
    let (piece, extent) = (Piece::new(Extent(1), 2, 3).unwrap(), Extent(7));
    let unmap = Unmap { piece, stamp: stamp(1, 2), number: WriteNumber::new(3), settled: WriteNumber::new(2) };
    // M15: a mend whose sums its blocks do not match.
    let bad = data(slab, 4096);
    let sums = Sums::from_le_bytes(&[0x99; 8], slab).unwrap();
    let mend = Write { piece: Piece::new(Extent(9), 63, 1).unwrap(), data: bad, sums, ..write(slab, 1) };
    vec![
        Request::Read { piece },
        Request::Write(write(slab, 1)),
        Request::Write(Write { space: Space::Reserved, ..write(slab, 64) }),
        Request::Mend(mend),
        Request::Unmap(unmap),
        Request::MendUnmap(unmap),
        Request::Flush,
        Request::Close { interval: Interval::new(8) },
        Request::Closed { stamp: stamp(2, 8) },
        Request::Grant { credits: 32 },
        Request::GiveBack { epoch: Epoch::new(7) },
        Request::Reserve { piece },
        Request::Release { piece },
        Request::Record { epoch: Epoch::new(9), record: data(slab, 300) },
        Request::Survey,
        Request::Show,
        Request::Examine { extent },
        Request::Adopt { piece },
        Request::Changed { after: stamp(1, 1), from: extent },
        Request::Copied { extent, stamp: stamp(1, 9) },
        Request::Progress { cursor: Some(extent), complete: stamp(1, 8) },
        Request::Progress { cursor: None, complete: stamp(1, 8) },
        Request::Settled { extent, stamp: stamp(6, 1) },
    ]
}

fn replies(slab: &Slab) -> Vec<Reply> {
    let extent = Extent(7);
    let mut blocks = [BlockState::Unwritten; 64];
    blocks[1] = BlockState::Verified(BlockSum(0x1234));
    blocks[2] = BlockState::Unverified(BlockSum(0x5678));
    blocks[3] = BlockState::Unreadable;
    blocks[4] = BlockState::Missing;
    let errors = [
        ImageError::Damaged { extent, blocks: 6 },
        ImageError::Lost { extent },
        ImageError::Full,
        ImageError::Unreadable,
        ImageError::Poisoned,
        ImageError::Superseded { newest: Epoch::new(8) },
        ImageError::Overloaded,
    ];
    let mut replies = vec![
        Reply::Data(data(slab, 8192)),
        Reply::Written(Written { used_slot: true }),
        Reply::Done,
        Reply::Granted(31),
        Reply::Survey(Box::new(survey(2))),
        Reply::Examined(Box::new(Examined { stamp: stamp(2, 2), blocks })),
        Reply::Changed(Box::new(Changed { extents: vec![(extent, stamp(1, 3))], next: Some(Extent(99)) })),
    ];
    replies.extend(errors.map(Reply::Failed));
    replies
}

fn operations(slab: &Slab) -> Vec<VolumeOp> {
    let span = Span::new(512, 4096).unwrap();
    vec![
        VolumeOp::Read { span },
        VolumeOp::Write { span, data: data(slab, 4096), durable: true },
        VolumeOp::Write { span: Span::new(0, 3 << 20).unwrap(), data: data(slab, 3 << 20), durable: false },
        VolumeOp::Fill { span, pattern: data(slab, 512), durable: false },
        VolumeOp::Unmap { spans: [span, span].into_iter().collect(), durable: true },
        VolumeOp::CompareAndWrite { span, expected: data(slab, 4096), data: data(slab, 4096), durable: false },
        VolumeOp::Compare { span, expected: data(slab, 4096) },
        VolumeOp::Verify { span },
        VolumeOp::Flush,
        VolumeOp::ReadState,
        VolumeOp::WriteAtomic { span, data: data(slab, 4096) },
        VolumeOp::WriteState { data: data(slab, 100) },
        VolumeOp::WriteState { data: Payload::new() },
    ]
}

/// At least one of every message.
pub fn messages(slab: &Slab) -> Vec<PeerMessage> {
    let (image, token, link, epoch) = (ImageId::from_bytes([0xaa; 16]), Token(0x70), 4, Epoch::new(5));
    let record = record();
    let stamp = Stamp::new(epoch, Interval::new(3));
    let listed = Changed { extents: vec![(Extent(7), stamp), (Extent(9), Stamp::NEWEST)], next: Some(Extent(12)) };
    let mut all = vec![
        PeerMessage::Record { record: record.clone() },
        PeerMessage::ImageUp { image, has_everything: true },
        PeerMessage::ImageDown { image, reason: OutReason::Slow },
        PeerMessage::Open { image, record: record.clone() },
        PeerMessage::Opened { image, epoch, link },
        PeerMessage::Refused { image, record },
        PeerMessage::Survey { image, token },
        PeerMessage::Shown { image, token, survey: None, incarnation: LIFE },
        PeerMessage::Shown { image, token, survey: Some(Box::new(survey(1))), incarnation: LIFE },
        PeerMessage::List { image, token, after: stamp, from: Extent(7) },
        PeerMessage::Listed { image, token, changed: None },
        PeerMessage::Listed { image, token, changed: Some(Box::new(listed)) },
        PeerMessage::Released { epoch },
        PeerMessage::ForwardAbort { id: 6 },
    ];
    all.extend(requests(slab).into_iter().map(|request| PeerMessage::Ask { image, link, token, request }));
    all.extend(replies(slab).into_iter().map(|reply| PeerMessage::Told { image, link, token, reply }));
    let age = Period::from_millis(2);
    all.extend(operations(slab).into_iter().map(|op| PeerMessage::Forward { id: 6, epoch, age, beat: 12, op }));
    let results = [
        Ok(VolumeDone::Done),
        Ok(VolumeDone::Data(data(slab, 5120))),
        Ok(VolumeDone::Data(Payload::new())),
        Err(VolumeError::Miscompare { offset: 17 }),
        Err(VolumeError::Medium { offset: 4096 }),
        Err(VolumeError::NoSpace),
        Err(VolumeError::Busy),
        Err(VolumeError::Aborted),
        Err(VolumeError::WriteFault),
        Err(VolumeError::OutOfRange),
    ];
    all.extend(results.map(|result| PeerMessage::Forwarded { id: 6, result }));
    all
}
