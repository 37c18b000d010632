//! One connection at the arbiter: hello, then requests one after the other, or changes as they come.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use dyad_cluster::{Kind, STORED_BYTES_MAX, Store, StoreError, Version};

use super::hello::{Hello, REMOVED, Welcome};
use super::link::Link;
use super::protocol::{Answer, Item, LIST_BYTES, Request, Row, kind_of};
use super::server::{HELLO_TIME, Shared};
use crate::local::tables::{self, NotSet, Since};
use crate::row;

/// A connection on which nothing was asked for so long is closed: its client opens another when it needs one.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Without changes the follower hears so often that there are none.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Changes that are read from the file at a time.
const CHANGES_AT_ONCE: usize = 16;

/// For a whole list: while it is sent the file keeps all that changes meanwhile twice, so a client that reads a
/// little now and then must not take for ever.
pub(super) const CONTENT_TIME: Duration = Duration::from_secs(20);

pub(super) fn run(shared: &Shared, mut link: Link, number: u64) -> io::Result<()> {
    let hello: Hello = link.receive(HELLO_TIME)?;
    let version = match shared.store.database().and_then(tables::version) {
        Ok(version) => version,
        Err(error) => return link.send(&Welcome::Refused { reason: error.to_string() }),
    };
    let mut welcome = hello.answer(shared.store.identity(), version);
    if matches!(welcome, Welcome::Open { .. }) {
        let shown = link.shown()?;
        // In this order: a node that is removed right now is found by one of the two, here or where it is removed.
        if !shared.enter(number, shown.clone()) {
            let reason = "the arbiter serves as many connections as it can already".to_owned();
            welcome = Welcome::Refused { reason };
        } else {
            match shared.is_outcast(shown.as_ref()) {
                Ok(false) => {}
                Ok(true) => welcome = Welcome::Refused { reason: REMOVED.to_owned() },
                Err(error) => welcome = Welcome::Refused { reason: error.to_string() },
            }
        }
    }
    link.send(&welcome)?;
    if !matches!(welcome, Welcome::Open { .. }) {
        return Ok(());
    }
    while !shared.is_stopping() {
        let request = link.receive(IDLE_MAX)?;
        if !shared.is_welcome(number) {
            return link.send(&refused(REMOVED));
        }
        match request {
            Request::List { kind } => list(shared, &mut link, kind)?,
            Request::Watch { after } => return watch(shared, &mut link, number, after.map(Version)),
            request => link.send(&answer(shared, request))?,
        }
    }
    Ok(())
}

fn answer(shared: &Shared, request: Request) -> Answer {
    let database = match shared.store.database() {
        Ok(database) => database,
        Err(error) => return failed(&error),
    };
    match request {
        Request::Ping => match tables::version(database) {
            Ok(version) => Answer::At { version: version.0 },
            Err(error) => failed(&error),
        },
        Request::Get { key } => match row::key_of(&key).map(|key| tables::get(database, key)) {
            Some(Ok(found)) => Answer::Found { row: found.map(Row::from) },
            Some(Err(error)) => failed(&error),
            None => refused("there are no records of this kind in this arbiter's version"),
        },
        Request::Set { key, expected, record } => {
            let Some(key) = row::key_of(&key) else {
                return refused("there are no records of this kind in this arbiter's version");
            };
            if record.as_ref().is_some_and(|record| record.len() > STORED_BYTES_MAX) {
                return refused("the record is larger than a store keeps");
            }
            match shared.store.set_raw(key, expected.map(Version), record.as_deref()) {
                Ok(version) => {
                    if key.kind() == Kind::Node {
                        // Before the answer: from then on who was removed is gone.
                        shared.expel();
                    }
                    Answer::Set { version: version.0 }
                }
                Err(NotSet::Conflict(current)) => Answer::Conflict { current: current.map(Row::from) },
                Err(NotSet::Untried(error)) => failed(&error),
                Err(NotSet::Unknown(error)) => Answer::Unknown { reason: error.to_string() },
            }
        }
        Request::List { .. } | Request::Watch { .. } => refused("this request is answered by more than one message"),
    }
}

fn failed(error: &StoreError) -> Answer {
    Answer::Failed { reason: error.to_string() }
}

fn refused(reason: &str) -> Answer {
    Answer::Refused { reason: reason.to_owned() }
}

fn list(shared: &Shared, link: &mut Link, kind: u8) -> io::Result<()> {
    match kind_of(kind) {
        Some(_) => content(shared, link, kind_of(kind)).map(drop),
        None => link.send(&refused("there are no records of this kind in this arbiter's version")),
    }
}

/// Sends all records, of a kind if one is given, as they are at one moment; returns the version of that moment.
fn content(shared: &Shared, link: &mut Link, kind: Option<Kind>) -> io::Result<Option<Version>> {
    let end = Instant::now() + CONTENT_TIME;
    let (mut items, mut bytes, mut sent) = (Vec::new(), 0, Ok(()));
    let show = |key, raw| {
        let item = Item::new(key, raw);
        bytes += item.bytes();
        items.push(item);
        if bytes >= LIST_BYTES {
            bytes = 0;
            // The version is that of the moment, which the last part tells.
            sent = link.send(&Answer::Items { version: 0, items: std::mem::take(&mut items), last: false });
            if Instant::now() > end {
                sent = Err(io::ErrorKind::TimedOut.into());
            }
        }
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let shown = shared.store.database().and_then(|database| tables::each(database, kind, show));
    sent?;
    match shown {
        Ok(version) => {
            link.send(&Answer::Items { version: version.0, items, last: true })?;
            Ok(Some(version))
        }
        Err(error) => {
            link.send(&failed(&error))?;
            Ok(None)
        }
    }
}

/// Sends changes until the client is gone or the arbiter stops.
fn watch(shared: &Shared, link: &mut Link, number: u64, after: Option<Version>) -> io::Result<()> {
    let mut position = match after {
        Some(after) => after,
        None => match content(shared, link, None)? {
            Some(version) => version,
            None => return Ok(()),
        },
    };
    link.send(&Answer::At { version: position.0 })?;
    while !shared.is_stopping() && shared.is_welcome(number) {
        let changes = shared.store.database().and_then(|file| tables::since(file, position, CHANGES_AT_ONCE));
        match changes {
            Ok(Since::Changes(changes)) if changes.is_empty() => {
                shared.store.latest().wait(position, ALIVE_EVERY);
                link.send(&Answer::At { version: position.0 })?;
            }
            Ok(Since::Changes(changes)) => {
                for change in changes {
                    position = change.version;
                    link.send(&Answer::from(change))?;
                }
            }
            Ok(Since::Forgotten) => match content(shared, link, None)? {
                Some(version) => position = version,
                None => return Ok(()),
            },
            Err(error) => return link.send(&failed(&error)),
        }
    }
    Ok(())
}
