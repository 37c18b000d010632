//! The patches in `mutants/`, and what their heads say.
//!
//! ```text
//!  # M2: an abort unlocks
//!  # Broken: what is broken, in a sentence or two.
//!  # Caught: which interleaving shows it.
//!  # Mix: pool                  only where another than `cluster` has to catch it
//!  diff --git a/crates/… b/crates/…
//! ```

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::hunt::Mix;
use crate::cargo;

/// One deliberate breakage.
pub struct Patch {
    /// The file's name without its ending.
    pub name: String,
    pub path: PathBuf,
    /// Which rule it breaks.
    pub rule: String,
    /// Which mix of the simulator has to catch it.
    pub mix: Mix,
}

/// All, by number.
pub fn all() -> anyhow::Result<Vec<Patch>> {
    let folder = cargo::root().join("mutants");
    let files = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Patch> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (rule, mix) = parse(&text).with_context(|| format!("head of {}", path.display()))?;
    Ok(Patch { name, path: path.to_owned(), rule, mix })
}

/// Rule and mix of a patch's head.
fn parse(text: &str) -> anyhow::Result<(String, Mix)> {
    let head = || text.lines().take_while(|line| !line.starts_with("diff ")).filter_map(|line| line.strip_prefix("# "));
    let (rule, _) =
        head().next().and_then(|line| line.split_once(": ")).context("the first line is not '# RULE: ...'")?;
    for part in ["Broken: ", "Caught: "] {
        anyhow::ensure!(head().any(|line| line.starts_with(part)), "no line '# {part}...'");
    }
    let mix = match head().find_map(|line| line.strip_prefix("Mix: ")) {
        Some(name) => Mix::ALL.into_iter().find(|mix| mix.to_string() == name).context("no such mix")?,
        None => Mix::Cluster,
    };
    Ok((rule.to_owned(), mix))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::mutants::hunt::Mix;

    #[test]
    fn a_head_names_rule_and_mix() {
        let whole =
            "# P5: mark after write\n# Broken: x\n# Caught: y\n# Mix: pool\ndiff --git a/b b/b\n# Mix: cluster\n";
        assert_eq!(parse(whole).unwrap(), ("P5".to_owned(), Mix::Pool));
        let usual = "# M2: an abort unlocks\n# Broken: x\n# Caught: y\ndiff --git a/b b/b\n";
        assert_eq!(parse(usual).unwrap(), ("M2".to_owned(), Mix::Cluster));
        for bad in ["diff --git a/b b/b\n", "# M2\n# Broken: x\n# Caught: y\n", "# M2: a\n# Broken: x\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
