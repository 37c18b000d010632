//! One request at a time, for tests that tell a story: what an owner does, judged by the model as in every run.

use dyad_contract::image::{ImageError, Reply, Request, Space};
use dyad_units::{Epoch, Piece};

use crate::actor::{Closing, Sent};
use crate::model::Violation;
use crate::player::{Player, Stop};

impl Player {
    /// Writes new contents; false if the pool is full.
    pub fn write(&mut self, at: usize, piece: Piece) -> Result<bool, Stop> {
        if self.actors[at].1.credits == 0 {
            self.send(at, |actor, token, _| {
                actor.sent.insert(token, Sent::Grant { wanted: 1 });
                Some(Request::Grant { credits: 1 })
            });
            self.rest()?;
        }
        if self.actors[at].1.credits == 0 {
            return self.write_reserved(at, piece);
        }
        let version = self.version();
        self.send(at, |actor, token, slab| {
            actor.credits -= 1;
            Some(actor.write(token, piece, version, Space::Credit, slab))
        });
        self.rest()?;
        Ok(true)
    }

    /// Writes with a reservation; false if the pool is full (P15).
    pub fn write_reserved(&mut self, at: usize, piece: Piece) -> Result<bool, Stop> {
        match self.ask(at, Request::Reserve { piece })? {
            Reply::Done => {}
            Reply::Failed(ImageError::Full) => return Ok(false),
            reply => return Err(Violation(format!("a reservation was answered by {reply:?}")).into()),
        }
        let version = self.version();
        self.send(at, |actor, token, slab| Some(actor.write(token, piece, version, Space::Reserved, slab)));
        self.rest()?;
        Ok(true)
    }

    /// Unmaps.
    pub fn unmap(&mut self, at: usize, piece: Piece) -> Result<(), Stop> {
        self.send(at, |actor, token, _| Some(actor.unmap(token, piece)));
        self.rest()
    }

    /// Reads and compares.
    pub fn read(&mut self, at: usize, piece: Piece) -> Result<(), Stop> {
        self.send(at, |actor, token, _| {
            actor.sent.insert(token, Sent::Read { piece });
            Some(Request::Read { piece })
        });
        self.rest()
    }

    /// Reads without judging.
    pub fn look(&mut self, at: usize, piece: Piece) -> Result<Reply, Stop> {
        self.ask(at, Request::Read { piece })
    }

    /// One bare request and its reply.
    pub fn request(&mut self, at: usize, request: Request) -> Result<Reply, Stop> {
        self.ask(at, request)
    }

    /// Flushes.
    pub fn flush(&mut self, at: usize) -> Result<(), Stop> {
        self.send(at, |actor, token, _| Some(actor.flush(token)));
        self.rest()
    }

    /// Closes the open interval, both phases.
    pub fn close(&mut self, at: usize) -> Result<(), Stop> {
        self.send(at, |actor, token, _| actor.close(token));
        self.rest()?;
        if let Closing::FirstDone(stamp) = self.actors[at].1.closing {
            self.send(at, |actor, token, _| Some(actor.closed(token, stamp)));
            self.rest()?;
        }
        Ok(())
    }

    /// A new epoch and its record (M3).
    pub fn record(&mut self, at: usize) -> Result<(), Stop> {
        let epoch = Epoch::new(self.actors[at].1.epoch_maybe.value().max(self.actors[at].1.stamp.epoch.value()) + 1);
        self.send(at, |actor, token, slab| Some(actor.record(token, epoch, slab)));
        self.rest()
    }

    /// Requests that were refused so far.
    pub fn refusals(&self) -> u64 {
        self.actors.iter().map(|(_, actor)| actor.refusals).sum()
    }

    /// Errors of reads are right from now on: bytes of the disk were changed on purpose.
    pub fn expect_rot(&mut self) {
        self.actors.iter_mut().for_each(|(_, actor)| actor.is_rotten = true);
    }
}
