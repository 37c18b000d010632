//! A client's calls: a few connections, each with one call at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dyad_cluster::{StoreError, Version};
use dyad_units::StoreId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::hello::{Hello, Welcome};
use super::link::Link;
use super::protocol::{Answer, Request, unavailable};

/// To reach an address, and again for TLS: a tie-breaker answers in a fraction of it or is not there.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// For the answer to a hello, a ping or a read: no disk is waited for.
pub(super) const READ_TIME: Duration = Duration::from_secs(2);
/// For the answer to a compare-and-set, which waits for the arbiter's disk.
pub(super) const SET_TIME: Duration = Duration::from_secs(3);
/// Calls at a time; more wait.
const CALLS_MAX: usize = 4;
/// A call that found no connection free for so long gives up: all of them wait for an arbiter that does not answer.
const FREE_TIME: Duration = Duration::from_secs(5);
/// A connection that rested longer is proved by a ping before a compare-and-set goes out on it: one that was lost
/// unnoticed would make the outcome unknown.
const PROVE_AFTER: Duration = Duration::from_secs(1);
/// After the arbiter could not be reached, calls fail at once for so long: they do not queue up.
const REST: Duration = Duration::from_millis(200);

/// How the arbiter is reached, and what was seen of it.
pub(super) struct Dialer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// None: any store, for who asks which one it is.
    pub(super) store: Option<StoreId>,
    /// The newest version that any answer had.
    pub(super) seen: AtomicU64,
    /// The address that worked last.
    preferred: AtomicUsize,
    /// It said last that this node was removed.
    pub(super) is_removed: AtomicBool,
}

impl Dialer {
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        store: Option<StoreId>,
        seen: Version,
    ) -> Self {
        let (seen, preferred) = (AtomicU64::new(seen.0), AtomicUsize::new(0));
        Self { addresses, tls, store, seen, preferred, is_removed: AtomicBool::new(false) }
    }

    pub(super) fn saw(&self, version: u64) {
        self.seen.fetch_max(version, Ordering::AcqRel);
    }

    /// A connection to the arbiter, at whichever address it answers, and which store it is.
    pub(super) fn connect(&self) -> Result<(Link, StoreId), StoreError> {
        let count = self.addresses.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut worst = None;
        for at in (0..count).map(|add| (first + add) % count) {
            match self.connect_at(self.addresses[at]) {
                Ok(link) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(link);
                }
                // That another store stands there says more than that somebody does not answer.
                Err(error @ (StoreError::Other { .. } | StoreError::WentBack { .. })) => worst = Some(error),
                Err(error) => worst = worst.or(Some(error)),
            }
        }
        Err(worst.unwrap_or_else(|| unavailable("it has no address")))
    }

    fn connect_at(&self, address: SocketAddr) -> Result<(Link, StoreId), StoreError> {
        // Read before the hello goes out: what is answered meanwhile on another connection may be newer.
        let seen = Version(self.seen.load(Ordering::Acquire));
        let reached = || -> std::io::Result<(Link, Welcome)> {
            let mut link = Link::connect(address, self.tls.as_ref(), CONNECT_TIME)?;
            link.send(&Hello::new(self.store))?;
            let welcome = link.receive(READ_TIME)?;
            Ok((link, welcome))
        };
        let (link, welcome) = reached().map_err(|error| unavailable(format!("{address}: {error}")))?;
        self.is_removed.store(welcome.is_removal(), Ordering::Release);
        let (store, version) = welcome.check(self.store, seen)?;
        self.saw(version.0);
        Ok((link, store))
    }

    /// The next connection is tried at another address first.
    pub(super) fn turn(&self) {
        let next = (self.preferred.load(Ordering::Relaxed) + 1) % self.addresses.len().max(1);
        self.preferred.store(next, Ordering::Relaxed);
    }
}

/// The connections of the calls.
pub(super) struct Calls {
    pub(super) dialer: Arc<Dialer>,
    inner: Mutex<Inner>,
    freed: Condvar,
}

