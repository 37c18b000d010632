//! The scratch copy of the tree. Only files that changed are written, so that only what depends on them is built anew.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::patch::Patch;
use crate::cargo;

/// The copy.
pub struct Copy {
    /// Where the tree is.
    tree: PathBuf,
    /// Where the copy and what is built from it are.
    scratch: PathBuf,
}

/// A patch that is applied to the copy.
pub struct Applied<'a> {
    copy: &'a Copy,
    /// What the files that it changes held before. Not taken from the tree again: somebody may be working there.
    before: Vec<(String, Vec<u8>)>,
}

impl Copy {
    /// Makes the copy the same as the tree.
    pub fn make(scratch: &Path) -> anyhow::Result<Self> {
        let tree = scratch.join("tree");
        std::fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
        // git looks for a repository by true paths.
        let (scratch, tree) = (scratch.canonicalize()?, tree.canonicalize()?);
        let copy = Self { tree, scratch };
        let wanted: BTreeSet<String> = tracked()?.into_iter().collect();
        for path in &wanted {
            copy.restore(path)?;
        }
        copy.remove_others(&wanted, Path::new(""))?;
        Ok(copy)
    }

    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Where builds go.
    pub fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Where is kept which seeds the unmutated code passed.
    pub fn passed(&self) -> PathBuf {
        self.scratch.join("passed")
    }

    /// Names what the simulator is made of.
    pub fn hash(&self) -> anyhow::Result<u64> {
        let mut hasher = DefaultHasher::new();
        for path in tracked()?.iter().filter(|path| path.starts_with("crates/") || path.starts_with("Cargo.")) {
            path.hash(&mut hasher);
            std::fs::read(self.tree.join(path))?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// Applies a patch. One that does not apply any more is an error: it has to be made anew.
    pub fn apply(&self, patch: &Patch) -> anyhow::Result<Applied<'_>> {
        let gone = || format!("{} does not apply any more", patch.name);
        let paths = self.paths_of(patch).with_context(gone)?;
        let read = |path: String| Ok((path.clone(), std::fs::read(self.tree.join(path))?));
        let before = paths.into_iter().map(read).collect::<anyhow::Result<_>>()?;
        self.git(patch, &["--recount", "-C1"]).with_context(gone)?;
        Ok(Applied { copy: self, before })
    }

    /// The files that a patch changes.
    fn paths_of(&self, patch: &Patch) -> anyhow::Result<Vec<String>> {
        let listed = self.git(patch, &["--numstat", "--recount", "-C1"])?;
        let paths: Vec<_> = listed.lines().filter_map(|line| line.split('\t').nth(2)).map(str::to_owned).collect();
        anyhow::ensure!(!paths.is_empty(), "{} changes nothing", patch.name);
        Ok(paths)
    }

    fn git(&self, patch: &Patch, options: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("git");
        // The copy is no repository, and the one that it may lie in is not meant.
        command.arg("apply").args(options).arg(&patch.path).current_dir(&self.tree);
        let output = command.env("GIT_CEILING_DIRECTORIES", &self.scratch).output().context("cannot run git")?;
        anyhow::ensure!(output.status.success(), "git apply: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes one file the same as in the tree.
    fn restore(&self, path: &str) -> anyhow::Result<()> {
        let (from, to) = (cargo::root().join(path), self.tree.join(path));
        let Ok(wanted) = std::fs::read(&from) else { return Ok(()) }; // deleted and not committed
        if std::fs::read(&to).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Removes files that the tree does not have any more.
    fn remove_others(&self, wanted: &BTreeSet<String>, folder: &Path) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.tree.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.remove_others(wanted, &path)?;
            } else if !path.to_str().is_some_and(|path| wanted.contains(path) && cargo::root().join(path).exists()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Applied<'_> {
    /// Makes the copy what it was.
    pub fn undo(mut self) -> anyhow::Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> anyhow::Result<()> {
        for (path, bytes) in self.before.drain(..) {
            let path = self.copy.tree.join(path);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            println!("error: cannot restore the copy: {error:?}");
        }
    }
}

/// Paths of the tree's files.
fn tracked() -> anyhow::Result<Vec<String>> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(args).current_dir(cargo::root()).output().context("cannot run git")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
