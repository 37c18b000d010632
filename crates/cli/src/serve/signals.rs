//! The signals that end a process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The signals that end a process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot take signals: {error}"), ""));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one that means the end. A hang-up does only where the process belongs to a terminal's screen; a
    /// service gets it as "read your configuration again", which takes a restart.
    pub async fn end(&mut self, hang_up_ends: bool) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    if hang_up_ends {
                        return "SIGHUP";
                    }
                    tracing::warn!("SIGHUP is ignored: a changed configuration takes effect at the next start");
                }
            }
        }
    }
}
