//! The thread that follows an arbiter's changes, over whatever happens to the connection.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dyad_cluster::{Key, StoreError, Version};

use super::calls::{Dialer, READ_TIME, senseless};
use super::link::Link;
use super::protocol::{Answer, CONTENT_BYTES_MAX, Item, Request, unavailable};
use super::session::{ALIVE_EVERY, CONTENT_TIME};
use crate::feed::{Feed, Seen};
use crate::row::{self, Raw};

/// Silence after which the connection is given up: the arbiter speaks every [`ALIVE_EVERY`].
const SILENCE_MAX: Duration = Duration::from_secs(4);
const _: () = assert!(SILENCE_MAX.as_secs() >= 3 * ALIVE_EVERY.as_secs());
/// Pauses between attempts: short at first, for a restart; an arbiter that stays away is not worth more.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Ends the thread.
#[derive(Default)]
pub(super) struct Leash {
    inner: Mutex<Held>,
    pulled: Condvar,
}

#[derive(Default)]
struct Held {
    is_pulled: bool,
    socket: Option<TcpStream>,
}

impl Leash {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pull(&self) {
        let mut held = self.lock();
        held.is_pulled = true;
        if let Some(socket) = held.socket.take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.pulled.notify_all();
    }

    fn is_pulled(&self) -> bool {
        self.lock().is_pulled
    }

    fn hold(&self, link: &mut Link) -> Result<(), StoreError> {
        let socket = link.handle().map_err(unavailable)?;
        let mut held = self.lock();
        if held.is_pulled {
            return Err(unavailable("it is being closed"));
        }
        held.socket = Some(socket);
        Ok(())
    }

    fn sleep(&self, pause: Duration) {
        drop(self.pulled.wait_timeout_while(self.lock(), pause, |held| !held.is_pulled));
    }
}

/// Until the leash is pulled.
pub(super) fn run(dialer: &Arc<Dialer>, feed: &Feed, leash: &Leash) {
    let mut pause = PAUSE_MIN;
    while !leash.is_pulled() {
        let before = feed.position();
        let Err(error) = follow(dialer, feed, leash);
        feed.set_fault(Some(error.to_string()));
        dialer.turn();
        pause = if feed.position() > before { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        leash.sleep(pause);
    }
}

enum Never {}

fn follow(dialer: &Dialer, feed: &Feed, leash: &Leash) -> Result<Never, StoreError> {
    let (mut link, _) = dialer.connect()?;
    leash.hold(&mut link)?;
    let after = feed.position().map(|position| position.0);
    link.send(&Request::Watch { after }).map_err(unavailable)?;
    let mut content = Content::default();
    loop {
        match link.receive(SILENCE_MAX).map_err(unavailable)? {
            Answer::At { version } => {
                dialer.saw(version);
                feed.advance(Version(version));
                feed.set_fault(None);
            }
            Answer::Changed { key, version, record } => {
                dialer.saw(version);
                if let Some(key) = row::key_of(&key) {
                    let version = Version(version);
                    let record = record.map(|record| readable(key, &Raw { version, record }));
                    feed.change(key, version, record);
                }
                feed.advance(Version(version));
            }
            Answer::Items { version, items, last } => {
                content.add(items)?;
                if last {
                    dialer.saw(version);
                    feed.snapshot(Version(version), std::mem::take(&mut content).seen());
                }
            }
            other => return Err(senseless(&other)),
        }
    }
}

fn readable(key: Key, raw: &Raw) -> Option<dyad_cluster::Record> {
    raw.decode(key).ok().map(|versioned| versioned.record)
}

/// What comes in parts.
#[derive(Default)]
pub(super) struct Content {
    pub(super) rows: Vec<(Key, Raw)>,
    bytes: usize,
}

impl Content {
    pub(super) fn add(&mut self, items: Vec<Item>) -> Result<(), StoreError> {
        for item in items {
            self.bytes += item.bytes();
            if self.bytes > CONTENT_BYTES_MAX {
                return Err(unavailable("it holds more records than a cluster can have"));
            }
            // Records of a kind that only newer software knows are not for us.
            if let Ok(row) = item.open() {
                self.rows.push(row);
            }
        }
        Ok(())
    }

    /// Reads all parts of a list.
    pub(super) fn receive(link: &mut Link) -> Result<(Self, Version), StoreError> {
        let mut content = Self::default();
        let end = Instant::now() + CONTENT_TIME;
        loop {
            if Instant::now() > end {
                return Err(unavailable("its records did not come in time"));
            }
            match link.receive(READ_TIME).map_err(unavailable)? {
                Answer::Items { items, last: false, .. } => content.add(items)?,
                Answer::Items { items, version, last: true } => {
                    content.add(items)?;
                    return Ok((content, Version(version)));
                }
                other => return Err(senseless(&other)),
            }
        }
    }

    fn seen(self) -> Vec<Seen> {
        let seen = |(key, raw): (Key, Raw)| Seen { key, version: raw.version, record: readable(key, &raw) };
        self.rows.into_iter().map(seen).collect()
    }
}
