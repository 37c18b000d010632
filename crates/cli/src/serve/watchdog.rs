//! Tells systemd that the node is alive, as long as it is.

use std::sync::Arc;
use std::time::Duration;

use dyad_api::Control;
use sd_notify::NotifyState;

/// Asks the node at half of the watchdog's period and reports only when it answers: a reactor that hangs lets
/// systemd restart the node. Runs for ever, or not at all without a watchdog.
pub async fn run(control: Arc<dyn Control>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let pause = (period / 2).max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(pause).await;
        let control = Arc::clone(&control);
        let answered = tokio::task::spawn_blocking(move || control.nodes().is_ok()).await;
        if matches!(answered, Ok(true)) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the node does not answer");
        }
    }
}

/// Tells systemd, if it listens; that it does not is no reason to stop.
pub fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
