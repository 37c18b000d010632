//! What makes two states the same.
//!
//! A state is identified by everything that it shows through `Debug`, private fields of the real machines included, with
//! three kinds of numbers taken relatively, because only that much of them matters to the code:
//!
//! - moments, to the clock of the node that keeps them; what is longer ago than anybody asks for is all one past: how
//!   long that is, the rules say for each field;
//! - names that only rise (tokens, numbers of streams), by their order: whoever made them compares them only with each
//!   other, so the smallest is the first, whatever it was;
//! - numbers of beats, by when they were sent: all that the sender asks of an answer is which beat it is for, and all that
//!   it wants to know of that beat is when it was sent. Of the table of beats sent only those count that are under way;
//! - what nothing is decided by (counters for people) is left out; every field left out is named with its reason in the
//!   rules of the model in question.
//!
//! What a part of the state shows is worked out once and kept with it, as a [`Shape`]: most steps change one node only.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::Hasher as _;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use dyad_units::{Moment, Period};

/// Names that are compared with each other only, one number per kind.
pub(crate) type Class = u8;

/// What becomes of a field, or of the number in a type of one field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Treat {
    /// A moment of the node's clock, of which nobody asks how long ago it is if that is more than this.
    Since(Period),
    /// A name of this class, known to one node only.
    Own(Class),
    /// A name of this class, known to several nodes.
    Name(Class),
    /// Left out.
    Skip,
    /// The table of beats sent.
    Sent,
    /// The number of a beat.
    Beat,
}

/// How the states of a model are looked at.
#[derive(Debug)]
pub(crate) struct Rules {
    /// By the name of a field, or of a type with one number.
    pub(crate) named: Vec<(&'static str, Treat)>,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Since(u64, Period),
    Own(Class, u64),
    Name(Class, u64),
    Beat(u64),
    Sent(u64, u64),
}

/// What something shows, whatever the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    text: u128,
    marks: Vec<Mark>,
}

impl Shape {
    pub(crate) fn of(shown: &dyn fmt::Debug, rules: &Rules) -> Self {
        Self::read(shown, rules).0
    }

    fn read(shown: &dyn fmt::Debug, rules: &Rules) -> (Self, String) {
        let raw = format!("{shown:?}");
        let mut reader =
            Reader { raw: &raw, at: 0, copied: 0, text: String::with_capacity(raw.len()), marks: Vec::new() };
        reader.read(rules);
        let shape = Self { text: hash_of(reader.text.as_bytes()), marks: reader.marks };
        (shape, reader.text)
    }
}

fn hash_of(bytes: &[u8]) -> u128 {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(bytes);
        u128::from(hasher.finish())
    };
    hash(1) << 64 | hash(2)
}

/// Goes through the text of a `Debug` once and takes the numbers out that count relatively.
struct Reader<'a> {
    raw: &'a str,
    at: usize,
    copied: usize,
    text: String,
    marks: Vec<Mark>,
}

impl Reader<'_> {
    fn read(&mut self, rules: &Rules) {
        let bytes = self.raw.as_bytes();
        while self.at < bytes.len() {
            let begin = self.at;
            if !is_word(bytes[begin]) {
                self.at += 1;
                continue;
            }
            self.at += bytes[begin..].iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len() - begin);
            let word = &self.raw[begin..self.at];
            let rest = &self.raw[self.at..];
            let value = match rest.as_bytes() {
                [b':', b' ', ..] => 2,
                [b'(', ..] => 1,
                _ => continue,
            };
            let Some((_, treat)) = rules.named.iter().find(|(name, _)| *name == word) else { continue };
            self.at += value;
            self.treat(*treat);
        }
        self.text.push_str(&self.raw[self.copied..]);
    }

    /// `at` is where the value begins.
    fn treat(&mut self, treat: Treat) {
        if !matches!(treat, Treat::Skip | Treat::Sent) {
            // The first of a pair, or what an option holds.
            while let Some(mark) = ["Some(", "(", "Moment("].iter().find(|mark| self.raw[self.at..].starts_with(**mark))
            {
                self.at += mark.len();
            }
        }
        let (begin, value) = (self.at, &self.raw[self.at..]);
        let digits = value.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        let end = begin + digits;
        match (treat, value[..digits].parse::<u64>()) {
            (Treat::Skip, _) => self.take(begin, begin + value_len(value), None),
            (Treat::Sent, _) => {
                let end = begin + value_len(value);
                let numbers = self.raw[begin..end].split(|byte: char| !byte.is_ascii_digit());
                let numbers: Vec<u64> = numbers.filter_map(|digits| digits.parse().ok()).collect();
                self.marks.extend(numbers.chunks_exact(2).map(|pair| Mark::Sent(pair[0], pair[1])));
                self.take(begin, end, None);
            }
            (Treat::Since(forget), Ok(number)) => self.take(begin, end, Some(Mark::Since(number, forget))),
            (Treat::Own(class), Ok(number)) => self.take(begin, end, Some(Mark::Own(class, number))),
            (Treat::Beat, Ok(number)) => self.take(begin, end, Some(Mark::Beat(number))),
            (Treat::Name(class), Ok(number)) => self.take(begin, end, Some(Mark::Name(class, number))),
            // A field that holds something else than a number at the moment is looked at word by word.
            (_, Err(_)) => {}
        }
    }

    fn take(&mut self, begin: usize, end: usize, mark: Option<Mark>) {
        self.text.push_str(&self.raw[self.copied..begin]);
        self.text.push('#');
        self.marks.extend(mark);
        (self.copied, self.at) = (end, end);
    }
}

