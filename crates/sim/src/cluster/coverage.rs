//! What a run, or a whole campaign, has seen: how often each fault struck, how often each rule acted or refused.

use std::collections::BTreeMap;
use std::fmt;

use dyad_cluster::{ImageState, SegmentRecord};
use dyad_contract::image::Request;
use dyad_contract::volume::VolumeResult;
use dyad_mirror::{PartNote, PeerMessage};

/// Counts by name, and what single runs had.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    /// The owner changed while writes were under way.
    took_over_writing: bool,
    /// An image that was being caught up, or its source, failed.
    failed_in_resync: bool,
    /// Runs, by these.
    runs: u64,
    runs_took_over_writing: u64,
    runs_failed_in_resync: u64,
}

impl Coverage {
    /// It happened.
    pub fn count(&mut self, what: &'static str) {
        self.count_by(what, 1);
    }

    /// It happened so often.
    pub fn count_by(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// How often.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Another owner.
    pub fn note_owner(&mut self, writes: bool) {
        self.count("owner changed (M9)");
        if writes {
            self.count("owner changed with writes under way (M9)");
            self.took_over_writing = true;
        }
    }

    /// A record followed another.
    pub fn note_record(&mut self, before: &SegmentRecord, now: &SegmentRecord) {
        for image in &now.images {
            let Some(was) = before.image(image.id).map(|image| image.state) else {
                self.count("image added");
                continue;
            };
            match (was, image.state) {
                (ImageState::InSync, ImageState::Stale) => {
                    self.count("image taken out (M8)");
                    self.count(match image.reason {
                        Some(reason) => reason_name(reason),
                        None => "taken out for no reason",
                    });
                }
                (ImageState::Stale, ImageState::Syncing) => self.count("resync begun (M13)"),
                (ImageState::Syncing, ImageState::InSync) => self.count("image joined (M16)"),
                (ImageState::Syncing, ImageState::Stale) => {
                    self.count("resync ended early (M15)");
                    self.failed_in_resync = true;
                }
                (was, now) if was != now => self.count("image detached or reattached (M10)"),
                _ => {}
            }
        }
        if now.flushed_alone && !before.flushed_alone {
            self.count("flushed alone noted (M8)");
        }
        if now.forks.len() > before.forks.len() {
            self.count("fork (M10)");
        }
        let is_syncing = |record: &SegmentRecord| record.images.iter().any(|image| image.state == ImageState::Syncing);
        if is_syncing(before) && before.owner != now.owner {
            self.count("owner changed during resync");
            self.failed_in_resync = true;
        }
    }

    /// What a part says.
    pub fn note_part(&mut self, note: &PartNote) {
        self.count(match note {
            PartNote::Claiming { .. } => "claim begun (M9)",
            PartNote::Adopted { .. } => "stream adopted (M3)",
            PartNote::RefusedOwner { .. } => "older owner refused (M3)",
            PartNote::Paused => "pause noticed (M6)",
            PartNote::AwaitsTurn { .. } => "image waits for its turn to catch up",
            PartNote::Mirror(note) => mirror_name(note),
        });
    }

    /// What an image is asked.
    pub fn note_request(&mut self, request: &Request) {
        self.count(match request {
            Request::Read { .. } => "image: read",
            Request::Write(_) => "image: write",
            Request::Unmap(_) => "image: unmap (P9)",
            Request::Flush => "image: flush (A2)",
            Request::Close { .. } => "image: close (M4)",
            Request::Closed { .. } => "image: closed (M4)",
            Request::Grant { .. } | Request::GiveBack { .. } | Request::Reserve { .. } | Request::Release { .. } => {
                "image: space (P15)"
            }
            Request::Record { .. } => "image: record (M3)",
            Request::Survey | Request::Show => "image: survey (M11)",
            Request::Examine { .. } => "image: examine (P8)",
            Request::Mend(_) | Request::MendUnmap(_) => "image: mend (P8, M14)",
            Request::Adopt { .. } => "image: adopt (P8)",
            Request::Changed { .. } => "image: changed (M13)",
            Request::Copied { .. } => "image: copied (M14)",
            Request::Progress { .. } => "image: progress (M15)",
            Request::Settled { .. } => "image: settled (M1)",
        });
    }

    /// What parts tell each other.
    pub fn note_message(&mut self, message: &PeerMessage) {
        self.count(match message {
            PeerMessage::Record { .. } => "message: record",
            PeerMessage::Open { .. } => "message: open (M3)",
            PeerMessage::Opened { .. } => "message: opened (M3)",
            PeerMessage::Refused { .. } => "message: refused (M3)",
            PeerMessage::Ask { .. } => "message: ask",
            PeerMessage::Told { .. } => "message: told",
            PeerMessage::Survey { .. } | PeerMessage::Shown { .. } => "message: survey (M11)",
            PeerMessage::List { .. } | PeerMessage::Listed { .. } => "message: list of what an image has (M10)",
            PeerMessage::Forward { .. } => "message: forward (M18)",
            PeerMessage::ForwardAbort { .. } => "message: abort of a forward (M19)",
            PeerMessage::Forwarded { .. } => "message: forwarded (M18)",
            PeerMessage::Released { .. } => "message: released (M12)",
            PeerMessage::ImageUp { .. } | PeerMessage::ImageDown { .. } => "message: image up or down",
        });
    }

    /// What a host was told.
    pub fn note_answer(&mut self, result: &VolumeResult) {
        use dyad_contract::volume::VolumeError as Error;
        self.count(match result {
            Ok(_) => "answer: ok",
            Err(Error::Busy) => "answer: busy (M18, M19)",
            Err(Error::Aborted) => "answer: aborted (M19)",
            Err(Error::NoSpace) => "answer: no space (P15)",
            Err(Error::Medium { .. }) => "answer: medium error (P12, P14)",
            Err(Error::Miscompare { .. }) => "answer: miscompare",
            Err(Error::WriteFault) => "answer: write fault (P11)",
            Err(Error::OutOfRange) => "answer: out of range",
        });
    }

    /// Adds a run to a campaign.
    pub fn add_run(&mut self, run: &Self) {
        for (what, times) in &run.counts {
            self.count_by(what, *times);
        }
        self.runs += 1;
        self.runs_took_over_writing += u64::from(run.took_over_writing);
        self.runs_failed_in_resync += u64::from(run.failed_in_resync);
    }

    /// All counts by name; those of whole runs among them.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let of_runs =
            [(TOOK_OVER_WRITING, self.runs_took_over_writing), (FAILED_IN_RESYNC, self.runs_failed_in_resync)];
        self.counts.iter().map(|(what, times)| (*what, *times)).chain(of_runs)
    }

