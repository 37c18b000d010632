//! Programs of the system that some tests need.

use std::path::PathBuf;

/// Where `program` is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// True if all `programs` are there. Otherwise says which are not, and that the test is skipped; but panics where
/// `DYAD_TOOLS=required` promises them.
pub fn has(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let required = std::env::var("DYAD_TOOLS").is_ok_and(|value| value == "required");
    assert!(!required, "{} not installed, though DYAD_TOOLS=required", missing.join(", "));
    println!("skipped: {} not installed", missing.join(", "));
    false
}

/// True if tgt is there. It is needed only for benchmarks and for the harness's own tests, so it is never required.
pub fn has_peer() -> bool {
    let found = find("tgtd").is_some() && find("tgtadm").is_some();
    if !found {
        println!("skipped: tgt not installed");
    }
    found
}
