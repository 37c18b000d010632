//! Calls: at whichever member answers, within a bounded time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dyad_cluster::{DecodeError, Key, Kind, Listed, SetError, StoreError, Version, Versioned};
use dyad_units::StoreId;
use tokio::sync::Mutex;
use tonic::Status;

use super::config::Checked;
use super::keys::identity;
use super::member::{Found, Member, version};
use super::outcome::{Verdict, explain, judge, unavailable};
use super::proto::{KeyValue, RangeRequest, TxnRequest, TxnResponse};
use super::request::{self, first_page, next_page, one, ranges};
use crate::row::Raw;

/// For the answer to a compare-and-set. Where the members lose one of theirs meanwhile the answer may take long or
/// never come: it is unknown then, and whoever asks again finds out from those that are left.
const SET_TIME: Duration = Duration::from_millis(1500);
/// For a read or, before anything is sent, a compare-and-set: time for the members to agree after a loss.
const CALL_TIME: Duration = Duration::from_secs(4);
/// Between attempts at members that cannot answer now.
const PAUSE: Duration = Duration::from_millis(50);
/// After no member could be reached, calls fail at once for so long: they do not queue up.
const REST: Duration = Duration::from_millis(200);
/// Bound of a list: a hundred thousand records of usual size.
const CONTENT_BYTES_MAX: usize = 64 << 20;

/// What is known of etcd, and the connection that calls share.
pub(super) struct Calls {
    pub(super) config: Checked,
    /// None: any store, for who asks which one it is.
    wanted: Option<StoreId>,
    /// The newest version that any answer had.
    seen: AtomicU64,
    preferred: AtomicUsize,
    connections: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    member: Option<Member>,
    /// Until when none is tried, and why.
    away: Option<(Instant, StoreError)>,
}

/// A record as it stands in etcd.
pub(super) type Entry = (Key, Raw);

impl Calls {
    pub(super) fn new(config: Checked, wanted: Option<StoreId>, seen: Version) -> Self {
        Self {
            config,
            wanted,
            seen: AtomicU64::new(seen.0),
            preferred: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            current: Mutex::default(),
        }
    }

    pub(super) fn saw(&self, version: Version) {
        self.seen.fetch_max(version.0, Ordering::AcqRel);
    }

    /// The identity; if there is none and `fresh` is given, that of a store made now.
    pub(super) async fn found(&self, fresh: Option<StoreId>) -> Result<Option<StoreId>, StoreError> {
        let (mut member, _) = self.connect().await?;
        match (member.found, fresh) {
            (Some(found), _) => Ok(Some(found.identity)),
            (None, None) => Ok(None),
            (None, Some(fresh)) => {
                let create = request::create(self.config.keys.store(), fresh);
                member.txn(create, SET_TIME).await.map_err(|status| explain(&status))?;
                let (member, _) = self.connect().await?;
                Ok(member.found.map(|found| found.identity))
            }
        }
    }

