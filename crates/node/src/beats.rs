//! The thread that beats: it keeps the node's table of leases (M5), whatever the reactor does.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_mirror::Leases;
use dyad_units::Period;

use crate::clock;

/// The longest sleep: a beat that is wanted sooner than expected (a new epoch) comes no later than this.
const NAP_MAX: Period = Period::from_millis(20);

/// The node's one table of leases, asked by every part and kept by the thread that beats.
pub(crate) struct LeaseTable(Mutex<Leases>);

impl LeaseTable {
    pub(crate) fn new(leases: Leases) -> Self {
        Self(Mutex::new(leases))
    }

    /// Held for one call of a part or one beat.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Leases> {
        // A part that panicked with it is out of service; what the table says of the others stays true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LeaseTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseTable")
    }
}

/// Runs until the other side of `end` is gone.
pub(crate) fn run(leases: &LeaseTable, end: &Receiver<()>) {
    loop {
        let next = {
            let mut leases = leases.lock();
            // A node without neighbours beats all the same: that is how a pause of the process is noticed (M6).
            let _ = leases.beat(clock::now());
            leases.next_beat()
        };
        let nap = next.since(clock::now()).min(NAP_MAX);
        match end.recv_timeout(nap.to_duration()) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
