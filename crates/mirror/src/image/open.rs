//! Opening a stream: refuse what is older, finish what was before, keep the record durably (M3).

use dyad_cluster::{OutReason, SegmentRecord};
use dyad_contract::image::{ImageError, Reply, Request, Token};
use dyad_payload::Payload;
use dyad_units::{Epoch, NodeId};

use crate::image::action::ImageAction;
use crate::image::stream::{Image, Recording, Stream};

/// A stream that somebody wants to open.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) from: NodeId,
    pub(super) record: Box<SegmentRecord>,
    /// The number that the stream will have.
    link: u64,
}

impl Image {
    /// The owner named by `record` begins a stream, or begins it anew; one that is open ends.
    pub fn open(&mut self, from: NodeId, record: Box<SegmentRecord>, out: &mut Vec<ImageAction>) {
        if let Some(reason) = self.down() {
            return out.push(ImageAction::Down { to: from, reason });
        }
        if record.owner != Some(from) || record.image(self.id).is_none() {
            return; // not an owner's message: it obeys nobody who cannot show that he is
        }
        if self.is_known && self.refuses(&record) {
            return self.refuse(from, record.epoch, out);
        }
        if self.opening.as_ref().is_some_and(|opening| opening.record.epoch > record.epoch) {
            return self.refuse_for_opening(from, record.epoch, out);
        }
        self.close();
        self.link += 1;
        self.opening = Some(Opening { from, record, link: self.link });
        self.go_on(out);
    }

    /// Older than what is kept, or the same epoch with another content (§8).
    fn refuses(&self, record: &SegmentRecord) -> bool {
        let contradicts = |kept: &SegmentRecord| record.epoch == kept.epoch && *kept != *record;
        record.epoch < self.epoch || self.kept.as_deref().is_some_and(contradicts)
    }

    fn refuse(&mut self, to: NodeId, epoch: Epoch, out: &mut Vec<ImageAction>) {
        match &self.kept {
            Some(record) => out.push(ImageAction::Refused { to, epoch, record: record.clone() }),
            // The record kept cannot be read, by us: nobody can be shown why, and nobody is obeyed.
            None => out.push(ImageAction::Down { to, reason: OutReason::WriteFailed }),
        }
    }

    fn refuse_for_opening(&mut self, to: NodeId, epoch: Epoch, out: &mut Vec<ImageAction>) {
        if let Some(opening) = &self.opening {
            out.push(ImageAction::Refused { to, epoch, record: opening.record.clone() });
        }
    }

    /// One more step, if nothing stands before it.
    pub(super) fn go_on(&mut self, out: &mut Vec<ImageAction>) {
        if !self.is_known || self.in_flight > 0 || self.recording.is_some() {
            return;
        }
        if let Some(epoch) = self.out_since.take() {
            let token = self.own_token();
            out.push(ImageAction::Pool { token, request: Request::GiveBack { epoch } });
        }
        if let Some(opening) = self.opening.take() {
            self.go_on_opening(opening, out);
        } else if let Some((token, record)) = self.next_record.take() {
            if self.kept.as_ref() == Some(&record) {
                self.tell(token, Reply::Done, out);
                self.go_on_waiting(out);
            } else {
                self.record(record, Recording::InStream(token), out);
            }
        }
    }

    /// Everything of the stream before is finished.
    fn go_on_opening(&mut self, opening: Opening, out: &mut Vec<ImageAction>) {
        if self.refuses(&opening.record) {
            return self.refuse(opening.from, opening.record.epoch, out);
        }
        if opening.record.epoch == self.epoch && self.kept.is_some() {
            return self.opened(&opening, out);
        }
        let record = opening.record.clone();
        self.opening = Some(opening);
        self.record(record, Recording::Opening, out);
    }

    fn opened(&mut self, opening: &Opening, out: &mut Vec<ImageAction>) {
        let &Opening { from, link, .. } = opening;
        self.stream = Some(Stream { from, link });
        out.push(ImageAction::Opened { to: from, epoch: self.epoch, link });
    }

    fn record(&mut self, record: Box<SegmentRecord>, what: Recording, out: &mut Vec<ImageAction>) {
        let bytes = self.buffers.encode(&record);
        let token = self.own_token();
        out.push(ImageAction::Pool { token, request: Request::Record { epoch: record.epoch, record: bytes } });
        self.recording = Some((token, record, what));
    }

    /// A record came in the open stream: the owner goes on in a new epoch.
    pub(super) fn on_record(&mut self, token: Token, epoch: Epoch, record: &Payload, out: &mut Vec<ImageAction>) {
        let from = self.obeys();
        let decoded = SegmentRecord::decode(&record.to_vec()).ok();
        let decoded = decoded.filter(|record| record.epoch == epoch && record.image(self.id).is_some());
        match decoded {
            // Kept already: the owner begins a run of resync anew, and what it asked before must be over then (M3).
            Some(record)
                if epoch == self.epoch && self.kept.as_deref() == Some(&record)
                    || epoch > self.epoch && record.owner == from =>
            {
                self.next_record = Some((token, Box::new(record)));
                self.go_on(out);
            }
            _ if epoch < self.epoch => {
                self.tell(token, Reply::Failed(ImageError::Superseded { newest: self.epoch }), out);
            }
            // Not an owner's record, or a contradiction: this image does not go along.
            _ => self.tell(token, Reply::Failed(ImageError::Unreadable), out),
        }
    }

    /// The pool keeps the record, or cannot.
    pub(super) fn on_recorded(&mut self, reply: Reply, out: &mut Vec<ImageAction>) {
        let Some((_, record, what)) = self.recording.take() else { return };
        let is_kept = matches!(reply, Reply::Done);
        if is_kept {
            self.epoch = record.epoch;
            self.kept = Some(record);
            out.push(ImageAction::Adopted { epoch: self.epoch });
        }
        match what {
            // A newer one may be waiting by now; it is looked at below.
            Recording::Opening if is_kept => {}
            Recording::Opening => self.fail_opening(out),
            Recording::InStream(token) => self.tell(token, reply, out),
        }
        self.go_on(out);
        self.go_on_waiting(out);
    }

    /// The disk does not take the record: the image obeys nobody.
    fn fail_opening(&mut self, out: &mut Vec<ImageAction>) {
        if let Some(opening) = self.opening.take() {
            out.push(ImageAction::Down { to: opening.from, reason: OutReason::WriteFailed });
        }
    }

    /// What came after a record of the stream, up to the next one.
    fn go_on_waiting(&mut self, out: &mut Vec<ImageAction>) {
        while self.recording.is_none() && self.next_record.is_none() {
            let Some((token, request)) = self.waiting.pop_front() else { return };
            self.obey(token, request, out);
        }
    }
}
