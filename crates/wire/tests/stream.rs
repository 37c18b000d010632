//! What is sent comes out at the other end, however the stream is cut; what is damaged never does.

mod common;

use common::{LIFE, SEGMENT, SEGMENTS, announced, drain, greeted, local, messages, receive, stamp, survey, write};
use dyad_contract::image::{Request, Space, Token};
use dyad_contract::volume::{Edition, VolumeOp};
use dyad_mirror::{Beat, BeatAnswer, PeerMessage};
use dyad_payload::{PAGE, Slab};
use dyad_units::{Epoch, Extent, ImageId, Period, Piece, SegmentId, Span};
use dyad_wire::{
    Bye, ByeReason, ConnectionKind, Incoming, Receiver, RefusalReason, TALK_BYTES_MAX, Versions, WelcomeError,
    WireError,
};
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::proptest;

fn slab() -> Slab {
    Slab::new(256 << 20)
}

/// Debug shows every field, the bytes of another sending show the data.
#[test]
fn every_message_comes_out_as_it_went_in_however_the_stream_is_cut() {
    let slab = slab();
    for step in [1, 47, 119, 1000, 4096, usize::MAX] {
        let (mut sender, mut receiver, number) = announced(&slab);
        let (mut again, _, number_again) = announced(&slab);
        let sent = messages(&slab);
        let newest = Edition { epoch: Epoch::new(5), changes: u64::MAX };
        for message in &sent {
            sender.send_checked(number, message, Some(newest)).unwrap();
        }
        sender.stale(number, 9, newest).unwrap();
        sender.state_changed(number, newest).unwrap();
        let bytes = drain(&mut sender);
        let (mut got, error) = receive(&mut receiver, &bytes, step);
        assert_eq!((got.len(), error), (sent.len() + 2, None), "{step} bytes at a time");
        let last = got.split_off(sent.len());
        assert!(matches!(last[0], Incoming::Stale { segment: SEGMENT, id: 9, edition } if edition == newest));
        assert!(matches!(last[1], Incoming::StateChanged { segment: SEGMENT, edition } if edition == newest));
        for (sent, got) in sent.iter().zip(&got) {
            let Incoming::Message { segment: SEGMENT, message, edition, .. } = got else { panic!("{got:?}") };
            let is_forward = matches!(sent, PeerMessage::Forward { .. });
            assert_eq!(*edition, is_forward.then_some(newest), "{sent:?}");
            again.send_checked(number_again, message, *edition).unwrap();
            let strip = |text: String| text.split("slices").next().unwrap_or_default().to_owned();
            assert_eq!(strip(format!("{sent:?}")), strip(format!("{message:?}")));
        }
        again.stale(number_again, 9, newest).unwrap();
        again.state_changed(number_again, newest).unwrap();
        assert_eq!(drain(&mut again), bytes, "{step} bytes at a time");
    }
}

#[test]
fn the_data_of_writes_lies_at_the_start_of_pages() {
    let slab = slab();
    let (mut sender, mut receiver, number) = announced(&slab);
    for blocks in [1, 1, 1, 16, 1, 64, 64, 2, 1] {
        let request = Request::Write(write(&slab, blocks));
        let ask = PeerMessage::Ask { image: ImageId::from_bytes([1; 16]), link: 1, token: Token(1), request };
        sender.send(number, &ask).unwrap();
    }
    let (got, error) = receive(&mut receiver, &drain(&mut sender), usize::MAX);
    assert_eq!((got.len(), error), (9, None));
    for incoming in got {
        let Incoming::Message { message: PeerMessage::Ask { request: Request::Write(write), .. }, .. } = incoming
        else {
            panic!("{incoming:?}")
        };
        for slice in write.data.slices() {
            assert_eq!((slice.as_ptr() as usize % PAGE, slice.len() % PAGE), (0, 0));
        }
    }
}