    /// What a campaign of so many seeds must have seen and has not; a few seeds prove nothing either way.
    pub fn shortfall(&self) -> Option<String> {
        let judge = |what: &str, part: u64, percent: u64| {
            let is_short = self.runs >= RUNS_JUDGED && part * 100 < self.runs * percent;
            is_short.then(|| format!("too few {what}: {part} of {}, at least {percent} % are wanted", self.runs))
        };
        judge(TOOK_OVER_WRITING, self.runs_took_over_writing, 30)
            .or_else(|| judge(FAILED_IN_RESYNC, self.runs_failed_in_resync, 10))
    }
}

/// Name of the count of such runs.
const TOOK_OVER_WRITING: &str = "seeds that took over with writes in flight";
/// Name of the count of such runs.
const FAILED_IN_RESYNC: &str = "seeds that failed again during a resync";
/// From so many seeds on, what a campaign has to have seen is judged: fewer vary too much.
const RUNS_JUDGED: u64 = 300;

fn reason_name(reason: dyad_cluster::OutReason) -> &'static str {
    use dyad_cluster::OutReason as Reason;
    match reason {
        Reason::WriteFailed => "taken out: its disk failed (P11)",
        Reason::Silent => "taken out: silent (M5, M8)",
        Reason::Slow => "taken out: slow (M8)",
        Reason::Absent => "taken out: absent (M8)",
        Reason::Forgot => "taken out: forgot (M11)",
        Reason::LostExtents => "taken out: lost extents (P12)",
        Reason::NoSpace => "taken out: no space (P15)",
        Reason::Asked => "taken out: asked",
        _ => "taken out: another reason",
    }
}

fn mirror_name(note: &dyad_mirror::Note) -> &'static str {
    use dyad_mirror::Note;
    match note {
        Note::Serving { suspect: 0, .. } => "serving",
        Note::Serving { .. } => "serving with suspect extents (P8, M9)",
        Note::Equalised { .. } => "equalised (P8, M9)",
        Note::LastImageFailed { .. } => "last image failed",
        Note::Healed { .. } => "healed (P14)",
        Note::HandOverFailed => "hand-over failed (M12)",
        Note::SteppedDown { .. } => "stepped down (M7)",
        Note::IntentVoided => "an intent that may be hidden made void (M21)",
        Note::Unreadable { .. } => "unreadable at the source (M15)",
        _ => "another note of an owner",
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.counts {
            writeln!(f, "{times:>12}  {what}")?;
        }
        let percent = |part: u64| part as f64 * 100.0 / self.runs.max(1) as f64;
        writeln!(
            f,
            "{:>11.1}%  of {} seeds took over with writes in flight",
            percent(self.runs_took_over_writing),
            self.runs
        )?;
        write!(f, "{:>11.1}%  of {} seeds failed again during a resync", percent(self.runs_failed_in_resync), self.runs)
    }
}
