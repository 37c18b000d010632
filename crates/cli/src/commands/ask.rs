//! Asking before something is deleted.

use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};

use crate::failure::Failure;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256;

/// Asks a person to type the name of what is to be deleted. Where nobody can be asked, `--yes` is wanted.
pub fn confirm(yes: bool, what: &str, name: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Failure::Usage(format!("deleting {what} wants --yes where nobody can be asked")));
    }
    let _ = write!(stderr(), "This deletes {what}. Type its name to go on: ");
    let mut answer = String::new();
    let read = stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
    match read {
        Ok(_) if answer.trim() == name => Ok(()),
        _ => Err(Failure::failed(format!("{what} was not deleted"), "")),
    }
}
