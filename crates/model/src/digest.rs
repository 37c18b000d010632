//! What makes two states the same.
//!
//! A state is identified by everything that it shows through `Debug`, private fields of the real machines included, with
//! three kinds of numbers taken relatively, because only differences of them matter to the code:
//!
//! - moments, to the clock of the node that keeps them; what is longer ago than [`FORGET`] is all one past, because no
//!   handler in the model's configurations compares across more time than that;
//! - numbers of beats, to the newest beat of the same life; what is older than every lease is all one;
//! - beats sent and answered long ago, of which the table keeps the last 64: as if there was one.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher as _;

use dyad_units::{Moment, Period};

/// What is longer ago is all one. More than a lease, its margin, and two turns of candidates together.
const FORGET: Period = Period::from_millis(216);
/// Numbers of beats lie above this: the life's start counter times 2^32.
const BEATS_FROM: u64 = 1 << 32;
/// And below this: moments of the models' clocks lie above.
const BEATS_BELOW: u64 = 1 << 48;

/// Collects what states show.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    raw: String,
    text: String,
}

impl Digest {
    /// Adds what `shown` shows; its moments are readings of a clock that shows `now`. `newest` gives the newest beat of
    /// a life by its start counter.
    pub(crate) fn add(&mut self, shown: &dyn std::fmt::Debug, now: Moment, newest: &dyn Fn(u64) -> u64) {
        self.raw.clear();
        write!(self.raw, "{shown:?}").expect("a string takes everything");
        relative(&self.raw, now, newest, &mut self.text);
        self.text.push('\n');
    }

    /// Adds what has no times in it.
    pub(crate) fn add_plain(&mut self, shown: &dyn std::fmt::Debug) {
        writeln!(self.text, "{shown:?}").expect("a string takes everything");
    }

    /// The text so far, to be looked at.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Two hashes of 64 bits with fixed keys.
    pub(crate) fn finish(self) -> u128 {
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(salt);
            hasher.write(self.text.as_bytes());
            u128::from(hasher.finish())
        };
        hash(1) << 64 | hash(2)
    }
}

const MOMENT: &str = "Moment(";
/// A beat that nothing depends on any more, as the table of beats sent shows it.
const OLD_BEAT: &str = "(old, past), ";

fn relative(raw: &str, now: Moment, newest: &dyn Fn(u64) -> u64, text: &mut String) {
    let begin = text.len();
    let bytes = raw.as_bytes();
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() || at > 0 && is_word(bytes[at - 1]) {
            at += 1;
            continue;
        }
        let end = bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |len| at + len);
        let is_moment = raw[..at].ends_with(MOMENT);
        // Ids are hexadecimal and longer; whatever is no number of 64 bits is left as it is.
        let number = raw[at..end].parse::<u64>().ok().filter(|_| end == bytes.len() || !is_word(bytes[end]));
        match number {
            Some(nanos) if is_moment => {
                text.push_str(&raw[copied..at - MOMENT.len()]);
                push_moment(nanos, now, text);
                copied = end + 1;
            }
            Some(beat) if (BEATS_FROM..BEATS_BELOW).contains(&beat) => {
                text.push_str(&raw[copied..at]);
                push_beat(beat, newest(beat >> 32), text);
                copied = end;
            }
            _ => {}
        }
        at = end;
    }
    text.push_str(&raw[copied..]);
    while let Some(found) = text[begin..].find("(old, past), (old, past)") {
        text.replace_range(begin + found..begin + found + OLD_BEAT.len(), "");
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn push_moment(nanos: u64, now: Moment, text: &mut String) {
    let now = now.as_nanos();
    if nanos.saturating_add(FORGET.as_nanos()) < now {
        text.push_str("past");
    } else if nanos < now {
        write!(text, "-{}", now - nanos).expect("a string takes everything");
    } else {
        write!(text, "+{}", nanos - now).expect("a string takes everything");
    }
}

/// Beats come no faster than one in 90 ms in the models: the fourth is older than [`FORGET`].
const OLD_BEATS: u64 = 3;

fn push_beat(beat: u64, newest: u64, text: &mut String) {
    match newest.saturating_sub(beat) {
        age if age >= OLD_BEATS => text.push_str("old"),
        age => write!(text, "beat-{}:{age}", beat >> 32).expect("a string takes everything"),
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{Moment, NodeId};

    use super::Digest;

    #[derive(Debug)]
    #[expect(dead_code, reason = "shown")]
    struct Shown {
        at: Option<Moment>,
        long_ago: Moment,
        node: NodeId,
        beats: Vec<(u64, Moment)>,
        plain: u64,
    }

    fn shown(millis: u64, beats: u64) -> Shown {
        let moment = |back: u64| Moment::from_nanos((1_000_000_000 + millis - back) * 1_000_000);
        let old = (0..beats).map(|nth| ((7 << 32) + nth, moment(10_000 - nth))).collect::<Vec<_>>();
        let new = ((7 << 32) + beats + 8, moment(20));
        let beats = old.into_iter().chain([new]).collect();
        Shown { at: Some(moment(10)), long_ago: moment(5000), node: NodeId::from_bytes([9; 16]), beats, plain: 77 }
    }

    fn text(millis: u64, beats: u64) -> String {
        let mut digest = Digest::default();
        let now = Moment::from_nanos((1_000_000_000 + millis) * 1_000_000);
        digest.add(&shown(millis, beats), now, &|_| (7 << 32) + beats + 8);
        digest.text().to_owned()
    }

    #[test]
    fn only_differences_of_times_and_beats_count() {
        let text_now = text(0, 1);
        assert_eq!(text_now, text(123_456, 9));
        assert!(text_now.contains("at: Some(-10000000), long_ago: past,"), "{text_now}");
        assert!(text_now.contains("[(old, past), (beat-7:0, -20000000)], plain: 77"), "{text_now}");
    }
}
