//! One word per idea (docs/design.md, section 2), and no word about the places where this was made.

use super::Tracked;
use super::source::code;

/// Parts of names that say in another word what design.md has a word for.
const OTHER_WORDS: [(&str, &str); 5] =
    [("master", "owner"), ("slave", "image"), ("replica", "image"), ("leader", "owner"), ("primary", "owner")];

/// Text that has no place in a public project; built from pieces, so that this file does not hold it.
const PLACES: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("far", "m-"), concat!("issues ", "show"), concat!("issues ", "list")];

pub fn check_ideas(files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.path.starts_with("xtask/src/tidy/")) {
        for (number, line) in code(&file.text).lines().enumerate() {
            let names = line.split(|c: char| !c.is_alphanumeric() && c != '_').flat_map(parts);
            for part in names {
                let part = part.strip_suffix('s').unwrap_or(&part);
                for (other, word) in OTHER_WORDS.iter().filter(|(other, _)| *other == part) {
                    problems.push(format!("{}:{}: {other}: our word is {word}", file.path, number + 1));
                }
            }
        }
    }
    Ok(problems)
}

pub fn check_places(files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for place in PLACES.iter().filter(|place| line.contains(**place)) {
                problems.push(format!("{}:{}: {place}", file.path, number + 1));
            }
        }
    }
    Ok(problems)
}

/// Words of a name: `snake_case`, `CamelCase` and `SCREAMING` alike, in small letters.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && !before.is_uppercase()) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().into_iter().for_each(|part| part.extend(c.to_lowercase()));
        }
        before = c;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::Tracked;
    use super::check_ideas;

    #[test]
    fn names_are_taken_apart_to_find_other_words() {
        let found = |text: &str| {
            let file = Tracked { path: "crates/mirror/src/lib.rs".into(), text: text.into() };
            check_ideas(&[file]).unwrap().len()
        };
        assert_eq!(found("struct ReplicaSet; fn is_master() {} const LEADERS: u8;"), 3);
        assert_eq!(found("// the master\nlet owner = mastered;"), 0);
    }
}
