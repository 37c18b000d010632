//! The thread that carries the parts' proposals and questions to the config store, and its answers back (M7).

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use dyad_cluster::{Key, Record, Store};
use dyad_units::SegmentId;

use crate::reactor::{Asked, Mailbox, Message, Question, StoreAnswer};

/// Questions that may wait: a part has a proposal and a read at a time, and asks again when there is no room.
pub(crate) const QUESTIONS_MAX: usize = 1024;

/// Runs until nobody can ask any more.
pub(crate) fn run(store: &Arc<dyn Store>, questions: &Receiver<Question>, mailbox: &Mailbox) {
    for Question { volume, part, what } in questions {
        let answer = match what {
            Asked::Propose { record, expected } => {
                StoreAnswer::Outcome(dyad_cluster::propose(&**store, &record, expected))
            }
            Asked::Read(segment) => read(&**store, segment),
        };
        mailbox.post(Message::Answer { volume, part, answer });
    }
}

fn read(store: &dyn Store, segment: SegmentId) -> StoreAnswer {
    match store.get(Key::Segment(segment)) {
        Ok(Some(found)) => match found.record {
            Record::Segment(record) => StoreAnswer::Seen(Some(Box::new(record))),
            // A store that gives another record than was asked for is believed nothing.
            _ => StoreAnswer::Unseen,
        },
        Ok(None) => StoreAnswer::Seen(None),
        Err(error) => {
            tracing::warn!(%segment, %error, "the config store cannot be read");
            StoreAnswer::Unseen
        }
    }
}