/// A flipped bit anywhere is an error, never a message: every bit of a write, of a mend, of an answer.
#[test]
fn no_flipped_bit_becomes_a_message() {
    let slab = slab();
    let frames = messages(&slab).into_iter().map(|message| {
        // Each the first one after the announcement, so that its number is the one due.
        let (mut sender, _, number) = announced(&slab);
        sender.send(number, &message).unwrap();
        drain(&mut sender)
    });
    for (nth, frame) in frames.filter(|frame| frame.len() < 10_000).enumerate() {
        let (_, mut receiver, _) = announced(&slab);
        assert_eq!(receive(&mut receiver, &frame, usize::MAX).0.len(), 1, "frame {nth} as it is");
        // All of the head, and some of the data.
        let bits = (0..frame.len() * 8).filter(|bit| *bit < 200 * 8 || bit % 4099 == 0);
        for bit in bits {
            let (_, mut receiver, _) = announced(&slab);
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (got, _) = receive(&mut receiver, &flipped, usize::MAX);
            assert!(got.is_empty(), "frame {nth}, bit {bit}: {got:?}");
        }
    }
    // P7: data damaged before it was sent, under a sum that is right for the stream.
    let (mut sender, mut receiver, number) = announced(&slab);
    let mut write = write(&slab, 1);
    write.data = common::data(&slab, 8192).slice(1, 4096);
    let request = Request::Write(write);
    let ask = PeerMessage::Ask { image: ImageId::from_bytes([1; 16]), link: 1, token: Token(1), request };
    sender.send(number, &ask).unwrap();
    let (got, error) = receive(&mut receiver, &drain(&mut sender), usize::MAX);
    assert!(got.is_empty() && matches!(error, Some(WireError::DamagedPayload { .. })), "{error:?}");
}

#[test]
fn a_frame_that_is_missing_or_comes_twice_is_found_out() {
    let slab = slab();
    let (mut sender, mut receiver, number) = announced(&slab);
    let aborts = [1, 2].map(|id| {
        sender.send(number, &PeerMessage::ForwardAbort { id }).unwrap();
        drain(&mut sender)
    });
    let (got, error) = receive(&mut receiver, &aborts[1], usize::MAX);
    assert!(got.is_empty() && matches!(error, Some(WireError::OutOfSequence { .. })));
    let (_, mut receiver, _) = announced(&slab);
    let (got, error) = receive(&mut receiver, &[&aborts[0][..], &aborts[0]].concat(), usize::MAX);
    assert!(got.len() == 1 && matches!(error, Some(WireError::OutOfSequence { .. })));
}

#[test]
fn a_long_survey_and_a_full_beat_come_in_several_frames() {
    let slab = slab();
    let (mut sender, mut receiver, number) = announced(&slab);
    let survey = Some(Box::new(survey(1_000_000)));
    let shown = PeerMessage::Shown { image: ImageId::from_bytes([1; 16]), token: Token(1), survey, incarnation: LIFE };
    sender.send(number, &shown).unwrap();
    let (got, error) = receive(&mut receiver, &drain(&mut sender), 100_000);
    assert_eq!(error, None);
    let [Incoming::Message { message: PeerMessage::Shown { survey: Some(survey), .. }, .. }] = &got[..] else {
        panic!("{}", got.len())
    };
    assert_eq!(survey.lost.len(), 1_000_000);

    let (mut sender, mut receiver) = greeted(ConnectionKind::Beats, &slab);
    let owned: Vec<_> = (0..32_768_u128).map(|at| (SegmentId::from_bytes(at.to_be_bytes()), Epoch::new(1))).collect();
    let beat = Beat { number: 9, incarnation: LIFE, owned: owned.clone() };
    let answer = BeatAnswer { number: 9, incarnation: LIFE, granted: owned };
    sender.beat(&beat).unwrap();
    sender.beat_answer(&answer).unwrap();
    let (got, error) = receive(&mut receiver, &drain(&mut sender), 10_000);
    assert_eq!(error, None);
    assert!(matches!(&got[..], [Incoming::Beat(a), Incoming::BeatAnswer(b)] if *a == beat && *b == answer));
}

#[test]
fn administration_talks_beside_the_segments() {
    let slab = slab();
    let (mut sender, mut receiver, _) = announced(&slab);
    let long = vec![b'x'; 1_000_000];
    sender.question(7, &long).unwrap();
    sender.answer(8, b"").unwrap();
    let (got, error) = receive(&mut receiver, &drain(&mut sender), 100_000);
    assert_eq!(error, None);
    assert!(matches!(&got[..], [Incoming::Question { id: 7, body }, Incoming::Answer { id: 8, body: none }]
        if *body == long && none.is_empty()));
    assert!(sender.question(9, &vec![0; TALK_BYTES_MAX + 1]).is_err());
    assert!(sender.is_empty(), "nothing of it is sent");
}

#[test]
fn a_number_stands_for_one_segment_until_it_is_withdrawn() {
    let slab = slab();
    let (mut sender, mut receiver, number) = announced(&slab);
    sender.withdraw(number).unwrap();
    let other = SegmentId::from_bytes([9; 16]);
    assert_eq!(sender.announce(other), Ok(number));
    let (got, _) = receive(&mut receiver, &drain(&mut sender), usize::MAX);
    assert!(matches!(got[..], [Incoming::Withdrawn { segment: SEGMENT, .. }, Incoming::Announced { segment, .. }]
        if segment == other));
    // Of a number that was never announced nothing is read.
    let (_, mut receiver) = greeted(SEGMENTS, &slab);
    let (mut sender, _) = greeted(SEGMENTS, &slab);
    let number = sender.announce(SEGMENT).unwrap();
    drain(&mut sender);
    sender.send(number, &PeerMessage::ForwardAbort { id: 1 }).unwrap();
    assert!(receive(&mut receiver, &drain(&mut sender), usize::MAX).1.is_some());
}

