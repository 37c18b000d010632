//! A proposal of an owner, carried to the store.

use dyad_units::Epoch;

use crate::record::{Key, Record};
use crate::segment::SegmentRecord;
use crate::store::{SetError, Store, Versioned};

/// What became of a proposed segment record (M7).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The store holds the proposed record.
    Accepted,
    /// The store holds another one, at an epoch at which the proposal can never succeed; none: the segment
    /// was deleted.
    Rejected {
        /// What is there.
        current: Option<Box<SegmentRecord>>,
    },
    /// Nobody knows yet. The same proposal has to be repeated until the record's epoch has moved (M7).
    Unknown,
}

/// Proposes `record` in the place of the one with epoch `expected`. Repeating a proposal is harmless: if it
/// was stored before, that is found out.
pub fn propose(store: &dyn Store, record: &SegmentRecord, expected: Epoch) -> Outcome {
    let key = Key::Segment(record.id);
    let found = match store.get(key) {
        Ok(found) => found,
        Err(_) => return Outcome::Unknown,
    };
    let version = match found {
        Some(Versioned { record: Record::Segment(current), .. }) if current == *record => return Outcome::Accepted,
        Some(Versioned { record: Record::Segment(current), version }) if current.epoch == expected => version,
        // An old copy of the records was put in the store's place (§8). The epoch has not moved, so nothing is known (M7).
        Some(Versioned { record: Record::Segment(current), .. }) if current.epoch < expected => {
            return Outcome::Unknown;
        }
        other => return rejected(other),
    };
    match store.compare_and_set(key, Some(version), Some(&Record::Segment(record.clone()))) {
        Ok(_) => Outcome::Accepted,
        // Somebody was faster. What stands there now is looked at by the next attempt, which rejects,
        // accepts or goes on: one rule in one place.
        Err(SetError::Conflict { .. } | SetError::Unknown(_) | SetError::Store(_)) => Outcome::Unknown,
        Err(SetError::TooLarge { .. }) => match store.get(key) {
            Ok(found) => rejected(found),
            Err(_) => Outcome::Unknown,
        },
    }
}

fn rejected(found: Option<Versioned>) -> Outcome {
    let current = match found {
        Some(Versioned { record: Record::Segment(current), .. }) => Some(Box::new(current)),
        Some(_) | None => None,
    };
    Outcome::Rejected { current }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, propose};
    use crate::change::Change;
    use crate::record::{Key, Record};
    use crate::store::Store;
    use crate::testing::{FakeStore, HERE, Mood, SEGMENT, segment};

    fn store() -> FakeStore {
        FakeStore::with(Record::Segment(segment(2)))
    }

    #[test]
    fn a_proposal_on_the_newest_record_is_stored() {
        let (store, old) = (store(), segment(2));
        let new = old.changed(&[Change::Own { node: HERE }]).unwrap();
        assert_eq!(propose(&store, &new, old.epoch), Outcome::Accepted);
        assert_eq!(store.get(Key::Segment(SEGMENT)).unwrap().unwrap().record, Record::Segment(new));
    }

    /// M7: whatever became of the first attempt, the second finds out.
    #[test]
    fn a_repeated_proposal_finds_itself_stored() {
        let (mut store, old) = (store(), segment(2));
        let new = old.changed(&[Change::Own { node: HERE }]).unwrap();
        store.mood = Mood::Away;
        assert_eq!(propose(&store, &new, old.epoch), Outcome::Unknown);
        store.mood = Mood::Forgets;
        assert_eq!(propose(&store, &new, old.epoch), Outcome::Unknown);
        store.mood = Mood::Works;
        assert_eq!(propose(&store, &new, old.epoch), Outcome::Accepted);
    }

    #[test]
    fn a_proposal_on_an_old_record_is_rejected_with_the_newest() {
        let (store, old) = (store(), segment(2));
        let other = old.changed(&[Change::Own { node: HERE }]).unwrap();
        propose(&store, &other, old.epoch);
        let late = old.changed(&[]).unwrap();
        assert_eq!(propose(&store, &late, old.epoch), Outcome::Rejected { current: Some(Box::new(other)) });
    }

    /// M7, §8: a store that fell behind says nothing about what became of the proposal.
    #[test]
    fn a_store_that_is_behind_leaves_the_outcome_unknown() {
        let (store, old) = (store(), segment(2));
        let known = old.changed(&[Change::Own { node: HERE }]).unwrap();
        let new = known.changed(&[]).unwrap();
        assert_eq!(propose(&store, &new, known.epoch), Outcome::Unknown);
    }

    #[test]
    fn a_proposal_for_a_segment_that_was_deleted_is_rejected() {
        let (store, old) = (store(), segment(2));
        let found = store.get(Key::Segment(SEGMENT)).unwrap().unwrap();
        store.compare_and_set(Key::Segment(SEGMENT), Some(found.version), None).unwrap();
        let new = old.changed(&[]).unwrap();
        assert_eq!(propose(&store, &new, old.epoch), Outcome::Rejected { current: None });
    }
}
