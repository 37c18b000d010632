//! What a quickstart shows: how to use it, then what it does, live.

use std::io::{IsTerminal, stdout};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dyad_api::model::{Activity, RedundancyState, Status};
use dyad_api::{Control, ControlError};

use super::place::Place;
use crate::commands::screen;
use crate::failure::Failure;
use crate::table::{self, count, harmless, size};

/// How often the node is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines of volumes and of troubles that are redrawn.
const LINES_MAX: usize = 4;

/// What there is and three lines to copy that use it.
pub fn welcome(node: &dyn Control, place: &Place, portal: SocketAddr) -> Result<String, Failure> {
    let failed = |error: ControlError| Failure::failed(error.to_string(), error.advice());
    let volumes = node.volumes().map_err(failed)?;
    let admin = place.socket();
    let mut text = format!("Dyad is running; its data is in {}.\n\n", place.shown());
    text.push_str(&format!("  portal  {portal}\n"));
    for volume in &volumes {
        let (target, size) = (&volume.target, size(volume.size_bytes));
        text.push_str(&format!("  target  {target}  ({size}, {})\n", count(volume.images.len(), "image")));
    }
    text.push_str(&format!("  admin   {}\n", admin.display()));
    match volumes.first() {
        Some(volume) => text.push_str(&uses(&volume.target, portal)),
        None => text.push_str("\nThere is no volume any more; `dyad volume create --help` says how to make one.\n"),
    }
    text.push_str("\n`dyad status` in this directory tells more. Ctrl-C ends it; the data stays.\n\n");
    Ok(text)
}

/// Lines to copy.
pub fn uses(target: &str, portal: SocketAddr) -> String {
    let url = format!("iscsi://{portal}/{target}/0");
    format!(
        "\nUse it from this machine:\n\
         \x20 sudo iscsiadm -m discovery -t sendtargets -p {portal} && sudo iscsiadm -m node -T {target} -p {portal} -l\n\
         \x20 qemu-img info {url}\n\
         \x20 iscsi-perf -t 10 {url}\n"
    )
}

/// Shows what the node does until the process is told to end: redrawn on a terminal, a line per change elsewhere.
/// Ends by itself only if the node cannot be asked any more.
pub async fn live(node: Arc<dyn Control>) -> Result<(), Failure> {
    let mut picture = Picture::new(stdout().is_terminal());
    loop {
        let asked = Arc::clone(&node);
        match tokio::task::spawn_blocking(move || asked.status()).await {
            Ok(Ok(status)) => table::print(&picture.next(&status, screen().columns)),
            // Busy or late: the next time will do. An end of the node is noticed elsewhere.
            Ok(Err(error)) => tracing::warn!(%error, "no status"),
            Err(error) => return Err(Failure::failed(format!("the screen broke: {error}"), "report it")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was shown last.
pub struct Picture {
    redraws: bool,
    lines: usize,
    shown: String,
    activity: Option<Activity>,
}

impl Picture {
    /// One that prints a line per change.
    pub fn plain() -> Self {
        Self::new(false)
    }

    fn new(redraws: bool) -> Self {
        Self { redraws, lines: 0, shown: String::new(), activity: None }
    }

    /// The characters that bring the screen up to date.
    pub fn next(&mut self, status: &Status, columns: usize) -> String {
        let facts = facts(status);
        let activity = total(status);
        let before = self.activity.replace(activity).unwrap_or(activity);
        if !self.redraws {
            if facts == self.shown {
                return String::new();
            }
            self.shown.clone_from(&facts);
            return facts;
        }
        let text = facts + &rates(&before, &activity, status.sessions.len());
        let lines: Vec<String> =
            text.lines().map(|line| line.chars().take(columns.saturating_sub(1)).collect()).collect();
        // Back to the first line of the picture, then clear to the end of the screen (ECMA-48 CPL and ED).
        let back = if self.lines == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.lines) };
        self.lines = lines.len();
        back + &lines.join("\n") + "\n"
    }
}

/// What is worth a line of its own when it changes.
fn facts(status: &Status) -> String {
    let mut text = String::new();
    for volume in status.volumes.iter().take(LINES_MAX) {
        let name = harmless(&volume.name);
        let mark = if volume.redundancy.state >= RedundancyState::Single { ' ' } else { '!' };
        let hosts = if volume.sessions == 0 {
            "no host is logged in".into()
        } else {
            format!("{} logged in", count(volume.sessions as usize, "host"))
        };
        text.push_str(&format!("{mark} {name}  redundant? {}; {hosts}\n", volume.redundancy.sentence));
    }
    for trouble in status.troubles.iter().take(LINES_MAX) {
        text.push_str(&format!("! {}: {}\n", harmless(&trouble.object), harmless(&trouble.what)));
    }
    text
}

fn total(status: &Status) -> Activity {
    let mut sum = Activity::default();
    for did in status.volumes.iter().map(|volume| volume.activity) {
        sum.reads += did.reads;
        sum.writes += did.writes;
        sum.read_bytes += did.read_bytes;
        sum.written_bytes += did.written_bytes;
    }
    sum
}

/// What happened in the last second.
fn rates(before: &Activity, now: &Activity, sessions: usize) -> String {
    let per_second = |now: u64, before: u64| now.saturating_sub(before) / PAUSE.as_secs();
    let (reads, writes) = (per_second(now.reads, before.reads), per_second(now.writes, before.writes));
    let read = size(per_second(now.read_bytes, before.read_bytes));
    let written = size(per_second(now.written_bytes, before.written_bytes));
    let sessions = count(sessions, "session");
    format!("  {reads} reads/s ({read}/s), {writes} writes/s ({written}/s), {sessions}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn elsewhere_than_on_a_terminal_a_line_is_printed_per_change() {
        let node = fake::FakeNode::busy();
        let mut picture = Picture::new(false);
        let first = picture.next(&node.status().unwrap(), 80);
        assert!(
            first.starts_with("  vm1  redundant? yes: 2 images in-sync; 1 host logged in\n! vm2  redundant? NO"),
            "{first}"
        );
        assert_eq!(picture.next(&node.status().unwrap(), 80), "");
        node.delete_session("node-1", 7).unwrap();
        let mut status = node.status().unwrap();
        status.volumes[0].sessions = 0;
        assert!(picture.next(&status, 80).contains("vm1  redundant? yes: 2 images in-sync; no host is logged in"));
    }

    #[test]
    fn a_terminal_is_redrawn_in_place_and_no_line_is_wider_than_it() {
        let mut status = fake::FakeNode::busy().status().unwrap();
        let mut picture = Picture::new(true);
        assert!(!picture.next(&status, 40).contains('\x1b'));
        status.volumes[0].activity.reads += 500;
        let again = picture.next(&status, 40);
        assert!(again.starts_with("\x1b[5F\x1b[J"), "{again:?}");
        assert!(again.contains("  500 reads/s"), "{again:?}");
        assert!(again.lines().skip(1).all(|line| line.chars().count() < 40), "{again:?}");
    }

    #[test]
    fn the_lines_to_copy_name_portal_and_target() {
        let text = uses("iqn.2026-11.san.dyad:demo", "127.0.0.1:3261".parse().unwrap());
        assert_eq!(text.matches("127.0.0.1:3261").count(), 4);
        assert!(text.contains("qemu-img info iscsi://127.0.0.1:3261/iqn.2026-11.san.dyad:demo/0\n"), "{text}");
    }
}