#[derive(Default)]
struct Inner {
    resting: Vec<(Link, Instant)>,
    busy: usize,
    /// Until when it is not tried, and why.
    away: Option<(Instant, StoreError)>,
}

/// What a call needs to know of a connection before it uses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// Not closed as far as this side knows; the call can be repeated.
    Open,
    /// Lately heard of.
    Alive,
}

impl Calls {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, inner: Mutex::default(), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that may be repeated: `talk` asks and reads all answers.
    pub(super) fn read<T>(&self, talk: impl Fn(&mut Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let turn = self.take_turn()?;
        if let Some(mut link) = self.rested(Proof::Open)
            && let Ok(found) = talk(&mut link)
        {
            turn.give_back(link);
            return Ok(found);
        }
        let mut link = self.connect()?;
        let found = talk(&mut link);
        match &found {
            Ok(_) => turn.give_back(link),
            Err(_) => self.dialer.turn(),
        }
        found
    }

    /// A call that must not be repeated. The outer error: nothing was sent; the inner: nobody knows.
    pub(super) fn set(&self, request: &Request) -> Result<Result<Answer, StoreError>, StoreError> {
        let turn = self.take_turn()?;
        let mut link = match self.rested(Proof::Alive) {
            Some(link) => link,
            None => self.connect()?,
        };
        match link.send(request).and_then(|()| link.receive(SET_TIME)) {
            Ok(answer) => {
                turn.give_back(link);
                Ok(Ok(answer))
            }
            // The answer may come yet, so the connection is of no more use.
            Err(error) => {
                self.dialer.turn();
                Ok(Err(unavailable(error)))
            }
        }
    }

    fn take_turn(&self) -> Result<Turn<'_>, StoreError> {
        let waited = self.freed.wait_timeout_while(self.lock(), FREE_TIME, |inner| inner.busy >= CALLS_MAX);
        let (mut inner, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(unavailable("too many calls wait for its answers"));
        }
        inner.busy += 1;
        Ok(Turn { calls: self })
    }

    /// A connection from before that is of use.
    fn rested(&self, proof: Proof) -> Option<Link> {
        loop {
            let (mut link, since) = self.lock().resting.pop()?;
            if link.is_stale() {
                continue;
            }
            if proof == Proof::Open || since.elapsed() < PROVE_AFTER || ping(&mut link).is_ok() {
                return Some(link);
            }
        }
    }

    fn connect(&self) -> Result<Link, StoreError> {
        if let Some((until, error)) = &self.lock().away
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.dialer.connect() {
            Ok((link, _)) => {
                self.lock().away = None;
                Ok(link)
            }
            Err(error) => {
                self.lock().away = Some((Instant::now() + REST, error.clone()));
                Err(error)
            }
        }
    }
}

/// The right to have a call under way.
struct Turn<'a> {
    calls: &'a Calls,
}

impl Turn<'_> {
    /// The connection is whole: the next call may have it.
    fn give_back(&self, link: Link) {
        self.calls.lock().resting.push((link, Instant::now()));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.calls.lock().busy -= 1;
        self.calls.freed.notify_one();
    }
}

/// Asks for the store's version.
pub(super) fn ping(link: &mut Link) -> Result<Version, StoreError> {
    match ask(link, &Request::Ping)? {
        Answer::At { version } => Ok(Version(version)),
        other => Err(senseless(&other)),
    }
}

/// One question that may be repeated, and its answer.
pub(super) fn ask(link: &mut Link, request: &Request) -> Result<Answer, StoreError> {
    link.send(request).and_then(|()| link.receive(READ_TIME)).map_err(unavailable)
}

/// An answer that is none to what was asked.
pub(super) fn senseless(answer: &Answer) -> StoreError {
    match answer {
        Answer::Failed { reason } | Answer::Unknown { reason } | Answer::Refused { reason } => unavailable(reason),
        _ => unavailable("the arbiter's answer makes no sense"),
    }
}
