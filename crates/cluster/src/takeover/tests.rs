//! The decision against every combination of what can be known, and against stories with a remark each.

use dyad_units::{BootId, Epoch, Moment, NodeId, Period, StoreId};

use super::{IMAGES_MAX, Kept, OwnerSign, RANK_STEP, Shown, Verdict, View, WaitReason, Witness, decide};
use crate::change::Change;
use crate::node::Incarnation;
use crate::segment::SegmentRecord;
use crate::state::{ImageState, OutReason};
use crate::testing::{image, segment};

const STORE: StoreId = StoreId::from_bytes([7; 16]);
const OTHER_STORE: StoreId = StoreId::from_bytes([8; 16]);
const LONG: Period = Period::from_secs(10);
const PROMISED: Moment = Moment::from_nanos(5_000_000_000);

fn node(at: usize) -> NodeId {
    NodeId::from_bytes([at as u8 + 1; 16])
}

fn life(at: usize) -> Incarnation {
    Incarnation { boot: BootId::from_bytes([at as u8 + 90; 16]), start: 3 }
}

/// One image per node, all in sync, owned by the first.
fn record(images: usize) -> SegmentRecord {
    let mut record = segment(images as u8);
    for (at, image) in record.images.iter_mut().enumerate() {
        image.node = node(at);
    }
    record.changed(&[Change::Own { node: node(0) }, Change::Confirm { store: STORE }]).unwrap()
}

fn witness(at: usize, has_everything: bool, has_lost: bool) -> Witness {
    Witness { incarnation: life(at), has_everything, has_lost, epoch: Epoch::new(1), kept: Kept::Agrees }
}

fn whole(at: usize) -> Shown {
    Shown::Here(witness(at, true, false))
}

fn forgot(at: usize) -> Shown {
    Shown::Here(witness(at, false, false))
}

fn lost(at: usize) -> Shown {
    Shown::Here(witness(at, true, true))
}

fn view<'a>(record: &'a SegmentRecord, me: usize, shown: &[Shown]) -> View<'a> {
    let mut all = [Shown::Unknown; IMAGES_MAX];
    all[..shown.len()].copy_from_slice(shown);
    let owner = OwnerSign::Nothing;
    View { record, store: STORE, me: node(me), now: PROMISED + LONG, promised_until: PROMISED, owner, shown: all }
}

fn waits(view: &View<'_>) -> WaitReason {
    match decide(view) {
        Verdict::Wait { why, .. } => why,
        claim => panic!("{claim:?}"),
    }
}

fn claims(view: &View<'_>) -> SegmentRecord {
    match decide(view) {
        Verdict::Claim { changes } => view.record.changed(&changes).unwrap(),
        wait => panic!("{wait:?}"),
    }
}

fn states(record: &SegmentRecord) -> Vec<(ImageState, Option<OutReason>)> {
    record.images.iter().map(|image| (image.state, image.reason)).collect()
}

const IN: (ImageState, Option<OutReason>) = (ImageState::InSync, None);

fn out(reason: OutReason) -> (ImageState, Option<OutReason>) {
    (ImageState::Stale, Some(reason))
}

/// M9: only the old owner leaves, and only if it cannot be asked.
#[test]
fn the_owner_is_gone_and_the_next_image_takes_over() {
    let record = record(3);
    let new = claims(&view(&record, 1, &[Shown::Unknown, whole(1), Shown::Unknown]));
    assert_eq!((new.owner, states(&new)), (Some(node(1)), vec![out(OutReason::Silent), IN, IN]));
    assert_eq!(new.images[1].incarnation, Some(life(1)), "M11: proved in this life");
    let new = claims(&view(&record, 1, &[whole(0), whole(1), Shown::Unknown]));
    assert_eq!(states(&new), [IN, IN, IN], "its process restarted, its memory did not");
    let new = claims(&view(&record, 1, &[Shown::Absent, whole(1), Shown::Unknown]));
    assert_eq!(states(&new), [out(OutReason::Absent), IN, IN]);
}

/// M6: not before the promise ran out; M9, M12: but at once when its reason is gone.
#[test]
fn a_promise_is_kept_while_it_binds() {
    let record = record(2);
    let mut early = view(&record, 1, &[Shown::Unknown, whole(1)]);
    early.now = Moment::from_nanos(PROMISED.as_nanos() - 1);
    assert_eq!(decide(&early), Verdict::Wait { why: WaitReason::Promised, until: Some(PROMISED) });
    for owner in [OwnerSign::Dead { since: early.now }, OwnerSign::Released { since: early.now }] {
        claims(&View { owner, ..early.clone() });
    }
    let mine = View { me: node(0), shown: [whole(0); IMAGES_MAX], ..early };
    assert_eq!(waits(&mine), WaitReason::Promised, "even where the record names me: I may have promised since");
}

