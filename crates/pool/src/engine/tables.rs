//! Reading table pages that are not in memory (P7).

use dyad_payload::Buf;
use smallvec::SmallVec;

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, OpAt};
use crate::format::page::PAGE_BYTES;
use crate::format::table::{self, SUMS_PER_TABLE_PAGE, TablePage};

/// How often a home that the disk fails to read is read again before it counts as rotten: to take it for empty makes all that it
/// vouches for unreadable, and the next flush writes it so.
const READS_AGAIN: u8 = 3;

/// A table page being read, and the reads that wait for it.
pub(super) struct Fetch {
    page: TablePage,
    outstanding: u8,
    reads_again: u8,
    /// Both homes were read, not only the newest.
    is_thorough: bool,
    /// A home was not read for want of memory: nothing may be concluded from its absence.
    is_short: bool,
    /// The newest whole home read so far.
    best: Option<(u64, usize, Buf)>,
    waiting: SmallVec<[OpAt; 4]>,
    /// A flush waits for it too.
    for_flush: bool,
}

impl Pool {
    /// Starts reading a table page unless that is under way. `op` waits for it, or else a flush.
    pub(super) fn fetch_table(&mut self, page: TablePage, op: Option<OpAt>) {
        if let Some(fetch) = self.fetches.iter_mut().find(|fetch| fetch.page == page) {
            fetch.waiting.extend(op);
            fetch.for_flush |= op.is_none();
            return;
        }
        self.counters.table_reads += 1;
        // Until a page was read once, either home may be the newest. After a failure of the disk the newest may never have got there.
        let is_thorough = self.sums.newest_home(page).is_none() || self.poison.is_poisoned();
        let (waiting, for_flush) = (op.into_iter().collect(), op.is_none());
        let (outstanding, reads_again, is_short, best) = (0, READS_AGAIN, false, None);
        let fetch = Fetch { page, outstanding, reads_again, is_thorough, is_short, best, waiting, for_flush };
        self.read_homes(fetch);
    }

    fn read_homes(&mut self, mut fetch: Fetch) {
        let page = fetch.page;
        let homes = match self.sums.newest_home(page) {
            Some(home) if !fetch.is_thorough => home..home + 1,
            _ => 0..2,
        };
        for home in homes {
            self.read_home(&mut fetch, home);
        }
        if fetch.outstanding > 0 {
            self.fetches.push(fetch);
        } else {
            // The flush tries again at leisure, when buffers came back.
            fetch.waiting.into_iter().for_each(|op| self.give_up_read(op));
        }
    }

    fn read_home(&mut self, fetch: &mut Fetch, home: usize) {
        let Ok(buf) = self.slab.take(PAGE_BYTES) else {
            fetch.is_short = true;
            return;
        };
        fetch.outstanding += 1;
        let token = Completion::TableRead { page: fetch.page.0, home }.token();
        let offset = self.superblock.layout.table_offset(home, fetch.page);
        self.disk_ops.push(DiskOp::Read { token, offset, buf });
    }

    pub(super) fn table_read_done(&mut self, page: TablePage, home: usize, result: Result<DiskDone, DiskError>) {
        let disk = self.superblock.disk;
        let Some(at) = self.fetches.iter().position(|fetch| fetch.page == page) else { return };
        let mut fetch = self.fetches.swap_remove(at);
        fetch.outstanding -= 1;
        match result {
            Ok(DiskDone::Read(buf)) => {
                if let Some(seq) = table::decode(&buf, disk, page)
                    && fetch.best.as_ref().is_none_or(|(best, ..)| seq > *best)
                {
                    fetch.best = Some((seq, home, buf.freeze()));
                }
            }
            Err(_) if fetch.reads_again > 0 => {
                fetch.reads_again -= 1;
                self.read_home(&mut fetch, home);
            }
            Ok(_) | Err(_) => {}
        }
        if fetch.outstanding == 0 {
            self.fetched(fetch);
        } else {
            self.fetches.push(fetch);
        }
    }

    fn fetched(&mut self, mut fetch: Fetch) {
        match fetch.best.take() {
            Some((_, home, bytes)) if !fetch.is_short => self.sums.keep(fetch.page, bytes, Some(home)),
            _ if fetch.is_short => {
                return fetch.waiting.into_iter().for_each(|op| self.give_up_read(op));
            }
            // The newest home cannot be read any more: the other one still vouches for what did not change since.
            None if !fetch.is_thorough => {
                fetch.is_thorough = true;
                return self.read_homes(fetch);
            }
            _ => self.keep_empty_table(fetch.page),
        }
        for op in fetch.waiting {
            self.verify(op);
        }
        if fetch.for_flush {
            self.pump_tables();
        }
    }

    /// No home is whole: the page was never written, or is damaged. Either way no checksum is known, and whatever block
    /// refers to it does not match.
    fn keep_empty_table(&mut self, page: TablePage) {
        let Ok(mut buf) = self.slab.take(PAGE_BYTES) else { return };
        table::encode(&mut buf, self.superblock.disk, page, 0, &[0; SUMS_PER_TABLE_PAGE]);
        self.sums.keep(page, buf.freeze(), None);
    }
}