#[test]
fn older_and_newer_nodes_agree_on_the_newest_version_that_both_speak() {
    let versions = |oldest, newest| Versions { oldest, newest };
    for (ours, theirs, common) in
        [((1, 1), (1, 3), Some(1)), ((2, 4), (1, 3), Some(3)), ((1, 1), (2, 2), None), ((3, 9), (1, 2), None)]
    {
        let (mut here, mut there) = (local(1), local(2));
        (here.versions, there.versions) = (versions(ours.0, ours.1), versions(theirs.0, theirs.1));
        let hello = here.hello(there.node, SEGMENTS);
        match there.answer(&hello, None) {
            Ok(welcome) => {
                assert_eq!(Some(welcome.version), common);
                assert_eq!(here.check(&hello, &welcome, None), Ok(()));
            }
            Err(refusal) => assert_eq!((refusal.reason, common), (RefusalReason::Versions, None)),
        }
    }
}

#[test]
fn strangers_old_lives_and_wrong_addresses_are_refused_with_a_reason() {
    let (here, there) = (local(1), local(2));
    let hello = here.hello(there.node, SEGMENTS);
    let reason = |hello, known| there.answer(&hello, known).map_err(|refusal| refusal.reason);
    let mut other = hello.clone();
    other.cluster = dyad_units::ClusterId::from_bytes([0; 16]);
    // Of the same store it is of the same cluster, whatever it was called before.
    assert!(reason(other.clone(), None).is_ok());
    other.store = dyad_units::StoreId::from_bytes([0; 16]);
    assert_eq!(reason(other, None), Err(RefusalReason::OtherCluster));
    assert_eq!(reason(here.hello(local(3).node, SEGMENTS), None), Err(RefusalReason::OtherNode));
    let newer = dyad_cluster::Incarnation { start: LIFE.start + 1, ..LIFE };
    assert_eq!(reason(hello.clone(), Some(newer)), Err(RefusalReason::OlderLife));
    assert!(reason(hello.clone(), Some(LIFE)).is_ok());
    let far = here.hello(there.node, ConnectionKind::Segments { from: 0, to: 2 });
    assert_eq!(reason(far, None), Err(RefusalReason::NoSuchReactor));
    let welcome = local(3).answer(&here.hello(local(3).node, SEGMENTS), None).unwrap();
    assert_eq!(here.check(&hello, &welcome, None), Err(WelcomeError::OtherNode(local(3).node)));
}

#[test]
fn nothing_is_read_after_the_first_and_the_last_word() {
    let slab = slab();
    let (mut sender, mut receiver, number) = announced(&slab);
    sender.bye(&Bye { reason: ByeReason::Stopping, text: "this node stops\n".to_owned() });
    sender.send(number, &PeerMessage::ForwardAbort { id: 1 }).unwrap();
    let (got, error) = {
        let bytes = drain(&mut sender);
        let mut room = [std::io::IoSliceMut::new(&mut []), std::io::IoSliceMut::new(&mut [])];
        receiver.room(&mut room);
        room[0][..bytes.len()].copy_from_slice(&bytes);
        receiver.received(bytes.len());
        receive(&mut receiver, &[], usize::MAX)
    };
    assert!(matches!(&got[..], [Incoming::Bye(bye)] if bye.text == "this node stops\u{fffd}") && error.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_into_a_fresh_connection(bytes in prop::collection::vec(any::<u8>(), 0..2048), step in 1usize..512) {
        receive(&mut Receiver::new(Slab::new(16 << 20)), &bytes, step);
    }

    /// Frames whose sums are right and whose control parts are not: only what makes sense comes out, without a panic.
    #[test]
    fn any_control_part_under_a_right_sum(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let slab = slab();
        let (mut sender, mut receiver, number) = announced(&slab);
        let all = messages(&slab);
        sender.send(number, which.get(&all)).unwrap();
        let mut frame = drain(&mut sender);
        let control = u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
        if control == 0 {
            return Ok(());
        }
        for (at, value) in changes {
            frame[48 + at.index(control)] = value;
        }
        let kept = cut.map_or(control, |cut| cut.index(control));
        frame.drain(48 + kept..48 + control);
        frame[12..16].copy_from_slice(&(kept as u32).to_le_bytes());
        let sum = |bytes: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes).to_le_bytes();
        let control_sum = if kept == 0 { [0; 8] } else { sum(&frame[48..48 + kept]) };
        frame[32..40].copy_from_slice(&control_sum);
        let header_sum = sum(&frame[..40]);
        frame[40..48].copy_from_slice(&header_sum);
        receive(&mut receiver, &frame, usize::MAX);
    }
}