/// Two candidates do not propose at the same moment; the recorded owner goes first.
#[test]
fn candidates_take_turns() {
    let record = record(3);
    let mut second = view(&record, 2, &[Shown::Unknown, Shown::Unknown, whole(2)]);
    second.now = PROMISED;
    let until = Some(PROMISED + RANK_STEP);
    assert_eq!(decide(&second), Verdict::Wait { why: WaitReason::Rank { before: 1 }, until });
    claims(&View { now: PROMISED + RANK_STEP, ..second.clone() });
    let shown = [Shown::Unknown, Shown::Absent, whole(2), Shown::Unknown];
    claims(&View { shown, ..second.clone() });
    claims(&View { me: node(0), shown: [whole(0); IMAGES_MAX], ..second });
}

/// M11: broke once (simulation, 2300046129): all machines lost their power, the owner served again and acknowledged a write before
/// all was compared, and lost its power again. All counted as alike, because none had everything, and its image stood first: what
/// it still had won over the write that the others had.
#[test]
fn where_all_forgot_those_that_restarted_since_do_not_count() {
    let proved = claims(&view(&record(3), 0, &[forgot(0), forgot(1), forgot(2)]));
    let again = Incarnation { boot: BootId::from_bytes([99; 16]), start: 4 };
    let restarted = Shown::Here(Witness { incarnation: again, ..witness(0, false, false) });
    let at = Epoch::new(proved.epoch.value());
    let of_now = |shown: Shown| match shown {
        Shown::Here(witness) => Shown::Here(Witness { epoch: at, ..witness }),
        other => other,
    };
    let shown = [restarted, forgot(1), forgot(2)].map(of_now);
    assert_eq!(waits(&view(&proved, 0, &shown)), WaitReason::BetterElsewhere { image: image(1) });
    let new = claims(&view(&proved, 1, &shown));
    assert_eq!((new.owner, states(&new)), (Some(node(1)), vec![out(OutReason::Forgot), IN, IN]));
    let all = [again; 3].map(|incarnation| of_now(Shown::Here(Witness { incarnation, ..witness(0, false, false) })));
    assert_eq!(states(&claims(&view(&proved, 0, &all))), [IN, IN, IN], "all machines restarted: all are alike");
}

/// M11: what forgot does not serve while one that did not may be there.
#[test]
fn an_image_that_forgot_waits_for_those_that_may_not_have() {
    let record = record(2);
    assert_eq!(waits(&view(&record, 1, &[whole(0), forgot(1)])), WaitReason::BetterElsewhere { image: image(0) });
    for shown in [Shown::Unknown, Shown::Absent] {
        assert_eq!(waits(&view(&record, 1, &[shown, forgot(1)])), WaitReason::MayKnowMore { image: image(0) });
    }
    let new = claims(&view(&record, 0, &[whole(0), forgot(1)]));
    assert_eq!(states(&new), [IN, out(OutReason::Forgot)]);
    let new = claims(&view(&record, 1, &[forgot(0), forgot(1)]));
    assert_eq!(states(&new), [IN, IN], "all machines restarted: all are alike");
}

/// P12: what a disk lost may be whole elsewhere.
#[test]
fn an_image_with_lost_extents_waits_for_a_whole_one() {
    let record = record(2);
    assert_eq!(waits(&view(&record, 0, &[lost(0), whole(1)])), WaitReason::BetterElsewhere { image: image(1) });
    assert_eq!(waits(&view(&record, 0, &[lost(0), Shown::Unknown])), WaitReason::MayKnowMore { image: image(1) });
    let new = claims(&view(&record, 1, &[lost(0), whole(1)]));
    assert_eq!(states(&new), [out(OutReason::LostExtents), IN]);
    let new = claims(&view(&record, 0, &[lost(0), forgot(1)]));
    assert_eq!(states(&new), [IN, out(OutReason::Forgot)], "what is lost is known; what was forgotten is not");
    assert_eq!(states(&claims(&view(&record, 0, &[lost(0), lost(1)]))), [IN, IN]);
}

