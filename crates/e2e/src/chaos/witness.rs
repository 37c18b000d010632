//! Sessions that were there before a fault: what they are answered after it may be an error, but never old, and what
//! they wrote has taken effect when they are told so, or never will (M5, M19).

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session, Transfer, cdb};

use crate::cluster::{Cluster, LONG, LOOK};

/// Sectors of a block.
const BLOCK: u64 = 8;
/// How long a login or an answer is waited for, apart from those on the sessions of before.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the sessions of before are waited for: longer than a node that goes on needs to close them.
const LAST: Duration = Duration::from_secs(10);

/// The sessions of one round. It uses three blocks: one to read, one for each node's session to write.
pub(super) struct Witness {
    first: u64,
    round: u64,
    readers: [Option<Session>; 2],
    writers: [Option<Session>; 2],
    /// Whether the write on the session of a node was answered with GOOD.
    written: [bool; 2],
    /// What the block to read holds.
    newest: What,
    /// What was seen in the blocks that they wrote.
    seen: [Option<Vec<u8>>; 2],
}

/// What a block holds in a round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Old = 1,
    New = 2,
    Late = 3,
}

impl Witness {
    /// Logs in at both nodes and writes what is old afterwards. Uses the blocks from sector `first` on.
    pub(super) fn new(cluster: &Cluster, first: u64, round: u64) -> anyhow::Result<Self> {
        let paths = cluster.paths()?;
        let mut witness = Self {
            first,
            round,
            readers: [None, None],
            writers: [None, None],
            written: [false; 2],
            newest: What::Old,
            seen: [None, None],
        };
        for (node, path) in paths.iter().enumerate() {
            let mut reader = witness.open(path, 100 + node as u32)?;
            let mut writer = witness.open(path, 110 + node as u32)?;
            writer.write(witness.write_at(node), witness.bytes(What::Old))?;
            reader.write(first, witness.bytes(What::Old))?;
            ensure!(reader.read(first, BLOCK as u32)? == witness.bytes(What::Old), "a witness does not read its write");
            for (disk, place) in [(reader, &mut witness.readers[node]), (writer, &mut witness.writers[node])] {
                let mut session = disk.into_session();
                session.stream().set_patience(LAST)?;
                *place = Some(session);
            }
        }
        Ok(witness)
    }

    /// The volume is served again: writes something new where it is, then asks for it, and writes something else, on
    /// the sessions of before, without waiting.
    pub(super) fn ask(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let paths = cluster.paths()?;
        let deadline = Instant::now() + LONG;
        'written: loop {
            for path in &paths {
                let options = Options { session: 120, patience: PATIENCE, ..path.clone() };
                let mut disk = Disk::open(&options).ok();
                let new = self.bytes(What::New);
                if disk.as_mut().is_some_and(|disk| disk.write(self.first, new).is_ok()) {
                    break 'written;
                }
            }
            ensure!(Instant::now() < deadline, "a witness cannot write anywhere");
            std::thread::sleep(LOOK);
        }
        self.newest = What::New;
        for node in 0..2 {
            let (read_at, write_at, late) = (self.first, self.write_at(node), self.bytes(What::Late));
            let read = Transfer::In(vec![0; late.len()]);
            send(&mut self.readers[node], cdb::read(read_at, BLOCK as u32), read);
            send(&mut self.writers[node], cdb::write(write_at, BLOCK as u32), Transfer::Out(late));
        }
        Ok(())
    }

    /// What those sessions were answered.
    pub(super) fn judge(&mut self) -> anyhow::Result<()> {
        for node in 0..2 {
            if let Some(completion) = self.readers[node].take().and_then(|mut session| session.wait().ok())
                && completion.status == 0
            {
                let found = completion.transfer.into_bytes();
                let (new, old) = (self.bytes(What::New), self.bytes(What::Old));
                ensure!(found != old, "a session of before at node {node} read what was true before");
                ensure!(found == new, "a session of before at node {node} read what was never written");
            }
            let answer = self.writers[node].take().and_then(|mut session| session.wait().ok());
            self.written[node] = answer.is_some_and(|completion| completion.status == 0);
        }
        Ok(())
    }

    /// Reads what there is through a node; both images have to say the same for good.
    pub(super) fn check(&mut self, path: &Options) -> anyhow::Result<()> {
        let mut disk = retried(|| self.open(path, 121))?;
        let mut read = |at| retried(|| Ok(disk.read(at, BLOCK as u32)?));
        let newest = read(self.first)?;
        ensure!(newest == self.bytes(self.newest), "an acknowledged write of a witness is lost");
        for node in 0..2 {
            let found = read(self.write_at(node))?;
            let (old, late) = (self.bytes(What::Old), self.bytes(What::Late));
            let is_right = found == late || (found == old && !self.written[node]);
            ensure!(is_right, "a witness's block of node {node} holds neither what was written nor what was before");
            let before = self.seen[node].get_or_insert_with(|| found.clone());
            ensure!(*before == found, "a witness's block of node {node} changed after it was seen (M19)");
        }
        Ok(())
    }

    fn open(&self, path: &Options, session: u32) -> anyhow::Result<Disk> {
        let options = Options { session, patience: LAST, ..path.clone() };
        Disk::open(&options).context("a witness cannot log in")
    }

    fn write_at(&self, node: usize) -> u64 {
        self.first + (1 + node as u64) * BLOCK
    }

    fn bytes(&self, what: What) -> Vec<u8> {
        (self.round * 4 + what as u64).to_le_bytes().repeat(512)
    }
}

/// Sends a command. A session that cannot is over.
fn send(place: &mut Option<Session>, cdb: dyad_bench::initiator::Cdb, transfer: Transfer) {
    let Some(session) = place else { return };
    let sent = session.submit(0, cdb, transfer).and_then(|()| Ok(session.stream().flush()?));
    if sent.is_err() {
        *place = None;
    }
}

/// What is answered with BUSY for a moment is asked again.
fn retried<T>(mut what: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + LONG;
    loop {
        match what() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
