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
        other => return rejected(other),
    };
    match store.compare_and_set(key, Some(version), Some(&Record::Segment(record.clone()))) {
        Ok(_) => Outcome::Accepted,
        // Somebody was faster. What stands there now is looked at by the next attempt, which rejects,
        // accepts or goes on: one rule in one place.
        Err(SetError::Conflict { .. } | SetError::Unknown(_) | SetError::Store(_)) => Outcome::Unknown,
        Err(SetError::TooLarge { .. }) => rejected(store.get(key).ok().flatten()),
    }
}

fn rejected(found: Option<Versioned>) -> Outcome {
    let current = match found {
        Some(Versioned { record: Record::Segment(current), .. }) => Some(Box::new(current)),
        Some(_) | None => None,
    };
    Outcome::Rejected { current }
}
