//! The thread that carries the mirrors' proposals to the config store and their outcomes back (M7).

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use dyad_cluster::Store;

use crate::reactor::{Mailbox, Message, Proposal};

/// Proposals that may wait: a mirror has one at a time, and asks again when there is no room.
pub(crate) const PROPOSALS_MAX: usize = 1024;

/// Runs until nobody can propose any more.
pub(crate) fn run(store: &Arc<dyn Store>, proposals: &Receiver<Proposal>, mailbox: &Mailbox) {
    for Proposal { volume, record, expected } in proposals {
        let outcome = dyad_cluster::propose(&**store, &record, expected);
        mailbox.post(Message::Outcome { volume, outcome });
    }
}
