//! Rust source with comments and literals blanked out, so that searching finds only code.

/// The same text, every byte of comments, strings and character literals replaced by a space; line ends stay.
pub fn code(text: &str) -> String {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, out: Vec::with_capacity(text.len()) };
    while scan.at < scan.bytes.len() {
        scan.step();
    }
    String::from_utf8_lossy(&scan.out).into_owned()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Scan<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        let before = self.at.checked_sub(1).map_or(b' ', |at| self.bytes[at]);
        let word_before = before.is_ascii_alphanumeric() || before == b'_';
        match rest {
            [b'/', b'/', ..] => self.blank(line_len(rest)),
            [b'/', b'*', ..] => self.blank(comment_len(rest)),
            [b'"', ..] => self.blank(string_len(rest)),
            [b'r' | b'b' | b'c', ..] if !word_before && raw_prefix(rest).is_some() => self.blank(raw_len(rest)),
            [b'\'', ..] => match char_len(rest) {
                Some(len) => self.blank(len),
                None => self.keep(1), // A lifetime.
            },
            _ => self.keep(1),
        }
    }

    fn keep(&mut self, len: usize) {
        self.out.extend_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
    }

    fn blank(&mut self, len: usize) {
        let end = (self.at + len).min(self.bytes.len());
        self.out.extend(self.bytes[self.at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        self.at = end;
    }
}

fn line_len(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `r#"`, `br##"` and their like: (bytes before the quote, number of hashes).
fn raw_prefix(rest: &[u8]) -> Option<(usize, usize)> {
    let letters = rest.iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    if letters > 2 || rest[letters - 1] != b'r' {
        return None;
    }
    let hashes = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(letters + hashes) == Some(&b'"')).then_some((letters + hashes, hashes))
}

fn raw_len(rest: &[u8]) -> usize {
    let Some((before, hashes)) = raw_prefix(rest) else { return 1 };
    let mut at = before + 1;
    while at < rest.len() {
        if rest[at] == b'"' && rest[at + 1..].iter().take_while(|byte| **byte == b'#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// Length of a character literal; `None` if this is a lifetime.
fn char_len(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return rest[3..].iter().position(|byte| *byte == b'\'').map(|at| at + 4);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)])
        .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]));
    let len = text.ok()?.chars().next()?.len_utf8();
    (rest.get(1 + len) == Some(&b'\'')).then_some(len + 2)
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn only_code_is_left() {
        let text = r##"let a = "x { \" }"; // { comment
let b = '{'; let c: &'static str = r#"raw " { "#; /* { /* nested */ } */ call('\'');"##;
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert!(!code.contains('{') && !code.contains("comment") && !code.contains("raw"));
        assert!(code.contains("&'static str") && code.contains("call("));
    }
}
