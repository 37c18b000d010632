//! The suite: every test takes a stage, and knows nothing else of the store.

use std::sync::Arc;

use dyad_cluster::{DiskRecord, Kind, PoolRecord, Record, STORED_BYTES_MAX, SetError, Store, StoreError, Version};
use dyad_units::{DiskId, PoolId};

use super::history::{Heard, Told, assert_in_order};
use super::proxy::Mood;
use super::records::{eventually, get, name, pool, put, set};
use super::setters::Setters;

/// An empty store, and ways to it.
pub trait Stage {
    /// One more client of the store.
    fn client(&self) -> Arc<dyn Store>;

    /// A client behind a network that can be cut; none: the store is in this process.
    fn far(&self) -> Option<Far>;

    /// Makes the store forget changes that it remembered for watchers.
    fn forget(&self, near: &dyn Store);
}

pub struct Far {
    pub store: Arc<dyn Store>,
    pub set: Box<dyn Fn(Mood)>,
}

/// All that needs no network.
pub fn run_near(fresh: &dyn Fn() -> Box<dyn Stage>) {
    compare_and_set_replaces_only_what_it_expects(&*fresh());
    lists_hold_one_kind_in_the_order_of_ids(&*fresh());
    records_are_bounded(&*fresh());
    of_all_who_race_one_wins_each_version(&*fresh());
    what_was_answered_is_read_by_everybody_from_then_on(&*fresh());
    watchers_hear_of_every_change_once_in_order(&*fresh());
}

/// All that needs one.
pub fn run_far(fresh: &dyn Fn() -> Box<dyn Stage>) {
    a_cut_client_fails_and_then_hears_all_that_it_missed(&*fresh());
    after_a_long_absence_a_watcher_hears_what_is_news_and_nothing_else(&*fresh());
    a_lost_answer_is_unknown_and_nothing_else(&*fresh());
    cuts_in_the_middle_never_give_a_wrong_outcome(&*fresh());
}

fn compare_and_set_replaces_only_what_it_expects(stage: &dyn Stage) {
    let (store, other) = (stage.client(), stage.client());
    assert_eq!(store.identity(), other.identity());
    let key = pool(1, "a").key();
    assert_eq!(get(&*other, key), None);
    let first = set(&*store, None, &pool(1, "a")).unwrap();
    let found = other.get(key).unwrap().unwrap();
    assert_eq!((found.version, &found.record), (first, &pool(1, "a")));

    let is_conflict = |outcome: Result<Version, SetError>, at: Option<Version>| match outcome {
        Err(SetError::Conflict { current }) => assert_eq!(current.map(|current| current.version), at),
        outcome => panic!("{outcome:?} instead of a conflict"),
    };
    is_conflict(set(&*other, None, &pool(1, "b")), Some(first));
    is_conflict(set(&*other, Some(Version(0)), &pool(1, "b")), Some(first));
    is_conflict(set(&*other, Some(Version(u64::MAX)), &pool(1, "b")), Some(first));
    is_conflict(set(&*other, Some(first), &pool(2, "b")), None);
    is_conflict(other.compare_and_set(key, Some(Version(first.0 + 1)), None), Some(first));

    let second = set(&*other, Some(first), &pool(1, "b")).unwrap();
    assert!(second > first);
    is_conflict(set(&*store, Some(first), &pool(1, "c")), Some(second));
    let gone = store.compare_and_set(key, Some(second), None).unwrap();
    assert!(gone > second);
    assert_eq!(other.get(key).unwrap(), None);
    // Made again it must not be taken for the one before.
    is_conflict(set(&*other, Some(second), &pool(1, "c")), None);
    assert!(set(&*other, None, &pool(1, "b")).unwrap() > gone);
}

fn lists_hold_one_kind_in_the_order_of_ids(stage: &dyn Stage) {
    let (store, other) = (stage.client(), stage.client());
    // More than one page of etcd, more than one frame of the arbiter.
    let mut ids: Vec<_> = (0..300_u16).map(|at| at.wrapping_mul(7919)).collect();
    for id in &ids {
        let (Record::Pool(mut record), id) = (pool(0, "a"), id.to_be_bytes()) else { unreachable!() };
        let mut bytes = [id[1]; 16];
        bytes[0] = id[0];
        record.id = PoolId::from_bytes(bytes);
        record.disks.push(DiskRecord { id: DiskId::from_bytes([1; 16]), path: "x".repeat(200) });
        set(&*store, None, &Record::Pool(record)).unwrap();
    }
    ids.sort_unstable();
    let listed = other.list(Kind::Pool).unwrap().into_iter().map(|found| found.record.key().id_bytes());
    let listed: Vec<_> = listed.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])).collect();
    assert_eq!(listed, ids);
    for kind in [Kind::Volume, Kind::Segment, Kind::Node] {
        assert_eq!(other.list(kind).unwrap(), []);
    }
}

