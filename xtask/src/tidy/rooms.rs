//! Pure rooms decide, edges act (docs/design.md, section 3). This keeps it so.

use std::process::Command;

use anyhow::Context as _;

use super::Tracked;
use super::source::code;
use crate::cargo;

const PURE: [&str; 9] = ["units", "payload", "contract", "scsi", "iscsi", "mirror", "pool", "cluster", "wire"];

const FIXED: &str = "use a BTreeMap, a slab or a fixed hasher: random order makes runs unrepeatable";

/// What no pure room may call, and what to do instead.
const BANNED: [(&str, &str); 15] = [
    ("std::fs", "return an action; the node does it"),
    ("std::net", "return bytes to send; the node sends them (core::net has addresses, which are only data)"),
    ("std::thread", "return to the caller; somebody else waits"),
    ("std::process", "return an error"),
    ("std::env", "take it as a setting"),
    ("std::time::Instant", "take a Moment"),
    ("Instant::now", "take a Moment"),
    ("SystemTime", "take a Moment"),
    ("HashMap::new", FIXED),
    ("HashMap::with_capacity", FIXED),
    ("HashSet::new", FIXED),
    ("HashSet::with_capacity", FIXED),
    ("RandomState", FIXED),
    ("async fn", "be a state machine: event in, actions out"),
    (".await", "be a state machine: event in, actions out"),
];

/// Crates that act, wait or draw lots.
const ACTING: [&str; 13] = [
    "tokio",
    "rustix",
    "libc",
    "nix",
    "socket2",
    "io-uring",
    "mio",
    "redb",
    "rand",
    "getrandom",
    "tempfile",
    "axum",
    "parking_lot",
];

/// A target without an operating system that Debian's and rustup's toolchains can have.
const BARE: &str = "wasm32-unknown-unknown";

fn room(path: &str) -> Option<&str> {
    let (room, rest) = path.strip_prefix("crates/")?.split_once('/')?;
    (PURE.contains(&room) && rest.starts_with("src/")).then_some(room)
}

pub fn check_calls(files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && room(&file.path).is_some()) {
        for (number, line) in code(&file.text).lines().enumerate() {
            let called = BANNED.iter().filter(|(call, _)| calls(line, call));
            let hashed = is_randomly_ordered(line).then_some(&("a map without a hasher", FIXED));
            for (call, instead) in called.chain(hashed) {
                problems.push(format!("{}:{}: {call}: {instead}", file.path, number + 1));
            }
        }
    }
    Ok(problems)
}

/// Whether `call` stands in the line as whole words.
fn calls(line: &str, call: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(call).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + call.len()..].chars().next());
        (call.starts_with('.') || !is_word(before)) && !is_word(after)
    })
}

/// A hash map or set whose type names no hasher.
fn is_randomly_ordered(line: &str) -> bool {
    [("HashMap<", 3), ("HashSet<", 2)].iter().any(|(name, parameters)| {
        line.match_indices(name).any(|(at, _)| count_parameters(&line[at + name.len()..]) < *parameters)
    })
}

/// Type parameters up to the bracket that closes the list.
fn count_parameters(list: &str) -> usize {
    let (mut depth, mut count) = (0, 1);
    for c in list.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if depth == 0 => break,
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => count += 1,
            _ => {}
        }
    }
    count
}

pub fn check_dependencies(_files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let mut command = cargo::command();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().context("cannot run cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(room) = package["name"].as_str().and_then(|name| name.strip_prefix("dyad-")) else { continue };
        if !PURE.contains(&room) {
            continue;
        }
        // What only tests use may act.
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for name in dependencies.filter(|dependency| dependency["kind"].is_null()).filter_map(|d| d["name"].as_str()) {
            let impure = name.strip_prefix("dyad-").is_some_and(|other| !PURE.contains(&other));
            if impure || ACTING.contains(&name) {
                problems.push(format!("the pure room {room} depends on {name}"));
            }
        }
    }
    Ok(problems)
}

pub fn check_target(_files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", BARE]).output();
    let dir = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if dir.is_empty() || !std::path::Path::new(&dir).is_dir() {
        println!("       (not checked: the target {BARE} is not installed; rustup target add {BARE})");
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    for room in PURE {
        let status =
            cargo::command().args(["check", "-q", "-p", &format!("dyad-{room}"), "--target", BARE]).status()?;
        if !status.success() {
            problems.push(format!("{room} does not compile for {BARE}"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::super::Tracked;
    use super::check_calls;

    #[test]
    fn a_call_in_code_is_found_and_one_in_a_comment_is_not() {
        let file = |text: &str| Tracked { path: "crates/mirror/src/lib.rs".into(), text: text.into() };
        let problems = |text| check_calls(&[file(text)]).unwrap().len();
        assert_eq!(problems("// never std::fs here\nlet a = \"HashMap\";"), 0);
        assert_eq!(problems("use std::fs;\nlet now = Instant::now();"), 2);
        assert_eq!(problems("self.await_data(); x.awaiting(); let a: HashMap<u8, (u8, u8), Fixed>;"), 0);
        assert_eq!(problems("let a: HashMap<u8, (u8, u8)> = HashMap::new();\nx.await?"), 3);
    }
}
