//! What an error of etcd says about the request: was it carried out?

use std::error::Error;
use std::fmt;

use dyad_cluster::StoreError;
use tonic::{Code, Status};

/// What became of a request that ended in an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It was not carried out; another connection may do better.
    Elsewhere,
    /// It was not carried out, and will not be by any member.
    Refused,
    /// Nobody knows (M7).
    Unknown,
}

/// A connection was lost and does not come back; what is asked on it is not sent.
#[derive(Debug)]
pub(super) struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection to the member of etcd was lost")
    }
}

impl Error for Lost {}

/// Said before the request is proposed to the members, so it was not carried out.
const NOT_PROPOSED: [&str; 2] = ["etcdserver: no leader", "etcdserver: too many requests"];

pub(super) fn judge(status: &Status) -> Verdict {
    if is_lost(status) || NOT_PROPOSED.contains(&status.message()) {
        return Verdict::Elsewhere;
    }
    match status.code() {
        // A token is known to a member until it restarts or has not seen it for minutes.
        Code::Unauthenticated => Verdict::Elsewhere,
        // So does one that is older than the last change of users.
        Code::InvalidArgument if status.message().contains("auth") => Verdict::Elsewhere,
        Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition => Verdict::Refused,
        // "database space exceeded" too: the change that crosses the quota is carried out and answered with it.
        _ => Verdict::Unknown,
    }
}

fn is_lost(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<Lost>() {
            return true;
        }
        source = error.source();
    }
    false
}

pub(super) fn unavailable(reason: impl ToString) -> StoreError {
    StoreError::Unavailable { reason: reason.to_string() }
}

/// The error in words, its causes included: a transport's error alone says nothing.
pub(super) fn explain(status: &Status) -> StoreError {
    let mut reason = status.message().to_owned();
    if reason.is_empty() {
        reason = status.code().to_string();
    }
    causes(&mut reason, status.source());
    unavailable(format!("etcd: {reason}"))
}

/// The causes of an error, after it.
pub(super) fn causes(reason: &mut String, mut source: Option<&(dyn Error + 'static)>) {
    while let Some(error) = source {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        source = error.source();
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::{Verdict, judge};

    /// M7: only what proves that nothing happened is taken for it.
    #[test]
    fn an_error_that_does_not_say_that_nothing_happened_leaves_it_unknown() {
        let verdict = |code, message: &str| judge(&Status::new(code, message));
        for (code, message) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "transport error"),
            (Code::DeadlineExceeded, ""),
            (Code::Cancelled, "context canceled"),
            (Code::Internal, "h2 protocol error"),
            (Code::Unknown, "etcdserver: server stopped"),
            (Code::ResourceExhausted, "the answer is too large"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        ] {
            assert_eq!(verdict(code, message), Verdict::Unknown, "{message}");
        }
        assert_eq!(verdict(Code::Unavailable, "etcdserver: no leader"), Verdict::Elsewhere);
        assert_eq!(verdict(Code::Unauthenticated, "etcdserver: invalid auth token"), Verdict::Elsewhere);
        assert_eq!(verdict(Code::PermissionDenied, "etcdserver: permission denied"), Verdict::Refused);
    }
}