/// A pool whose record has as many bytes as its name and this path.
fn large(len: usize) -> Record {
    let Record::Pool(record) = pool(1, "a") else { unreachable!() };
    let disk = DiskRecord { id: DiskId::from_bytes([1; 16]), path: "x".repeat(len) };
    Record::Pool(PoolRecord { disks: vec![disk], ..record })
}

fn records_are_bounded(stage: &dyn Stage) {
    let store = stage.client();
    let rest = large(STORED_BYTES_MAX).encode().len() - STORED_BYTES_MAX;
    let refused = set(&*store, None, &large(STORED_BYTES_MAX - rest + 1)).unwrap_err();
    assert!(matches!(refused, SetError::TooLarge { max: STORED_BYTES_MAX, .. }), "{refused}");
    assert_eq!(store.get(pool(1, "a").key()).unwrap(), None);
    let largest = large(STORED_BYTES_MAX - rest);
    assert_eq!(largest.encode().len(), STORED_BYTES_MAX);
    let heard = Heard::of(&*store);
    let version = set(&*store, None, &largest).unwrap();
    assert_eq!(stage.client().get(largest.key()).unwrap().unwrap().record, largest);
    assert_eq!(stage.client().list(Kind::Pool).unwrap().len(), 1);
    assert_eq!(heard.until(version)[0].now.as_ref().map(|now| &now.record), Some(&largest));
}

