//! Which stale image comes back, and when (M8, M13): as soon as it can be asked and the segment's turn has come, one at a
//! time; after it was too slow, or its run ended early, after a pause that doubles, until it was in sync for a quiet hour.

use dyad_cluster::{IMAGES_MAX, ImageState, Line, OutReason, Wish};
use dyad_units::{ImageId, Moment, Period};

use crate::lease::Leases;
use crate::owner::ImageIndex;
use crate::part::event::{CommandError, PartAction, PartNote};
use crate::part::links::Stream;
use crate::part::part::Part;

#[derive(Clone, Copy, Debug, Default)]
struct Return {
    image: Option<ImageId>,
    /// Not before.
    at: Option<Moment>,
    /// The next pause.
    pause: Option<Period>,
    joined: Option<Moment>,
    /// An administrator wants it, whatever the reason for which it is out.
    is_asked: bool,
}

/// What follows for an image.
enum Next {
    Began,
    /// Then.
    Look(Moment),
    /// Something has to happen first, which looks again.
    Nothing,
}

/// Images on their way back.
#[derive(Clone, Debug, Default)]
pub(super) struct Returns {
    images: [Return; IMAGES_MAX],
    /// The image that catches up.
    running: Option<ImageId>,
    /// The node's other segments wait for this one's run to end.
    has_turn: bool,
    /// The image that could catch up, but for the runs of other segments.
    pub(super) waiting: Option<ImageId>,
    pub(super) look_at: Option<Moment>,
}

impl Returns {
    /// The reign is over: pauses begin anew with the next one.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn of(&mut self, at: usize, image: ImageId) -> &mut Return {
        let entry = &mut self.images[at];
        if entry.image != Some(image) {
            *entry = Return { image: Some(image), ..Return::default() };
        }
        entry
    }
}

impl Part {
    /// When to look again; nothing comes back before the segment is served.
    pub(super) fn returns_deadline(&self) -> Option<Moment> {
        let is_serving = self.reign.as_ref().is_some_and(crate::part::reign::Reign::is_serving);
        // While an image catches up nothing is looked at: the end of that looks again.
        self.returns.look_at.filter(|_| is_serving && self.returns.running.is_none())
    }

    /// An image left the set, or its catching up ended early.
    pub(super) fn on_image_out(&mut self, index: ImageIndex, reason: OutReason) {
        let (now, tuning) = (self.now, self.setup.tuning);
        let Some(image) = self.reign.as_ref().and_then(|reign| reign.mirror.image_at(index)) else { return };
        let was_running = self.returns.running == Some(image);
        if was_running {
            self.returns.running = None;
        }
        let entry = self.returns.of(usize::from(index.0), image);
        let is_quiet = entry.joined.take().is_some_and(|joined| now.since(joined) >= tuning.return_quiet);
        if is_quiet {
            entry.pause = None;
        }
        // Whoever was only away comes back at once; whoever tried, or is slow, waits.
        if was_running || matches!(reason, OutReason::Slow | OutReason::NoSpace) {
            let pause = entry.pause.unwrap_or(tuning.return_pause);
            entry.at = Some(now + pause);
            let doubled = Period::from_nanos(pause.as_nanos().saturating_mul(2));
            entry.pause = Some(doubled.min(tuning.return_pause_max));
        }
        self.returns.look_at = Some(now);
    }

    pub(super) fn on_image_joined(&mut self, index: ImageIndex) {
        let now = self.now;
        let Some(image) = self.reign.as_ref().and_then(|reign| reign.mirror.image_at(index)) else { return };
        self.returns.running = None;
        let entry = self.returns.of(usize::from(index.0), image);
        (entry.joined, entry.is_asked) = (Some(now), false);
        self.returns.look_at = Some(now);
    }

