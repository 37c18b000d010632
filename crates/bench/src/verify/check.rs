//! Reads everything back and compares it with the book.

use super::book::{Book, Span};
use super::pattern::{SECTOR, Value, value_of};
use crate::disk::{DiskError, good};
use crate::initiator::{Session, SessionError, Transfer, cdb};

/// Sectors per read.
const CHUNK: u64 = 512;
/// Reads in flight.
const DEPTH: usize = 4;
/// Violations that are spelled out; the rest is only counted.
const SPELLED_MAX: usize = 8;
/// Sectors of a block, the unit that is old or new as a whole.
const BLOCK: u64 = 8;

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Sectors read.
    pub sectors: u64,
    /// Sectors that hold a write that was never answered.
    pub unanswered_present: u64,
    /// Sectors that hold what they may not.
    pub wrong: u64,
    /// Blocks that hold a part of an unanswered write.
    pub torn: u64,
    /// The first few violations in words.
    pub spelled: Vec<String>,
}

impl Report {
    /// True if the target kept its word.
    pub fn is_clean(&self) -> bool {
        self.wrong == 0 && self.torn == 0
    }
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The session ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A read failed.
    #[error("cannot read sector {sector} back")]
    Read {
        /// First sector of the read.
        sector: u64,
        /// Why.
        #[source]
        source: DiskError,
    },
}

/// Reads the whole book back. Afterwards what was seen counts as acknowledged.
pub fn check(session: &mut Session, seed: u64, block_len: u32, book: &mut Book) -> Result<Report, CheckError> {
    let per_block = u64::from(block_len) / SECTOR as u64;
    let mut report = Report::default();
    let (mut next, mut buffers) = (0, vec![Vec::new(); DEPTH]);
    while next < book.len() || session.in_flight() > 0 {
        while next < book.len()
            && let Some(mut buffer) = buffers.pop()
        {
            let count = CHUNK.min(book.len() - next);
            buffer.resize(count as usize * SECTOR, 0);
            let command = cdb::read(next / per_block, (count / per_block) as u32);
            session.submit(next, command, Transfer::In(buffer))?;
            next += count;
        }
        let completion = session.wait()?;
        let first = completion.user;
        let bytes = good("READ", completion).map_err(|source| CheckError::Read { sector: first, source })?;
        let bytes = bytes.into_bytes();
        compare(seed, first, &bytes, book, &mut report);
        buffers.push(bytes);
    }
    book.settle();
    Ok(report)
}

fn compare(seed: u64, first: u64, bytes: &[u8], book: &mut Book, report: &mut Report) {
    let seen: Vec<_> =
        bytes.chunks_exact(SECTOR).zip(first..).map(|(sector, lba)| value_of(seed, lba, sector)).collect();
    let chunk = Span { first, count: seen.len() as u32 };
    for (span, value) in book.open().iter().filter(|(span, _)| span.overlaps(chunk, 1)) {
        count_torn(*span, *value, chunk, &seen, book, report);
    }
    for (seen, sector) in seen.iter().zip(first..) {
        report.sectors += 1;
        let (acked, maybe) = (book.acked(sector), book.maybe(sector));
        if *seen != Some(acked) && seen.is_some_and(|seen| maybe.contains(&seen)) {
            report.unanswered_present += 1;
        }
        let words = format!("sector {sector} holds {}, acknowledged {acked}, unanswered {maybe:?}", say(*seen));
        if !book.see(sector, *seen) {
            report.wrong += 1;
            spell(report, words);
        }
    }
}

/// A block of an unanswered write holds all of its sectors, or none (A5).
fn count_torn(span: Span, value: Value, chunk: Span, seen: &[Option<Value>], book: &Book, report: &mut Report) {
    for block in span.first / BLOCK..=(span.first + u64::from(span.count) - 1) / BLOCK {
        let sectors = (block * BLOCK..(block + 1) * BLOCK).filter(|sector| span.sectors().contains(sector));
        let here = sectors.filter(|sector| chunk.sectors().contains(sector));
        // Sectors that held the same before, or were overwritten later, prove nothing.
        let telling = here.filter(|sector| book.acked(*sector) != value && book.maybe(*sector) == [value]);
        let (mut new, mut old) = (0, 0);
        for sector in telling {
            match seen[(sector - chunk.first) as usize] == Some(value) {
                true => new += 1,
                false => old += 1,
            }
        }
        if new > 0 && old > 0 {
            report.torn += 1;
            spell(report, format!("block {block} holds {new} of {} sectors of unanswered write {value}", new + old));
        }
    }
}

fn say(seen: Option<Value>) -> String {
    seen.map_or_else(|| "foreign bytes".to_owned(), |value| value.to_string())
}

fn spell(report: &mut Report, words: String) {
    if report.spelled.len() < SPELLED_MAX {
        report.spelled.push(words);
    }
}