    /// A new connection, to whichever member answers and leads to our store.
    pub(super) async fn connect(&self) -> Result<(Member, Option<Found>), StoreError> {
        let count = self.config.endpoints.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut worst = None;
        for at in (0..count).map(|add| (first + add) % count) {
            // Read before the member is asked: what is answered meanwhile elsewhere may be newer.
            let seen = Version(self.seen.load(Ordering::Acquire));
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            let reached = Member::connect(&self.config, at, number).await;
            let checked = reached.and_then(|member| match self.wanted {
                Some(wanted) => member.check(wanted, seen).map(|found| (member, Some(found))),
                None => Ok((member, None)),
            });
            match checked {
                Ok((member, found)) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    found.inspect(|found| self.saw(found.version));
                    return Ok((member, found));
                }
                // That another store stands there says more than that somebody does not answer.
                Err(error @ (StoreError::Other { .. } | StoreError::WentBack { .. })) => worst = Some(error),
                Err(error) => worst = worst.or(Some(error)),
            }
        }
        Err(worst.unwrap_or_else(|| unavailable("it has no endpoint")))
    }

    /// The connection that calls share, and the seed of our store's identity.
    async fn member(&self) -> Result<(Member, StoreId), StoreError> {
        // Who else waits here wants the same connection.
        let mut current = self.current.lock().await;
        if let Some(member) = &current.member
            && let Some(found) = member.found
        {
            return Ok((member.clone(), found.seed));
        }
        if let Some((until, error)) = &current.away
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok((member, Some(found))) => {
                *current = Current { member: Some(member.clone()), away: None };
                Ok((member, found.seed))
            }
            Ok((_, None)) => Err(unavailable("it was not said which store is wanted")),
            Err(error) => {
                current.away = Some((Instant::now() + REST, error.clone()));
                Err(error)
            }
        }
    }

    /// The connection is of no more use; the next one is tried at another member first.
    async fn leave(&self, member: &Member) {
        let mut current = self.current.lock().await;
        if current.member.as_ref().is_some_and(|shared| shared.number == member.number) {
            current.member = None;
            self.turn();
        }
    }

    /// The next connection is tried at another member first.
    pub(super) fn turn(&self) {
        let next = (self.preferred.load(Ordering::Relaxed) + 1) % self.config.endpoints.len();
        self.preferred.store(next, Ordering::Relaxed);
    }

    /// A transaction that only reads, at whichever member answers.
    async fn read(&self, range: RangeRequest) -> Result<(TxnResponse, Member), StoreError> {
        let end = Instant::now() + CALL_TIME;
        loop {
            let (mut member, seed) = self.member().await?;
            let txn = request::read(self.config.keys.store(), seed, range.clone());
            match member.txn(txn, super::member::READ_TIME).await {
                Ok(answer) if answer.succeeded => return Ok((answer, member)),
                Ok(answer) => {
                    self.leave(&member).await;
                    return Err(self.other(answer));
                }
                Err(status) => {
                    self.leave(&member).await;
                    if judge(&status) == Verdict::Refused || Instant::now() + PAUSE >= end {
                        return Err(explain(&status));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What was found in the place of our store.
    fn other(&self, answer: TxnResponse) -> StoreError {
        let cluster = answer.header.unwrap_or_default().cluster_id;
        let found = ranges(answer).next().and_then(|range| range.kvs.into_iter().next());
        match (self.wanted, found.and_then(|entry| request::seed(&entry.value))) {
            (Some(expected), Some(seed)) => StoreError::Other { expected, found: identity(seed, cluster) },
            _ => unavailable("the store was deleted from etcd"),
        }
    }

    /// The store's version now.
    pub(super) async fn version(&self) -> Result<Version, StoreError> {
        let (answer, _) = self.read(one(self.config.keys.store())).await?;
        Ok(self.revision(&answer))
    }

    fn revision(&self, answer: &TxnResponse) -> Version {
        let version = version(answer.header.map_or(0, |header| header.revision));
        self.saw(version);
        version
    }

    pub(super) async fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        let (answer, _) = self.read(one(self.config.keys.record(key))).await?;
        self.revision(&answer);
        let found = ranges(answer).next().and_then(|range| range.kvs.into_iter().next());
        found.map(|entry| decode(key, entry)).transpose()
    }

    pub(super) async fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        let (entries, _) = self.content(&self.config.keys.kind(kind)).await?;
        let mut listed = Listed::default();
        entries.into_iter().for_each(|(key, raw)| listed.add(key, raw.decode(key)));
        Ok(listed)
    }

    /// All records that start with `prefix`, as they are at one version.
    pub(super) async fn content(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Version), StoreError> {
        let (answer, mut member) = self.read(first_page(prefix)).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let at = self.revision(&answer);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut page = ranges(answer).next().unwrap_or_default();
        loop {
            let last = page.kvs.last().cloned();
            for entry in page.kvs {
                bytes += entry.key.len() + entry.value.len();
                // Other keys below the prefix are not ours.
                if let Some(key) = self.config.keys.parse(&entry.key) {
                    entries.push((key, raw(entry)));
                }
            }
            if bytes > CONTENT_BYTES_MAX {
                return Err(unavailable("it holds more records than a cluster can have"));
            }
            match last {
                Some(last) if page.more => {
                    let next = member.range(next_page(prefix, &last, revision)).await;
                    page = match next {
                        Ok(next) => next,
                        Err(status) => {
                            self.leave(&member).await;
                            return Err(explain(&status));
                        }
                    };
                }
                _ => return Ok((entries, at)),
            }
        }
    }

    /// Sends the change once, or again after proof that it was not carried out (M7).
    pub(super) async fn set(
        &self,
        key: Key,
        expected: Option<Version>,
        record: Option<Vec<u8>>,
    ) -> Result<Version, SetError> {
        let end = Instant::now() + CALL_TIME;
        loop {
            let (mut member, seed) = self.member().await.map_err(SetError::Store)?;
            let name = self.config.keys.record(key);
            let txn = request::set(self.config.keys.store(), seed, name, expected, record.clone());
            match self.attempt(&mut member, txn).await {
                Ok(answer) if answer.succeeded => return Ok(self.revision(&answer)),
                Ok(answer) => return Err(self.conflict(key, answer)),
                Err((Verdict::Unknown, status)) => return Err(SetError::Unknown(explain(&status))),
                Err((Verdict::Refused, status)) => return Err(SetError::Store(explain(&status))),
                Err((Verdict::Elsewhere, status)) if Instant::now() + PAUSE >= end => {
                    return Err(SetError::Store(explain(&status)));
                }
                Err((Verdict::Elsewhere, _)) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn attempt(&self, member: &mut Member, txn: TxnRequest) -> Result<TxnResponse, (Verdict, Status)> {
        match member.txn(txn, SET_TIME).await {
            Ok(answer) => Ok(answer),
            Err(status) => {
                self.leave(member).await;
                Err((judge(&status), status))
            }
        }
    }

    /// Why a change was not made: another store, or another version.
    fn conflict(&self, key: Key, answer: TxnResponse) -> SetError {
        let mut found = ranges(answer.clone());
        let store = found.next().and_then(|range| range.kvs.into_iter().next());
        let current = found.next().and_then(|range| range.kvs.into_iter().next());
        let cluster = answer.header.unwrap_or_default().cluster_id;
        let store = store.and_then(|entry| request::seed(&entry.value)).map(|seed| identity(seed, cluster));
        if store.is_none() || store != self.wanted {
            return SetError::Store(self.other(answer));
        }
        self.revision(&answer);
        match current.map(|entry| decode(key, entry)).transpose() {
            Ok(current) => SetError::Conflict { current: current.map(Box::new) },
            Err(error) => SetError::Store(error),
        }
    }
}

pub(super) fn raw(entry: KeyValue) -> Raw {
    Raw { version: version(entry.mod_revision), record: entry.value }
}

fn decode(key: Key, entry: KeyValue) -> Result<Versioned, StoreError> {
    raw(entry).decode(key).map_err(|source: DecodeError| StoreError::Record { key, source })
}
