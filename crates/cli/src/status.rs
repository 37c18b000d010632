//! The glance: one screen that says first whether the data is redundant.

use dyad_api::model::{DiskAccess, Health, NodeState, RedundancyState, Status, Trouble, Volume};

use crate::table::{Columns, count, harmless, size, time};

/// The screen that the glance has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Lines.
    pub rows: usize,
    /// Characters per line.
    pub columns: usize,
}

impl Screen {
    /// Where there is no terminal: lines as long as they are, and as many as a small terminal has.
    pub const NONE: Self = Self { rows: 24, columns: usize::MAX };
}

/// Lines that are there whatever happens: the answer, blank lines, the node.
const ROWS_FIXED: usize = 6;
/// Most lines of pools and of troubles; `dyad pool list` and the log have the rest.
const POOL_ROWS_MAX: usize = 6;
const TROUBLE_ROWS_MAX: usize = 4;
/// Fewest lines of volumes, however small the screen.
const VOLUME_ROWS_MIN: usize = 3;

/// Whether anything is less redundant than it should be, or wrong.
pub fn is_calm(status: &Status) -> bool {
    status.volumes.iter().all(is_well) && status.troubles.is_empty()
}

fn is_well(volume: &Volume) -> bool {
    matches!(volume.redundancy.state, RedundancyState::Redundant | RedundancyState::Single)
}

/// The whole glance.
pub fn render(status: &Status, screen: Screen) -> String {
    let pools = status.pools.len().min(POOL_ROWS_MAX) + 2;
    let troubles = status.troubles.len().min(TROUBLE_ROWS_MAX) * 2;
    let rows = screen.rows.saturating_sub(ROWS_FIXED + pools + troubles).max(VOLUME_ROWS_MIN);
    let mut text = answer(&status.volumes);
    text.push_str(&volumes(&status.volumes, rows));
    text.push_str(&troubles_told(&status.troubles));
    text.push_str(&pools_told(status));
    text.push_str(&node(status));
    text.lines().map(|line| cut(line, screen.columns) + "\n").collect()
}

/// The answer to the one question, about all volumes.
fn answer(volumes: &[Volume]) -> String {
    let all = volumes.len();
    let bad = volumes.iter().filter(|volume| !is_well(volume)).count();
    match (all, bad) {
        (0, _) => "There are no volumes; `dyad volume create --help` says how to make one.\n".into(),
        (1, 0) => "The volume is as redundant as it should be.\n".into(),
        (_, 0) => format!("All {all} volumes are as redundant as they should be.\n"),
        (1, _) => "The volume is NOT as redundant as it should be.\n".into(),
        (_, 1) => format!("1 of {all} volumes is NOT as redundant as it should be.\n"),
        _ => format!("{bad} of {all} volumes are NOT as redundant as they should be.\n"),
    }
}

/// One line per volume, the worst first.
fn volumes(volumes: &[Volume], rows: usize) -> String {
    let mut sorted: Vec<_> = volumes.iter().collect();
    sorted.sort_by_key(|volume| (volume.redundancy.state, &volume.name));
    let shown = if sorted.len() <= rows { sorted.len() } else { rows - 1 };
    let mut columns = Columns::pairs().indented(2);
    for volume in &sorted[..shown] {
        let size = size(volume.size_bytes);
        columns.row([volume.name.clone(), size, volume.redundancy.sentence.clone()]);
    }
    let mut text = columns.finish();
    let rest = &sorted[shown..];
    if !rest.is_empty() {
        let bad = rest.iter().filter(|volume| !is_well(volume)).count();
        let which = if bad == 0 { "all well".into() } else { format!("{bad} of them not well") };
        text.push_str(&format!("  and {} more, {which} (`dyad volume list`)\n", rest.len()));
    }
    text
}

fn troubles_told(troubles: &[Trouble]) -> String {
    let mut text = String::new();
    for trouble in troubles.iter().take(TROUBLE_ROWS_MAX) {
        text.push_str(&format!("\n! {}: {}", harmless(&trouble.object), harmless(&trouble.what)));
        if !trouble.advice.is_empty() {
            text.push_str(&format!("\n    {}", harmless(&trouble.advice)));
        }
    }
    let more = troubles.len().saturating_sub(TROUBLE_ROWS_MAX);
    if more > 0 {
        text.push_str(&format!("\n  and {} more; see the node's log", count(more, "trouble")));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn pools_told(status: &Status) -> String {
    let mut columns = Columns::new(&["NODE", "POOL", ">SIZE", ">FREE", ">IMAGES", "HEALTH"]);
    for pool in status.pools.iter().take(POOL_ROWS_MAX) {
        let state = health(pool.health);
        let state = if pool.reason.is_empty() { state.into() } else { format!("{state}: {}", pool.reason) };
        let (all, free) = (size(pool.capacity_bytes), size(pool.free_bytes));
        columns.row([pool.node.clone(), pool.name.clone(), all, free, pool.images.to_string(), state]);
    }
    match status.pools.len() {
        0 => "\nThere are no pools; `dyad pool create --help` says how to make one.\n".into(),
        all if all > POOL_ROWS_MAX => {
            format!("\n{}and {} more (`dyad pool list`)\n", columns.finish(), all - POOL_ROWS_MAX)
        }
        _ => format!("\n{}", columns.finish()),
    }
}

fn node(status: &Status) -> String {
    let node = &status.node;
    let state = match node.state {
        NodeState::Starting => "starting",
        NodeState::Serving => "serving",
        NodeState::Stopping => "stopping",
        NodeState::Connected => "connected",
        NodeState::Unreachable => "unreachable",
    };
    let portals = if node.portals.is_empty() { "nowhere".into() } else { node.portals.join(", ") };
    let hosts = count(status.sessions.len(), "session");
    let slow = if node.disk_access == DiskAccess::Threads { "; disks by threads, not io_uring" } else { "" };
    let slow = match node.peer_encryption {
        Some(false) => format!("{slow}; not encrypted between nodes"),
        Some(true) | None => slow.to_owned(),
    };
    let up = time(node.uptime_seconds);
    let (name, version) = (harmless(&node.name), &node.version);
    format!("\n{name} (version {version}): {state} for {up} on {portals}; {hosts}{slow}\n")
}

/// In capitals when it needs attention.
pub fn health(health: Health) -> &'static str {
    match health {
        Health::Online => "online",
        Health::Damaged => "DAMAGED",
        Health::Failed => "FAILED",
        Health::Missing => "MISSING",
    }
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.into();
    }
    let mut cut: String = line.chars().take(columns.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