#[test]
fn a_sender_that_is_not_read_says_so() {
    let slab = slab();
    let (mut sender, _, number) = announced(&slab);
    let request = Request::Write(write(&slab, 64));
    let ask = PeerMessage::Ask { image: ImageId::from_bytes([1; 16]), link: 1, token: Token(1), request };
    while sender.send(number, &ask).is_ok() {}
    let bound = dyad_wire::OWNED_BYTES_MAX;
    assert!((bound..bound + (1 << 20)).contains(&sender.owned()), "{}", sender.owned());
    sender.transmitted(sender.queued() as usize);
    assert_eq!(sender.owned(), 0);
    sender.send(number, &ask).unwrap();
}

/// What broke: 64 MiB of data in the queue were an overrun, and the connection between two nodes was torn, for all their
/// volumes. Five zeroings of one host are more, slices of one buffer; so is what comes back after a connection that broke.
#[test]
fn data_that_waits_is_no_overrun() {
    let slab = slab();
    let (mut sender, _, number) = announced(&slab);
    let request = Request::Write(write(&slab, 64));
    let ask = PeerMessage::Ask { image: ImageId::from_bytes([1; 16]), link: 1, token: Token(1), request };
    for _ in 0..5 * 64 {
        sender.send(number, &ask).unwrap();
    }
    assert!(sender.queued() > 5 * (16 << 20) && sender.owned() < 1 << 20, "{} {}", sender.queued(), sender.owned());
}

/// What broke: a pattern that does not begin with one of its blocks took the volume out of service at its owner.
#[test]
fn a_fill_that_begins_within_a_block_of_its_pattern_is_refused() {
    let slab = slab();
    for (offset, is_good) in [(4096, true), (512, false), (3584, false)] {
        let (mut sender, mut receiver, number) = announced(&slab);
        let (span, pattern) = (Span::new(offset, 8192).unwrap(), common::data(&slab, 4096));
        let op = VolumeOp::Fill { span, pattern, durable: false };
        let (epoch, age) = (Epoch::new(5), Period::from_millis(1));
        sender.send(number, &PeerMessage::Forward { id: 1, epoch, age, beat: 1, op }).unwrap();
        let (got, error) = receive(&mut receiver, &drain(&mut sender), usize::MAX);
        assert_eq!((got.len(), error.is_none()), (usize::from(is_good), is_good), "{offset}: {got:?} {error:?}");
    }
}

/// Of an extent whose differing blocks lie scattered each run is a mend: they travel together, in their order, and what
/// is sent after them comes after them.
#[test]
fn mends_travel_in_one_frame_and_nothing_overtakes_them() {
    let slab = Slab::new(64 << 20);
    let (mut sender, mut receiver, number) = announced(&slab);
    let ask = |token, request| PeerMessage::Ask {
        image: ImageId::from_bytes([1; 16]),
        link: 1,
        token: Token(token),
        request,
    };
    let mend = |first, count| {
        let mut write = write(&slab, count);
        (write.piece, write.space) = (Piece::new(Extent(9), first, count).unwrap(), Space::Reserved);
        Request::Mend(write)
    };
    let runs = [(0, 1), (2, 3), (9, 40)];
    let mut sent: Vec<_> =
        runs.iter().zip(1..).map(|(&(first, count), token)| ask(token, mend(first, count))).collect();
    sent.push(ask(4, Request::Flush));
    sent.push(ask(5, mend(60, 4)));
    // No more than one mend may have: another frame.
    sent.push(ask(6, mend(0, 64)));
    let mut later = write(&slab, 1);
    later.stamp = stamp(5, 7);
    sent.push(ask(7, Request::Mend(later)));
    sent.iter().for_each(|message| sender.send(number, message).unwrap());
    assert!(!sender.is_empty() && sender.queued() > 0);
    let bytes = drain(&mut sender);
    assert!(sender.is_empty() && sender.queued() == 0);
    let frames = bytes.windows(4).filter(|window| *window == b"DyPr").count();
    assert_eq!(frames, 5, "three together, the flush, and three alone");
    for step in [usize::MAX, 1000] {
        let (got, error) = receive(&mut receiver, &bytes, step);
        assert!(error.is_none(), "{error:?}");
        let got: Vec<_> = got
            .into_iter()
            .map(|incoming| match incoming {
                Incoming::Message { message, .. } => format!("{message:?}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, sent.iter().map(|message| format!("{message:?}")).collect::<Vec<_>>());
        (_, receiver, _) = announced(&slab);
    }
}