/// M8: a sole image that forgot before it was flushed alone waits for an administrator.
#[test]
fn a_sole_image_that_forgot_serves_only_if_it_was_flushed_alone() {
    let gone = Change::TakeOut { image: image(1), reason: OutReason::Silent };
    let alone = record(2).changed(&[gone]).unwrap();
    let shown = [forgot(0), whole(1)];
    assert_eq!(waits(&view(&alone, 0, &shown)), WaitReason::NotFlushedAlone { image: image(0) });
    claims(&view(&alone.changed(&[Change::FlushedAlone]).unwrap(), 0, &shown));
    claims(&view(&alone, 0, &[whole(0), whole(1)]));
    claims(&view(&alone, 0, &[lost(0), whole(1)]));
    let apart = alone.changed(&[Change::Detach { image: image(1) }]).unwrap();
    claims(&view(&apart, 0, &shown));
    claims(&view(&record(1), 0, &[forgot(0)]));
    assert_eq!(waits(&view(&alone, 1, &shown)), WaitReason::NotInSync);
}

/// §8: an old copy of the records is not taken for the newest.
#[test]
fn a_store_that_is_behind_or_new_is_not_believed_alone() {
    let record = record(2);
    let seen = Epoch::new(9);
    let newer = Shown::Here(Witness { epoch: seen, ..witness(0, true, false) });
    assert_eq!(waits(&view(&record, 1, &[newer, whole(1)])), WaitReason::StoreBehind { image: image(0), seen });
    let other = Shown::Here(Witness { kept: Kept::Contradicts, ..witness(1, true, false) });
    assert_eq!(waits(&view(&record, 1, &[whole(0), other])), WaitReason::Contradiction { image: image(1) });

    let mut restored = view(&record, 1, &[Shown::Unknown, whole(1)]);
    restored.store = OTHER_STORE;
    assert_eq!(waits(&restored), WaitReason::NewStore { image: image(0) });
    let shown = [whole(0), whole(1), Shown::Unknown, Shown::Unknown];
    let confirmed = claims(&View { shown, ..restored.clone() });
    assert_eq!(confirmed.store, Some(OTHER_STORE), "the next claim needs no proof any more");
    let shown = [whole(0), Shown::Unknown, Shown::Unknown, Shown::Unknown];
    claims(&View { me: node(0), shown, ..restored });
}

#[test]
fn what_an_image_keeps_is_held_against_the_record() {
    let older = record(2);
    let newer = older.changed(&[]).unwrap();
    let twin = older.changed(&[Change::Own { node: node(1) }]).unwrap();
    for (kept, found) in [
        (Vec::new(), Kept::Agrees),
        (older.encode(), Kept::Agrees),
        (newer.encode(), Kept::Agrees),
        (twin.encode(), Kept::Contradicts),
        (twin.changed(&[]).unwrap().encode(), Kept::Newer(Epoch::new(4))),
        (vec![1, 2, 3], Kept::Unreadable),
    ] {
        assert_eq!(Kept::of(&kept, &newer), found);
    }
    let foreign = SegmentRecord { id: dyad_units::SegmentId::from_bytes([99; 16]), ..older };
    assert_eq!(Kept::of(&foreign.encode(), &newer), Kept::Contradicts);
}

/// What can be known of an image.
fn all_shown(at: usize) -> [Shown; 6] {
    let ghost = Shown::Here(witness(at, false, true));
    [Shown::Unknown, Shown::Absent, whole(at), forgot(at), lost(at), ghost]
}

struct World {
    record: SegmentRecord,
    shown: [Shown; IMAGES_MAX],
}

/// Three images, each in sync or stale, each showing anything, every owner that the states allow, flushed alone or not.
fn every_world() -> impl Iterator<Item = World> {
    let states = (0..8_usize).filter(|in_sync| *in_sync != 0);
    let owners = [None, Some(0), Some(1), Some(2)];
    let settings = states.flat_map(move |in_sync| owners.into_iter().map(move |owner| (in_sync, owner)));
    settings.filter(|(in_sync, owner)| owner.is_none_or(|at: usize| in_sync >> at & 1 == 1)).flat_map(
        |(in_sync, owner)| {
            (0..2 * 6 * 6 * 6_usize).map(move |choice| {
                let mut record = record(3);
                for at in (0..3).filter(|at| in_sync >> at & 1 == 0) {
                    record.images[at].state = ImageState::Stale;
                }
                (record.owner, record.flushed_alone) = (owner.map(node), choice % 2 == 1);
                let pick = |at: usize| all_shown(at)[choice / 2 / 6_usize.pow(at as u32) % 6];
                World { record, shown: [pick(0), pick(1), pick(2), Shown::Unknown] }
            })
        },
    )
}

