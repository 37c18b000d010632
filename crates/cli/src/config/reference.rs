//! The reference and the example, made from the table of keys.

use std::fmt::Write;

use super::Config;
use super::keys::{self, Key};

/// Width of comment lines in the example.
const COMMENT_WIDTH: usize = 100;

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `dyad serve --config FILE` reads a file in [TOML](https://toml.io). Every key has a default, so that an empty \
         file\nwill do. A key that is not in this list is refused, with its line and the nearest that is; `dyad config \
         check FILE`\nchecks a file without starting anything. Changes take effect at the next start.\n\n\
         This page is generated from the program (`dyad config reference`); `packaging/dyad.toml` is the same as a \
         file to\nstart from (`dyad config example`). An arbiter has no file: `dyad arbiter --help`.\n",
    );
    let defaults = Config::default();
    let mut section = None;
    for key in keys::all() {
        if section != Some(section_of(key)) {
            section = Some(section_of(key));
            match section_of(key) {
                "" => text.push_str("\n## The node\n"),
                name => writeln!(text, "\n## `[{name}]`").expect("a string takes everything"),
            }
        }
        let default = (key.get)(&defaults).map_or("not set".into(), |value| format!("`{value}`"));
        let doc = fill(key.doc, "", COMMENT_WIDTH + 12);
        write!(text, "\n### `{}`\n\n{doc}\n\n- Takes: {}\n- Default: {default}\n", key.path, key.takes)
            .expect("a string takes everything");
    }
    text
}

/// `packaging/dyad.toml`: every key with its default, as a comment.
pub fn example() -> String {
    let mut text = String::from(
        "# Configuration of Dyad (dyad serve --config FILE). Every key is shown with its default; take away the `#`\n\
         # in front of what you want to change. `dyad config check FILE` checks the file.\n",
    );
    let defaults = Config::default();
    let mut section = "";
    for key in keys::all() {
        if section != section_of(key) {
            section = section_of(key);
            writeln!(text, "\n[{section}]").expect("a string takes everything");
        }
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        let value = (key.get)(&defaults).map_or_else(|| " # not set".into(), |value| format!(" {value}"));
        let doc = fill(key.doc, "# ", COMMENT_WIDTH);
        writeln!(text, "\n{doc}\n#{name} ={value}").expect("a string takes everything");
    }
    text
}

fn section_of(key: &Key) -> &'static str {
    key.path.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Breaks a text into lines that begin with `prefix` and are at most `width` long.
fn fill(text: &str, prefix: &str, width: usize) -> String {
    let mut lines = vec![String::from(prefix)];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.len() > prefix.len() && line.len() + 1 + word.len() > width {
            lines.push(format!("{prefix}{word}"));
        } else {
            if line.len() > prefix.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