/// Length of the value that the text begins with: up to the comma or the bracket that ends it.
fn value_len(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => return at,
            b' ' if depth == 0 && text[at..].starts_with(" }") => return at,
            _ => {}
        }
    }
    text.len()
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Collects what states show.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    /// Texts, times, and places of names.
    words: Vec<u64>,
    /// Each name: whose and which class, which number, where its place is.
    names: Vec<(u16, u64, u32)>,
    /// Each beat, and where its place is.
    beats: Vec<(u64, u32)>,
    /// When beats were sent.
    sent: Vec<(u64, u64)>,
    owner: u16,
    /// Beats sent so long ago are all alike.
    stale: Period,
}

impl Digest {
    /// `lease`: an answer to a beat that was sent longer ago gives a lease that is over.
    pub(crate) fn new(lease: Period) -> Self {
        Self { stale: lease, ..Self::default() }
    }

    /// Adds what has this shape; its moments are readings of a clock that shows `now`.
    pub(crate) fn add(&mut self, shape: &Shape, now: Moment) {
        self.owner += 1;
        self.words.extend([shape.text as u64, (shape.text >> 64) as u64]);
        for mark in &shape.marks {
            let place = self.words.len() as u32;
            match *mark {
                Mark::Since(nanos, forget) => self.words.push(relative(nanos, now, forget)),
                Mark::Own(class, number) => self.name((self.owner, class), number),
                Mark::Name(class, number) => self.name((0, class), number),
                Mark::Sent(number, nanos) => self.sent.push((number, relative(nanos, now, self.stale))),
                Mark::Beat(number) => {
                    self.beats.push((number, place));
                    self.words.push(0);
                }
            }
        }
    }

    fn name(&mut self, (owner, class): (u16, Class), number: u64) {
        self.names.push((owner << 8 | u16::from(class), number, self.words.len() as u32));
        self.words.push(0);
    }

    /// Two hashes of 64 bits with fixed keys.
    pub(crate) fn finish(mut self) -> u128 {
        self.names.sort_unstable();
        let (mut rank, mut before) = (0, None);
        for &(kind, number, at) in &self.names {
            match before {
                Some((last_kind, _)) if last_kind != kind => rank = 0,
                Some((_, last)) if last != number => rank += 1,
                Some(_) | None => {}
            }
            before = Some((kind, number));
            self.words[at as usize] = rank;
        }
        for &(number, at) in &self.beats {
            let sent = self.sent.iter().find(|(known, _)| *known == number);
            self.words[at as usize] = sent.map_or(NEVER, |(_, when)| *when);
        }
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        hash_of(&bytes)
    }
}

/// Of a beat of a life that is over.
const NEVER: u64 = u64::MAX - 1;

/// The time from now, or one for all that is so long ago.
fn relative(nanos: u64, now: Moment, forget: Period) -> u64 {
    let now = now.as_nanos();
    match nanos.wrapping_sub(now) {
        _ if nanos.saturating_add(forget.as_nanos()) <= now => u64::MAX,
        _ if nanos >= now.saturating_add(ENDLESS.as_nanos()) => ENDLESS.as_nanos(),
        from_now => from_now,
    }
}