fn is_better(one: Witness, other: Witness) -> bool {
    (one.has_everything, !one.has_lost) > (other.has_everything, !other.has_lost)
}

/// What no claim may ever do, whatever is known (M3, M9, M11, P12).
fn check_claim(world: &World, me: usize, changes: &[Change]) {
    let World { record, shown } = world;
    let new = record.changed(changes).expect("a claim is a legal change");
    let Shown::Here(mine) = shown[me] else { panic!("claimed without having asked the own pool") };
    assert_eq!((record.images[me].state, new.owner), (ImageState::InSync, Some(node(me))));
    assert_eq!(new.images[me].state, ImageState::InSync);
    for (at, (before, after)) in record.images.iter().zip(&new.images).enumerate() {
        if before.state != ImageState::InSync {
            assert_eq!(before, after, "only images in sync are touched");
            continue;
        }
        let stays = after.state == ImageState::InSync;
        match shown[at] {
            Shown::Here(it) => {
                assert!(!is_better(it, mine), "image {at} has what the claimer's lacks");
                assert_eq!(stays, !is_better(mine, it), "image {at}");
                assert!(!stays || after.incarnation == Some(life(at)), "proved in its present life");
            }
            Shown::Unknown | Shown::Absent => {
                let is_whole = mine.has_everything && !mine.has_lost;
                assert!(is_whole, "image {at} may have what the claimer's lacks");
                let was_owner = record.owner == Some(node(at));
                assert_eq!(stays, !was_owner && shown[at] == Shown::Unknown);
            }
        }
    }
    let is_alone = record.in_sync().count() == 1;
    assert!(mine.has_everything || !is_alone || record.flushed_alone, "M8");
}

#[test]
fn no_combination_lets_a_wrong_node_claim() {
    let mut claimed = 0;
    for world in every_world() {
        for me in 0..3 {
            let view = View { shown: world.shown, ..view(&world.record, me, &[]) };
            if let Verdict::Claim { changes } = decide(&view) {
                claimed += 1;
                check_claim(&world, me, &changes);
            }
            let early = View { now: Moment::from_nanos(PROMISED.as_nanos() - 1), ..view };
            assert!(matches!(decide(&early), Verdict::Wait { .. }), "M6");
        }
    }
    assert!(claimed > 1000, "{claimed}");
}

/// Whatever is known to all: somebody claims in the end if every image in sync can be asked, but for M8; and no two of
/// them at the same moment; but for the recorded owner.
#[test]
fn somebody_claims_and_never_two_at_once() {
    for world in every_world() {
        let mut turns = Vec::new();
        let mut is_held = false;
        for me in 0..3 {
            let later = View { shown: world.shown, ..view(&world.record, me, &[]) };
            match decide(&later) {
                Verdict::Claim { .. } => {
                    let at_once = View { now: PROMISED, ..later };
                    let turn = match decide(&at_once) {
                        Verdict::Wait { why: WaitReason::Rank { .. }, until } => until.expect("a turn comes"),
                        Verdict::Claim { .. } => PROMISED,
                        other => panic!("{other:?}"),
                    };
                    // The recorded owner comes with a start's grace behind it, and does not wait for others.
                    turns.push((turn, world.record.owner == Some(node(me))));
                }
                Verdict::Wait { why: WaitReason::NotFlushedAlone { .. }, .. } => is_held = true,
                Verdict::Wait { .. } => {}
            }
        }
        let in_sync = || world.record.images.iter().zip(world.shown).filter(|(i, _)| i.state == ImageState::InSync);
        let all_here = in_sync().all(|(_, shown)| matches!(shown, Shown::Here(_)));
        assert!(!all_here || is_held || !turns.is_empty(), "nobody claims: {:?} {:?}", world.record, world.shown);
        let whole = |(_, shown): (_, Shown)| matches!(shown, Shown::Here(it) if it.has_everything && !it.has_lost);
        assert!(!in_sync().any(whole) || !turns.is_empty(), "a whole image is there, and nobody claims");
        turns.sort_unstable();
        turns.retain(|(_, is_owner)| !is_owner);
        let count = turns.len();
        turns.dedup();
        assert_eq!(turns.len(), count, "two turns at once: {:?} {:?}", world.record, world.shown);
    }
}