    /// An administrator wants the image back now.
    pub(super) fn resync_now(
        &mut self,
        id: u64,
        image: ImageId,
        out: &mut Vec<PartAction>,
    ) -> Result<(), CommandError> {
        let state = self.record.image(image).map(|image| image.state);
        let index = self.reign.as_ref().and_then(|reign| reign.mirror.index_of(image));
        let (Some(ImageState::Stale | ImageState::Syncing), Some(index)) = (state, index) else {
            let because = match state {
                Some(ImageState::InSync) => "is in sync: there is nothing to catch up",
                _ => "does not catch up by itself: reattach it if it is detached",
            };
            return Err(CommandError::WrongState { image, because });
        };
        let entry = self.returns.of(usize::from(index.0), image);
        (entry.at, entry.is_asked) = (None, true);
        self.returns.look_at = Some(self.now);
        out.push(PartAction::Done { id, result: Ok(()) });
        Ok(())
    }

    /// Lets the next image catch up, if none does.
    pub(super) fn consider_returns(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        // An image may be there before the segment is served: it is looked at when it is.
        let Some(reign) = self.reign.as_ref().filter(|reign| reign.is_serving()) else { return };
        // A run may end without a word: for a hand-over that came to nothing, or by a change that took the image out.
        if !reign.mirror.is_resyncing() && self.returns.running.take().is_some() {
            self.returns.look_at = Some(self.now);
        }
        if self.returns.running.is_none() && std::mem::take(&mut self.returns.has_turn) {
            leases.turns().end(self.record.id);
        }
        if self.returns.running.is_some() || self.returns.look_at.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        let was_waiting = self.returns.waiting.take();
        let mut look_at: Option<Moment> = None;
        for at in 0..IMAGES_MAX {
            match self.consider_return(at, leases) {
                Next::Began => return,
                Next::Look(then) => look_at = Some(look_at.map_or(then, |known| known.min(then))),
                Next::Nothing => {}
            }
        }
        self.returns.look_at = look_at;
        if let Some(image) = self.returns.waiting.filter(|_| was_waiting.is_none()) {
            out.push(PartAction::Note(PartNote::AwaitsTurn { image }));
        }
    }

    /// Lets this image catch up, if it is out, can be asked, has waited long enough, and the segment's turn has come.
    fn consider_return(&mut self, at: usize, leases: &mut Leases) -> Next {
        let (now, tuning) = (self.now, &self.setup.tuning);
        let Some(reign) = self.reign.as_mut() else { return Next::Nothing };
        let index = ImageIndex(at as u8);
        let record = reign.mirror.record();
        let Some(image) = reign.mirror.image_at(index).and_then(|id| record.image(id)) else { return Next::Nothing };
        let id = image.id;
        let is_out = matches!(image.state, ImageState::Stale | ImageState::Syncing);
        let line = if image.reason == Some(OutReason::New) { Line::Fill } else { Line::Return };
        let entry = self.returns.of(at, id);
        let is_wanted = entry.is_asked || image.reason != Some(OutReason::Asked);
        if !is_out || !is_wanted || !matches!(reign.links[at].stream, Stream::Open { .. }) {
            return Next::Nothing; // looked at again when its stream opens
        }
        if let Some(at) = entry.at.filter(|&at| at > now) {
            return Next::Look(at);
        }
        let wish = Wish { segment: record.id, line, in_sync: record.in_sync().count(), is_asked: entry.is_asked };
        let again = Next::Look(now + tuning.claim_pause);
        if !leases.turns().ask(&wish, tuning.resyncs_at_once, now) {
            self.returns.waiting = self.returns.waiting.or(Some(id));
            return again;
        }
        self.returns.has_turn = true;
        let begins = reign.mirror.begin_resync(now, index, &mut self.mirror_out);
        self.acts.extend(self.mirror_out.drain(..));
        if !begins {
            return again; // the turn goes back with the next look
        }
        (self.returns.running, self.returns.waiting) = (Some(id), None);
        self.counters.resyncs += 1;
        Next::Began
    }
}
