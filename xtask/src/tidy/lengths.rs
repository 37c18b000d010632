//! Files of at most 500 lines, functions of at most 70; a ratchet for what was longer.

use std::collections::BTreeMap;

use super::Tracked;
use super::source::code;

const FILE_MAX: usize = 500;
const FUNCTION_MAX: usize = 70;
/// `PATH LINES` or `PATH::FUNCTION LINES`: today's length of what is too long. It may only shrink.
const RATCHET: &str = "xtask/tidy-ratchet.txt";

pub fn check(files: &[Tracked]) -> anyhow::Result<Vec<String>> {
    let mut allowed = ratchet(files)?;
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        judge(file.path.clone(), lines, FILE_MAX, &mut allowed, &mut problems);
        for (name, lines) in functions(&code(&file.text)) {
            judge(format!("{}::{name}", file.path), lines, FUNCTION_MAX, &mut allowed, &mut problems);
        }
    }
    problems.extend(allowed.into_keys().map(|what| format!("{what} is no longer too long: remove it from {RATCHET}")));
    Ok(problems)
}

fn judge(what: String, lines: usize, max: usize, allowed: &mut BTreeMap<String, usize>, problems: &mut Vec<String>) {
    if lines <= max {
        return;
    }
    match allowed.remove(&what) {
        Some(old) if lines == old => {}
        Some(old) if lines < old => problems.push(format!("{what} shrank to {lines} lines: say so in {RATCHET}")),
        _ => problems.push(format!("{what} has {lines} lines, at most {max} are allowed")),
    }
}

fn ratchet(files: &[Tracked]) -> anyhow::Result<BTreeMap<String, usize>> {
    let Some(file) = files.iter().find(|file| file.path == RATCHET) else { return Ok(BTreeMap::new()) };
    let lines = file.text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let parse = |line: &str| {
        let (what, lines) =
            line.rsplit_once(' ').ok_or_else(|| anyhow::anyhow!("{RATCHET}: {line:?} has no length"))?;
        Ok((what.to_owned(), lines.parse()?))
    };
    lines.map(parse).collect()
}

/// Functions with a body, and how many lines each has, nested ones included.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if before.is_alphanumeric() || before == '_' || name.is_empty() {
            continue;
        }
        if let Some(body) = body(&code[at..]) {
            found.push((name, code[at..at + body].lines().count()));
        }
    }
    found
}

/// Length of a function up to the brace that closes its body; `None` for a declaration.
fn body(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(at + 1);
                }
            }
            ';' if braces == 0 && others == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{functions, judge};

    #[test]
    fn functions_are_measured_and_declarations_are_not() {
        let code = "fn a(x: [u8; 2]) -> u8 {\n    { 1 }\n}\ntrait T { fn b(&self); fn c() {} }\nlet f: fn (u8) = a;";
        assert_eq!(functions(code), [("a".to_owned(), 3), ("c".to_owned(), 1)]);
    }

    #[test]
    fn what_was_too_long_may_only_shrink() {
        let grows = |lines| {
            let mut problems = Vec::new();
            judge("a".into(), lines, 70, &mut BTreeMap::from([("a".into(), 80)]), &mut problems);
            problems.len()
        };
        assert_eq!([grows(79), grows(80), grows(81)], [1, 0, 1]);
    }
}
