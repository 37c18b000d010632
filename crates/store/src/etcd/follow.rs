//! Follows the changes, over whatever happens to members and connections.

use std::sync::Arc;
use std::time::Duration;

use dyad_cluster::{StoreError, Version};
use tokio::time::{MissedTickBehavior, interval};

use super::calls::{Calls, raw};
use super::member::version;
use super::outcome::{explain, unavailable};
use super::proto::event::EventType;
use super::proto::{Event, WatchResponse};
use super::request::one;
use crate::feed::{Feed, Seen};
use crate::row::Raw;

/// The member that is followed has to prove so often that it belongs to the others: one that is cut off, or stopped,
/// would be silent without an error.
const PROVE_EVERY: Duration = Duration::from_secs(2);
/// Pauses between attempts: short at first, for a member's end; when all are gone, nothing is won by hurry.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Until the runtime ends.
pub(super) async fn run(calls: Arc<Calls>, feed: Arc<Feed>) {
    let mut pause = PAUSE_MIN;
    loop {
        let before = feed.position();
        let Err(error) = follow(&calls, &feed).await;
        feed.set_fault(Some(error.to_string()));
        calls.turn();
        pause = if feed.position() > before { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tokio::time::sleep(pause).await;
    }
}

/// Never returns well.
async fn follow(calls: &Calls, feed: &Feed) -> Result<std::convert::Infallible, StoreError> {
    let (mut member, _) = calls.connect().await?;
    let prefix = calls.config.keys.all();
    let position = match feed.position() {
        Some(position) => position,
        None => snapshot(calls, feed).await?,
    };
    let start = i64::try_from(position.0).unwrap_or(i64::MAX - 1) + 1;
    let mut changes = member.watch(&prefix, start).await.map_err(|status| explain(&status))?;
    let mut prove = interval(PROVE_EVERY);
    prove.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            news = changes.message() => match news.map_err(|status| explain(&status))? {
                Some(news) if news.canceled && news.compact_revision != 0 => {
                    // What came since is forgotten; what is there now is not.
                    snapshot(calls, feed).await?;
                    return Err(unavailable("etcd forgot the changes since the last contact"));
                }
                Some(news) if news.canceled => return Err(unavailable(format!("etcd: {}", news.cancel_reason))),
                Some(news) => {
                    if news.created {
                        feed.set_fault(None);
                    }
                    tell(calls, feed, news);
                }
                None => return Err(unavailable("the member of etcd ended the stream of changes")),
            },
            _ = prove.tick() => {
                member.range(one(calls.config.keys.store())).await.map_err(|status| explain(&status))?;
            }
        }
    }
}

/// Gives the feed everything that is there now.
async fn snapshot(calls: &Calls, feed: &Feed) -> Result<Version, StoreError> {
    let (entries, version) = calls.content(&calls.config.keys.all()).await?;
    let seen = |(key, raw): (_, Raw)| Seen { key, version: raw.version, record: record(key, &raw) };
    feed.snapshot(version, entries.into_iter().map(seen).collect());
    Ok(version)
}

fn record(key: dyad_cluster::Key, raw: &Raw) -> Option<dyad_cluster::Record> {
    raw.decode(key).ok().map(|versioned| versioned.record)
}

fn tell(calls: &Calls, feed: &Feed, news: WatchResponse) {
    let revision = news.header.map_or(0, |header| header.revision);
    let last = news.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
    for event in news.events {
        tell_one(calls, feed, event);
    }
    // A fragment may end in the middle of a revision. An answer without events says how far all is told, but the
    // first one only how far the store is.
    let complete = match last {
        Some(last) if news.fragment => last - 1,
        Some(last) => last,
        None if news.created => return,
        None => revision,
    };
    calls.saw(version(complete));
    feed.advance(version(complete));
}

fn tell_one(calls: &Calls, feed: &Feed, event: Event) {
    let is_deleted = event.r#type() == EventType::Delete;
    let Some(entry) = event.kv else { return };
    // Other keys below the prefix are not ours.
    let Some(key) = calls.config.keys.parse(&entry.key) else { return };
    let raw = raw(entry);
    let now = if is_deleted { None } else { Some(record(key, &raw)) };
    feed.change(key, raw.version, now);
}