/// What is longer from now does not come.
const ENDLESS: Period = Period::from_secs(100_000);

/// Part of a state, shared by all states that differ elsewhere, with its shape.
pub(crate) struct Shared<T>(Arc<(T, OnceLock<Shape>)>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T: Clone + fmt::Debug> Shared<T> {
    pub(crate) fn new(part: T) -> Self {
        Self(Arc::new((part, OnceLock::new())))
    }

    /// To change it; other states keep theirs.
    pub(crate) fn make_mut(&mut self) -> &mut T {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::new(self.0.0.clone());
        }
        let (part, shape) = Arc::get_mut(&mut self.0).expect("just made for this state alone");
        *shape = OnceLock::new();
        part
    }

    pub(crate) fn shape(&self, rules: impl FnOnce() -> Rules) -> &Shape {
        self.0.1.get_or_init(|| Shape::of(&self.0.0, &rules()))
    }
}

/// The text as it is compared, to be looked at by people.
#[cfg(test)]
pub(crate) fn text_of(shown: &dyn fmt::Debug, rules: &Rules) -> String {
    Shape::read(shown, rules).1
}

#[cfg(test)]
mod tests {
    use dyad_units::{Moment, NodeId, Period};

    use super::{Digest, Rules, Shape, Treat, text_of};

    fn rules() -> Rules {
        let named = vec![
            ("Moment", Treat::Since(Period::from_millis(200))),
            ("people", Treat::Skip),
            ("sent", Treat::Sent),
            ("own", Treat::Own(1)),
            ("token", Treat::Name(2)),
            ("beat", Treat::Beat),
        ];
        Rules { named }
    }

    #[derive(Clone, Debug)]
    #[expect(dead_code, reason = "shown")]
    struct Shown {
        at: Option<Moment>,
        long_ago: Moment,
        node: NodeId,
        people: Option<(u64, Moment)>,
        sent: Vec<(u64, Moment)>,
        beat: u64,
        own: u64,
        token: u64,
        tokens: Vec<u64>,
        plain: u64,
    }

    fn moment(millis: u64) -> Moment {
        Moment::from_nanos((1_000_000_000 + millis) * 1_000_000)
    }

    fn shown(millis: u64, beats: u64) -> Shown {
        let at = |back: u64| moment(millis + 10_000 - back);
        Shown {
            at: Some(at(10)),
            long_ago: at(5000 + millis),
            node: NodeId::from_bytes([9; 16]),
            people: Some((millis, at(1))),
            sent: (0..beats).map(|nth| ((7 << 32) + nth, at(20 + beats - nth))).collect(),
            beat: (7 << 32) + beats - 2,
            own: millis,
            token: 5 + beats,
            tokens: Vec::new(),
            plain: 77,
        }
    }

    fn digest(shown: &[&Shown], millis: u64) -> u128 {
        let mut digest = Digest::new(Period::from_millis(200));
        for shown in shown {
            digest.add(&Shape::of(shown, &rules()), moment(millis + 10_000));
        }
        digest.finish()
    }

    #[test]
    fn only_differences_of_times_and_the_order_of_names_count() {
        let first = shown(0, 3);
        let text = text_of(&first, &rules());
        assert!(text.contains("long_ago: Moment(#), "), "{text}");
        assert!(text.contains("people: #, sent: #, beat: #, own: #, token: #, tokens: [], plain: 77"), "{text}");
        assert_eq!(digest(&[&first], 0), digest(&[&shown(123_456, 9)], 123_456));
        assert_ne!(digest(&[&first], 0), digest(&[&Shown { beat: first.beat - 1, ..first.clone() }], 0));
        assert_eq!(digest(&[&first], 0), digest(&[&Shown { token: 900, ..first.clone() }], 0));
        let second = Shown { token: 9, ..first.clone() };
        assert_ne!(digest(&[&first, &second], 0), digest(&[&second, &first], 0));
        assert_ne!(digest(&[&first], 0), digest(&[&first], 1));
        assert_ne!(digest(&[&first], 0), digest(&[&Shown { plain: 78, ..first.clone() }], 0));
        assert_ne!(digest(&[&first], 0), digest(&[&Shown { at: None, ..first.clone() }], 0));
    }
}
