//! What is wrong with a configuration file, and where.

use std::fmt;
use std::path::PathBuf;

use super::keys;

/// How alike two names must be (Jaro-Winkler) for one to be offered instead of the other. By trial: catches one or
/// two slips in every key, and offers nothing for a word that only shares its first letters.
const LIKENESS_MIN: f64 = 0.85;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// Line, from 1; 0 where it belongs to no line.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

/// All that is wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            match error.line {
                0 if error.what.starts_with('`') => write!(f, "{end}{}: {}", self.path.display(), error.what)?,
                0 => write!(f, "{end}{} {}", self.path.display(), error.what)?,
                line => write!(f, "{end}{}:{line}:{}: {}", self.path.display(), error.column, error.what)?,
            }
        }
        Ok(())
    }
}

impl ConfigError {
    pub(super) fn without_place(what: String) -> Self {
        Self { line: 0, column: 0, what }
    }

    pub(super) fn at(text: &str, place: usize, what: String) -> Self {
        let before = text.get(..place).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, what }
    }

    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let what = match error.message() {
            // As where `[iscsi]` is written below `iscsi.target_prefix = ...`, which `dyad cluster init` writes.
            "duplicate key" => {
                "this key or section is there already, maybe as `section.key` above: write each once, and in one way"
                    .into()
            }
            message => format!("this is not TOML: {message}"),
        };
        match error.span() {
            Some(span) => Self::at(text, span.start, what),
            None => Self::without_place(what),
        }
    }

    pub(super) fn unknown_section(text: &str, place: usize, path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        let known = keys::all().filter_map(|key| key.path.rsplit_once('.')).map(|(section, _)| section);
        let what = match known.max_by(|a, b| alike(a, &path).total_cmp(&alike(b, &path))) {
            Some(near) if alike(near, &path) >= LIKENESS_MIN => {
                format!("there is no section `[{path}]`; did you mean `[{near}]`?")
            }
            _ => format!("there is no section `[{path}]`; `dyad config reference` lists all keys"),
        };
        Self::at(text, place, what)
    }

    pub(super) fn unknown_key(text: &str, place: usize, path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        let what = match nearest(&path) {
            Some(near) => format!("there is no key `{path}`; did you mean `{near}`?"),
            None => format!("there is no key `{path}`; `dyad config reference` lists all keys"),
        };
        Self::at(text, place, what)
    }
}

/// The known key that is most like `path`: the right name in another section, or a name with a slip.
fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    if let Some(moved) = keys::all().find(|known| last(known.path) == last(path)) {
        return Some(moved.path);
    }
    let likeness = |known: &str| alike(known, path).max(alike(&last(known), &last(path)));
    let best = keys::all().map(|known| (likeness(known.path), known.path)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

fn alike(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(one, other)
}