fn of_all_who_race_one_wins_each_version(stage: &dyn Stage) {
    const ROUNDS: u32 = 15;
    let clients: Vec<_> = (0..4).map(|_| stage.client()).collect();
    let heard = Heard::of(&*clients[0]);
    let first = set(&*clients[0], None, &pool(1, "n-0")).unwrap();
    heard.until(first);
    let told = Told::default();
    std::thread::scope(|scope| {
        for (at, store) in clients.iter().enumerate() {
            let told = &told;
            scope.spawn(move || {
                let mut wins = 0;
                for attempt in 0.. {
                    let found = store.get(pool(1, "a").key()).unwrap().unwrap();
                    let record = pool(1, &format!("w-{at}-{attempt}"));
                    let outcome = set(&**store, Some(found.version), &record);
                    told.keep(Some(found.version), &record, &outcome);
                    match outcome {
                        Ok(_) => wins += 1,
                        Err(SetError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    if wins == ROUNDS {
                        break;
                    }
                }
            });
        }
    });
    let last = stage.client().get(pool(1, "a").key()).unwrap().unwrap().version;
    let [stored, ..] = told.check(&heard.until(last));
    assert_eq!(stored, 4 * ROUNDS as usize);
}

/// Linearizable reads: the other client asks after the answer, so it sees no less.
fn what_was_answered_is_read_by_everybody_from_then_on(stage: &dyn Stage) {
    let (one, other) = (stage.client(), stage.client());
    let mut version = set(&*one, None, &pool(1, "n-0")).unwrap();
    for round in 1..40 {
        let (sets, gets) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let record = pool(1, &format!("n-{round}"));
        version = set(&**sets, Some(version), &record).unwrap();
        let found = gets.get(record.key()).unwrap().unwrap();
        assert_eq!((found.version, &found.record), (version, &record));
        assert_eq!(gets.list(Kind::Pool).unwrap(), [found]);
    }
}

fn watchers_hear_of_every_change_once_in_order(stage: &dyn Stage) {
    let (one, other) = (stage.client(), stage.client());
    let heard = [Heard::of(&*one), Heard::of(&*one), Heard::of(&*other)];
    let (mut told, mut last) = (Vec::new(), Version(0));
    for round in 0..10 {
        let store = if round % 2 == 0 { &one } else { &other };
        let id = round % 3;
        let (record, before) = (pool(id, &format!("n-{round}")), store.get(pool(id, "a").key()).unwrap());
        let before = before.map(|before| before.version);
        last = match before {
            Some(_) if round > 6 => store.compare_and_set(record.key(), before, None).unwrap(),
            before => set(&**store, before, &record).unwrap(),
        };
        told.push((record.key(), last, before.is_none_or(|_| round <= 6)));
    }
    for heard in &heard {
        let log = heard.until(last);
        assert_in_order(&log);
        let log: Vec<_> = log.iter().map(|changed| (changed.key, changed.version, changed.now.is_some())).collect();
        assert_eq!(log, told);
    }
    // Who comes later hears nothing of before.
    let late = Heard::of(&*other);
    let next = put(&*one, &pool(9, "z"));
    assert_eq!(late.until(next).len(), 1);
}

fn a_cut_client_fails_and_then_hears_all_that_it_missed(stage: &dyn Stage) {
    let (near, far) = (stage.client(), stage.far().unwrap());
    let kept = put(&*near, &pool(1, "kept"));
    assert_eq!(get(&*far.store, pool(1, "a").key()).unwrap().version, kept);
    let heard = Heard::of(&*far.store);
    (far.set)(Mood::Cut);
    assert!(matches!(far.store.get(pool(1, "a").key()), Err(StoreError::Unavailable { .. })));
    assert!(far.store.list(Kind::Pool).is_err());
    let outcome = set(&*far.store, Some(kept), &pool(1, "from-far"));
    assert!(matches!(outcome, Err(SetError::Store(_) | SetError::Unknown(_))), "{outcome:?}");

    let first = set(&*near, None, &pool(2, "b")).unwrap();
    let second = set(&*near, Some(first), &pool(2, "c")).unwrap();
    let third = near.compare_and_set(pool(1, "a").key(), Some(kept), None).unwrap();
    let fourth = set(&*near, None, &pool(3, "d")).unwrap();
    assert_eq!(heard.so_far(), []);
    (far.set)(Mood::Works);
    let log = heard.until(fourth);
    let log: Vec<_> = log.iter().map(|changed| (changed.version, changed.now.is_some())).collect();
    assert_eq!(log, [(first, true), (second, true), (third, false), (fourth, true)]);
    assert_eq!(get(&*far.store, pool(2, "a").key()).unwrap().version, second);
}

fn after_a_long_absence_a_watcher_hears_what_is_news_and_nothing_else(stage: &dyn Stage) {
    let (near, far) = (stage.client(), stage.far().unwrap());
    for id in [1, 2, 3] {
        put(&*near, &pool(id, "before"));
    }
    let heard = Heard::of(&*far.store);
    (far.set)(Mood::Cut);
    let changed = put(&*near, &pool(2, "meanwhile"));
    let gone = near.get(pool(3, "a").key()).unwrap().unwrap().version;
    let gone = near.compare_and_set(pool(3, "a").key(), Some(gone), None).unwrap();
    let made = put(&*near, &pool(4, "made"));
    stage.forget(&*near);
    (far.set)(Mood::Works);
    let next = eventually("the watcher is back", || {
        let next = put(&*near, &pool(5, &format!("n-{}", heard.so_far().len())));
        heard.so_far().last().is_some_and(|last| last.version >= next).then_some(next)
    });
    let mut log = heard.until(next);
    log.retain(|changed| ![pool(5, "a").key(), pool(6, "a").key()].contains(&changed.key));
    let told: Vec<_> = log.iter().map(|changed| (changed.key, changed.now.is_some())).collect();
    assert_eq!(told, [2, 4, 3].map(|id| (pool(id, "a").key(), id != 3)));
    assert_eq!((log[0].version, log[1].version), (changed, made));
    assert!(log[2].version >= gone);
}

/// M7: whoever lost the answer says that it does not know, never that it happened or that it did not.
fn a_lost_answer_is_unknown_and_nothing_else(stage: &dyn Stage) {
    let (near, far) = (stage.client(), stage.far().unwrap());
    for attempt in 0.. {
        // The connection is proved by this, so that the next goes out at once.
        let before = put(&*far.store, &pool(1, &format!("before-{attempt}")));
        (far.set)(Mood::LosesAnswers);
        let outcome = set(&*far.store, Some(before), &pool(1, &format!("lost-{attempt}")));
        let found = near.get(pool(1, "a").key()).unwrap().unwrap();
        // What still hangs in the network gets no answer, not even later.
        (far.set)(Mood::Cut);
        (far.set)(Mood::Works);
        match outcome {
            Err(SetError::Unknown(_)) => {
                assert_eq!(name(&found.record), format!("lost-{attempt}"), "it did arrive");
                return assert_eq!(get(&*far.store, found.record.key()), Some(found));
            }
            // A pause before it made the client ask first, which got no answer.
            Err(SetError::Store(_)) => assert_eq!(found.version, before),
            outcome => panic!("{outcome:?} without an answer"),
        }
        assert!(attempt < 20, "no request ever went out");
    }
}

/// The watcher behind the network missed more changes than the store remembers and was told, rightly, only the last: on
/// a busy machine the near client had set the record a thousand times meanwhile. Hence the allowances.
fn cuts_in_the_middle_never_give_a_wrong_outcome(stage: &dyn Stage) {
    const CUTS: u32 = 12;
    let (near, far) = (stage.client(), stage.far().unwrap());
    let heard = [Heard::of(&*near), Heard::of(&*far.store)];
    let start = put(&*near, &pool(1, "start"));
    // A watch that is cut off before it has begun is told of what is there, not of what was.
    heard.iter().for_each(|heard| drop(heard.until(start)));
    let setters = Setters::default();
    setters.run(&[&*near, &*far.store], || {
        for cut in 0..CUTS {
            setters.allow(30);
            setters.go_on(8 + cut % 5);
            setters.allow(30);
            (far.set)(if cut % 3 == 0 { Mood::LosesAnswers } else { Mood::Cut });
            setters.go_on(6);
            (far.set)(Mood::Cut);
            (far.set)(Mood::Works);
        }
    });
    let last = put(&*near, &pool(2, "end"));
    for heard in &heard {
        setters.told.check(&heard.until(last));
    }
    let keys = |heard: &Heard| heard.so_far().iter().map(|changed| changed.version).collect::<Vec<_>>();
    assert_eq!(keys(&heard[0]), keys(&heard[1]));
}
